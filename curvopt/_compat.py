"""What differs between jax versions, and nothing else.

A jaxpr is walked, never rebuilt: equations are bound again with the parameters
they carry, so that no parameter needs to be understood here.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.extend import source_info_util
from jax.interpreters import partial_eval
from jaxtyping import Array, ArrayLike, PyTree


# `jit` was `pjit` before jax 0.7. Both, and the older call primitives, only group
# equations: inlining them changes no derivative.
_INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}

# `custom_vjp_call_jaxpr` is what jax before 0.7 called it.
_CUSTOM_VJP = frozenset({"custom_vjp_call", "custom_vjp_call_jaxpr"})


def open_jaxpr(jaxpr: Any) -> tuple[Any, list[Any]]:
    """The jaxpr without its constants, and the constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def is_literal(atom: Any) -> bool:
    """Whether an operand of an equation is a constant written in place."""
    return isinstance(atom, jex.Literal)


def is_traced(x: Any) -> bool:
    """Whether a value is not known yet, inside a transformation."""
    return isinstance(x, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]


def inlined(eqn: Any) -> Any | None:
    """The jaxpr of an equation that only groups others (`jit`), else `None`."""
    name = _INLINED.get(eqn.primitive.name)
    return None if name is None else eqn.params[name]


def stops_gradient(eqn: Any) -> bool:
    """Whether an equation's outputs are to be taken as constants."""
    return eqn.primitive.name == "stop_gradient"


_PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})


def bind(
    eqn: Any, *operands: ArrayLike, product_dtype: Any = None, swapped: bool = False
) -> Sequence[Array]:
    """Evaluate one equation; its outputs always as a sequence.

    **Arguments:**

    - `product_dtype`: to what the operands of a matrix product or a convolution are
        rounded; their products are added up in the precision of the output.
    - `swapped`: take a matrix product's factors the other way round.
    """
    bound = eqn.primitive.get_bind_params(eqn.params)
    # A pair before jax 0.9.2, a dictionary since.
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)
    if eqn.primitive.name.startswith("custom_"):
        # The user's own rules see these, and expect what they see under `jax.grad`.
        operands = tuple(map(as_array, operands))
    if product_dtype is not None and is_product(eqn):
        out_dtype = eqn.outvars[0].aval.dtype
        params = params | {"precision": None, "preferred_element_type": out_dtype}
        operands = tuple(jnp.asarray(x).astype(product_dtype) for x in operands)
    if swapped:
        operands = operands[::-1]
        contracted, batch = params["dimension_numbers"]
        params = params | {"dimension_numbers": (contracted[::-1], batch[::-1])}
        if isinstance(params["precision"], tuple):
            params["precision"] = params["precision"][::-1]
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*subfuns, *operands, **params)
    # Some primitives return a pytree of their own kind.
    return [as_array(x) for x in (out if eqn.primitive.multiple_results else [out])]


def custom_jvp_body(eqn: Any) -> Any | None:
    """The jaxpr of the function that a `jax.custom_jvp` evaluates; `None` for any other
    equation."""
    return eqn.params["call_jaxpr"] if eqn.primitive.name == "custom_jvp_call" else None


def as_array(x: Any) -> Array:
    """What jax made of a literal, as an array: it has types of its own for these."""
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


class Struct(NamedTuple):
    """What arrays of one type have in common.

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
    # Outside a trace a type does not know its devices; the array does.
    sharding = aval.sharding if is_traced(x) else getattr(x, "sharding", None)
    return Struct(
        tuple(aval.shape), aval.dtype, sharding if is_explicit else None, varying(x)
    )


def of_struct(x: Array, struct: Struct) -> Array:
    """An array of a type's shape and dtype, spread over devices as the type is."""
    if struct.sharding is not None and struct_of(x).sharding != struct.sharding:
        x = jax.sharding.reshard(x, struct.sharding)
    missing = tuple(sorted(struct.varying - varying(x)))
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def zeros(struct: Struct) -> Array:
    """Zeros of a type."""
    zero = jnp.zeros(struct.shape, struct.dtype, device=struct.sharding)
    return of_struct(zero, struct)


def zeros_like(x: Array) -> Array:
    """Zeros of an array's type; jax's own forget since 0.12 how it is spread."""
    return zeros(struct_of(x))


def is_split(x: Any) -> bool:
    """Whether an array is split over devices along explicit mesh axes, so that only what
    keeps its axes apart may be done with it."""
    return any(part is not None for part in jax.typeof(x).sharding.spec)


def add_parts(a: Array, b: Array) -> Array:
    """The sum of two numbers which, where they vary over devices, are each device's part of
    one: what all devices have in common is divided among them."""

    def divided(x: Array, other: Array) -> Array:
        missing = tuple(varying(other) - varying(x))
        return x / math.prod(map(jax.lax.axis_size, missing)) if missing else x

    return divided(a, b) + divided(b, a)


def sum_of_parts(x: Array, apart: frozenset[str]) -> Array:
    """The number whose parts the devices have. Along the axes `apart` each device has a
    number of its own."""
    axes = tuple(sorted(varying(x) - apart))
    return jax.lax.psum(x, axes) if axes else x


def barrier(tree: PyTree) -> PyTree:
    """`jax.lax.optimization_barrier`, which would make all alike in the axes over which
    they vary."""
    leaves, treedef = jax.tree.flatten(tree)
    groups: dict[frozenset[str], list[int]] = {}
    for k, leaf in enumerate(leaves):
        groups.setdefault(varying(leaf), []).append(k)
    for places in groups.values():
        held = jax.lax.optimization_barrier([leaves[k] for k in places])
        for k, leaf in zip(places, held):
            leaves[k] = leaf
    return jax.tree.unflatten(treedef, leaves)


class ScanParts(NamedTuple):
    """A `scan`: its body, whose operands are constants, carries and slices, in order."""

    jaxpr: Any
    num_consts: int
    num_carry: int
    length: int
    reverse: bool
    unroll: Any


def scan_parts(eqn: Any) -> ScanParts | None:
    """The parts of a `scan`; `None` for any other equation."""
    if eqn.primitive.name != "scan":
        return None
    params = eqn.params
    if "num_consts" in params:
        num_consts, num_carry = params["num_consts"], params["num_carry"]
    else:  # since jax 0.11
        consts, carry, _ = params["ft_in"].unpack()
        num_consts, num_carry = len(consts), len(carry)
    return ScanParts(
        params["jaxpr"],
        num_consts,
        num_carry,
        params["length"],
        params["reverse"],
        params["unroll"],
    )


def branches(eqn: Any) -> tuple[Any, ...] | None:
    """The jaxprs of a `cond`'s branches; `None` for any other equation."""
    return eqn.params["branches"] if eqn.primitive.name == "cond" else None


def without_dead_code(jaxpr: Any) -> Any:
    """A jaxpr without what none of its outputs needs, inside its equations as well."""
    own, _ = open_jaxpr(jaxpr)
    needed, _ = partial_eval.dce_jaxpr(own, [True] * len(own.outvars))
    return needed


def is_remat(eqn: Any) -> bool:
    """Whether an equation is a `jax.checkpoint`."""
    return eqn.primitive.name in {"checkpoint", "remat", "remat2"}


def is_product(eqn: Any) -> bool:
    """Whether an equation is a matrix product or a convolution."""
    return eqn.primitive.name in _PRODUCTS


def swapping(eqn: Any) -> tuple[int, ...] | None:
    """The permutation of its output that swapping the factors of a matrix product makes;
    `None` if they cannot be swapped."""
    if eqn.primitive.name != "dot_general" or eqn.params.get("out_sharding") is not None:
        return None
    (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
    ndim = eqn.outvars[0].aval.ndim
    end_of_first = eqn.invars[0].aval.ndim - len(contracted)
    first, second = range(len(batch), end_of_first), range(end_of_first, ndim)
    return (*range(len(batch)), *second, *first)


def _is_ref(atom: Any) -> bool:
    return hasattr(getattr(atom, "aval", None), "inner_aval")


def on_refs(jaxpr: Any) -> Iterator[Any]:
    """The equations of a jaxpr that make, read or write a `jax.Ref`, also inside others;
    not the body of a kernel, which has refs of its own for the arrays that it is given."""
    for eqn in open_jaxpr(jaxpr)[0].eqns:
        if any(map(_is_ref, (*eqn.invars, *eqn.outvars))):
            yield eqn
        for inner in inner_jaxprs(eqn):
            if not any(map(_is_ref, inner.invars)):
                yield from on_refs(inner)


def makes_ref(eqn: Any) -> bool:
    """Whether an equation makes a `jax.Ref`."""
    return any(map(_is_ref, eqn.outvars))


def ref_type(eqn: Any) -> str:
    """The type of the first `jax.Ref` among an equation's operands and outputs."""
    return str(next(v.aval for v in (*eqn.outvars, *eqn.invars) if _is_ref(v)))


def has_highest_precision(eqn: Any) -> bool:
    """Whether a product is asked for in full precision on every backend."""
    precision = eqn.params.get("precision")
    pair = precision if isinstance(precision, tuple) else (precision,)
    return all(p == jax.lax.Precision.HIGHEST for p in pair)


def source(eqn: Any) -> str:
    """The line of the user's code that an equation comes from; empty if it does not
    know, as inside jax's own functions."""
    return source_info_util.summarize(eqn.source_info)


def _jaxprs_in(param: Any) -> Iterator[Any]:
    if hasattr(getattr(param, "jaxpr", param), "eqns"):
        yield getattr(param, "jaxpr", param)
    elif isinstance(param, (tuple, list)):
        for item in param:
            yield from _jaxprs_in(item)


def inner_jaxprs(eqn: Any) -> Iterator[Any]:
    """The jaxprs, without their constants, among the parameters of an equation."""
    for param in eqn.params.values():
        yield from _jaxprs_in(param)


def _contains(eqn: Any, wanted: Callable[[Any], bool]) -> bool:
    inner = (own for jaxpr in inner_jaxprs(eqn) for own in jaxpr.eqns)
    return wanted(eqn) or any(_contains(own, wanted) for own in inner)


def contains_custom_vjp(eqn: Any) -> bool:
    """Whether an equation is, or has somewhere inside it, a `jax.custom_vjp`."""
    return _contains(eqn, lambda own: own.primitive.name in _CUSTOM_VJP)


def contains_while(eqn: Any) -> bool:
    """Whether an equation is, or has somewhere inside it, a loop of unknown length."""
    return _contains(eqn, lambda own: own.primitive.name == "while")


def contains_convolution(jaxpr: Any) -> bool:
    """Whether a jaxpr has a convolution somewhere inside it."""
    is_convolution = lambda own: own.primitive.name == "conv_general_dilated"
    return any(_contains(eqn, is_convolution) for eqn in open_jaxpr(jaxpr)[0].eqns)


def is_named(eqn: Any, name: str) -> bool:
    """Whether an equation is the tag of that name of a value."""
    return eqn.primitive.name == "name" and eqn.params["name"] == name


def _coordinator() -> Any:
    # There is no public way to the key-value store of `jax.distributed`.
    from jax._src import distributed

    return distributed.global_state.client


def tell_processes(key: str, text: str) -> None:
    """Put a text where all processes of `jax.distributed` find it."""
    _coordinator().key_value_set(key, text, allow_overwrite=True)


def ask_processes(key: str) -> str | None:
    """What a process put there; `None` if nothing."""
    try:
        return _coordinator().key_value_try_get(key)
    except jax.errors.JaxRuntimeError:  # not found
        return None


def leave_processes() -> None:
    """Do not wait for the other processes when this one ends: jax would, for two minutes,
    for one that has ended already."""
    from jax._src import distributed

    distributed.global_state.client = None
