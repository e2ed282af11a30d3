"""How arrays are distributed over devices, and arrays made to be distributed alike."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._compat import is_traced


class Struct(NamedTuple):
    """The type of an array, with how it is distributed over devices.

    **Attributes:**

    - `shape`, `dtype`.
    - `sharding`: how explicit mesh axes split them; `None` where there are no such axes.
    - `varying`: the axes of a `jax.shard_map` over which they vary.
    """

    shape: tuple[int, ...]
    dtype: Any
    sharding: Any
    varying: frozenset[str]


def varying(x: Any) -> frozenset[str]:
    """The axes of a `jax.shard_map` over which an array varies, from device to device."""
    return frozenset(jax.typeof(x).manual_axis_type.varying)


def struct_of(x: Any) -> Struct:
    """The type of an array."""
    aval = jax.typeof(x)
    is_explicit = jax.sharding.AxisType.Explicit in aval.sharding.mesh.axis_types
    # Outside a trace only the array itself knows its devices, not its type.
    sharding = aval.sharding if is_traced(x) else getattr(x, "sharding", None)
    return Struct(
        tuple(aval.shape), aval.dtype, sharding if is_explicit else None, varying(x)
    )


def of_struct(x: Array, struct: Struct) -> Array:
    """An array with the shape and dtype of a type, distributed over devices as it says."""
    if struct.sharding is not None and struct_of(x).sharding != struct.sharding:
        x = jax.sharding.reshard(x, struct.sharding)
    missing = tuple(sorted(struct.varying - varying(x)))
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def zeros(struct: Struct) -> Array:
    """Zeros of a type."""
    zero = jnp.zeros(struct.shape, struct.dtype, device=struct.sharding)
    return of_struct(zero, struct)


def zeros_like(x: Array) -> Array:
    """Zeros of an array's type; since 0.12 jax's own lose how it is distributed."""
    return zeros(struct_of(x))


def is_split(x: Any) -> bool:
    """Whether an array is split over devices along explicit mesh axes, so that operations
    must not merge its axes."""
    return any(part is not None for part in jax.typeof(x).sharding.spec)


def add_parts(a: Array, b: Array) -> Array:
    """The sum of two numbers that may be split into one part per device. A number that is
    the same on all devices is divided among them first."""
    return _divided(a, b) + _divided(b, a)


def _divided(x: Array, other: Array) -> Array:
    missing = tuple(varying(other) - varying(x))
    return x / math.prod(map(jax.lax.axis_size, missing)) if missing else x


def sum_of_parts(x: Array, apart: frozenset[str]) -> Array:
    """The sum of a number's parts over the devices. Along the axes `apart` each device
    keeps its own number."""
    axes = tuple(sorted(varying(x) - apart))
    return jax.lax.psum(x, axes) if axes else x


def barrier(tree: PyTree) -> PyTree:
    """`jax.lax.optimization_barrier` on groups of arrays that vary over the same axes; on
    all at once, jax would make each vary over the axes of all."""
    leaves, treedef = jax.tree.flatten(tree)
    groups: dict[frozenset[str], list[int]] = {}
    for k, leaf in enumerate(leaves):
        groups.setdefault(varying(leaf), []).append(k)
    for places in groups.values():
        held = jax.lax.optimization_barrier([leaves[k] for k in places])
        for k, leaf in zip(places, held):
            leaves[k] = leaf
    return jax.tree.unflatten(treedef, leaves)
