"""Arithmetic on pytrees of arrays, with the accuracy rules of this package."""

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Bool, PyTree, Scalar

from . import _sharding
from ._checks import is_numeric


@contextlib.contextmanager
def promotion() -> Iterator[Callable[[Callable], Callable]]:
    """A context with standard dtype promotion, which this package's arithmetic needs,
    whatever `jax_numpy_dtype_promotion` is. It yields a wrapper under which a user's
    function keeps the user's setting."""
    outer = jax.config.jax_numpy_dtype_promotion  # pyright: ignore
    with jax.numpy_dtype_promotion("standard"):
        yield functools.partial(_keeping, outer)


def _keeping(setting: Any, fn: Callable) -> Callable:
    @functools.wraps(fn)
    def kept(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion(setting):
            return fn(*args, **kwargs)

    return kept


def _arrays(name: str, tree: PyTree) -> list[Any]:
    leaves = jtu.tree_leaves(tree)
    for leaf in leaves:
        if not hasattr(leaf, "dtype") or not is_numeric(leaf.dtype):
            raise ValueError(
                f"{name} must be a pytree of arrays, but a leaf of it is {leaf!r} of type "
                f"{type(leaf).__name__}."
            )
    return leaves


def scalar_dtype(y: PyTree) -> Any:
    """The dtype of step sizes, slopes and curvatures: that of `y`, at least float32.

    **Arguments:**

    - `y`: a pytree of floating-point arrays of any shapes and dtypes.

    **Returns:**

    A NumPy dtype, `float32` or wider.
    """
    # The dtypes, not the arrays: `result_type` ignores weakly typed arrays.
    with promotion():
        return jnp.result_type(jnp.float32, *(x.dtype for x in _arrays("y", y)))


def at_least_float32(x: Array) -> Array:
    """`x`, widened to float32 if it is narrower."""
    return x.astype(scalar_dtype(x))


def _leaf_dot(a: Array, b: Array) -> Scalar:
    if _sharding.is_split(a) or _sharding.is_split(b):
        # Flattening a split array would gather it.
        return jnp.real(jnp.sum(at_least_float32(a) * at_least_float32(b)))
    # By default an accelerator may round the factors to bfloat16 or TF32.
    dot = jnp.dot(
        at_least_float32(a).ravel(),
        at_least_float32(b).ravel(),
        precision=jax.lax.Precision.HIGHEST,
    )
    # jax pairs a complex cotangent with a tangent as Re(sum(a * b)), unconjugated.
    return jnp.real(dot)


def tree_dot(a: PyTree, b: PyTree) -> Scalar:
    r"""The inner product over all leaves, $\sum_i \langle a_i, b_i \rangle$.

    **Arguments:**

    - `a`, `b`: pytrees of arrays with the same structure and shapes.

    **Returns:**

    A scalar, in the widest of float32 and the dtypes of the arrays. Inside `jax.shard_map`,
    if the arrays vary over devices, it is the device's part of the sum.
    """
    leaves = _arrays("a", a), _arrays("b", b)
    shapes = [[x.shape for x in side] for side in leaves]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"a and b must have the same shapes, leaf by leaf, but they have {shapes[0]} "
            f"and {shapes[1]}."
        )
    with promotion():
        dots = (_leaf_dot(x, z) for x, z in zip(*leaves))
        return functools.reduce(_sharding.add_parts, dots, jnp.zeros((), jnp.float32))


def tree_norm(a: PyTree) -> Scalar:
    """The Euclidean norm of a pytree, in float32 or wider. The squares of very large or
    small entries neither overflow nor underflow."""
    leaves = [at_least_float32(x) for x in _arrays("a", a) if x.size]
    if not leaves:
        return jnp.zeros((), jnp.float32)
    with promotion():
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in leaves]))
        usable = (largest > 0) & jnp.isfinite(largest)
        # The norm does not depend on the scale, so its derivative is not needed.
        scale = jax.lax.stop_gradient(jnp.where(usable, largest, 1))
        scaled = [x / scale for x in leaves]
        return scale * jnp.sqrt(tree_dot(scaled, scaled))


def tree_zeros(y: PyTree) -> PyTree:
    """Zeros shaped like `y`, in float32 or wider: the start of an average over steps."""
    _arrays("y", y)

    # From the types: `y` may be abstract, as where shardings are made of an optax state.
    def zeros(x: Array) -> Array:
        struct = _sharding.struct_of(x)
        return _sharding.zeros(struct._replace(dtype=scalar_dtype(x)))

    return jtu.tree_map(zeros, y)


def tree_fill(a: PyTree, like: PyTree) -> PyTree:
    """`a` with zeros like the leaves of `like` in place of its `None`s."""
    return jtu.tree_map(lambda z, x: _sharding.zeros_like(z) if x is None else x, like, a)


def tree_copy(a: PyTree) -> PyTree:
    """`a` with every array in its own buffer, so that each can be donated."""
    return jtu.tree_map(lambda x: jnp.array(x, copy=True) if eqx.is_array(x) else x, a)


def tree_cast(a: PyTree, like: PyTree) -> PyTree:
    """`a`, with each leaf in the dtype of that of `like`."""
    return jtu.tree_map(lambda x, z: x.astype(z.dtype), a, like)


def tree_allfinite(a: PyTree) -> Bool[Array, ""]:
    """Whether every number in a pytree is finite."""
    finite = [jnp.all(jnp.isfinite(x)) for x in jtu.tree_leaves(a)]
    return jnp.all(jnp.stack(finite)) if finite else jnp.array(True)


def safe_divide(a: Array, b: Array) -> Array:
    """`a / b`, and zero where `b` is zero."""
    # The inner `where` keeps the derivative finite: 0 * inf would be nan.
    with promotion():
        return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def split_static(
    tree: PyTree, is_dynamic: Callable[[Any], bool] = eqx.is_array
) -> tuple[PyTree, Hashable]:
    """Split a pytree into its arrays, the inputs of a compiled program, and everything else
    in hashable form, what the program is compiled for."""
    dynamic, static = eqx.partition(tree, is_dynamic)
    leaves, structure = jtu.tree_flatten(static)
    # With their types: 1, 1.0 and True compare equal, but are different programs.
    return dynamic, (structure, tuple((type(x), x) for x in leaves))


def join_static(dynamic: PyTree, static: Any) -> PyTree:
    """The inverse of `split_static`."""
    structure, leaves = static
    return eqx.combine(dynamic, jtu.tree_unflatten(structure, [x for _, x in leaves]))


class _KeyData(eqx.Module):
    """A random key as plain numbers."""

    data: Array
    impl: Any = eqx.field(static=True)


def _is_key(x: Any) -> bool:
    return eqx.is_array(x) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def pack_keys(tree: PyTree) -> PyTree:
    """A pytree with its typed random keys as plain numbers: neither Optimistix's errors nor
    files can hold typed keys."""
    pack = lambda x: _KeyData(jr.key_data(x), jr.key_impl(x)) if _is_key(x) else x
    return jtu.tree_map(pack, tree)


def unpack_keys(tree: PyTree) -> PyTree:
    """The inverse of `pack_keys`."""
    is_packed = lambda x: isinstance(x, _KeyData)
    unpack = lambda x: jr.wrap_key_data(x.data, impl=x.impl) if is_packed(x) else x
    return jtu.tree_map(unpack, tree, is_leaf=is_packed)
