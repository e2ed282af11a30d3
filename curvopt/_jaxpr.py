"""Reads a jaxpr, and evaluates its equations one by one.

A jaxpr is walked, never rebuilt: equations are bound again with their own parameters, so
that no parameter needs to be understood here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.extend import source_info_util
from jaxtyping import Array, ArrayLike

from . import _compat


_PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})


def open_jaxpr(jaxpr: Any) -> tuple[Any, list[Any]]:
    """The jaxpr without its constants, and the constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def is_literal(atom: Any) -> bool:
    """Whether an operand of an equation is a constant written in place."""
    return isinstance(atom, jex.Literal)


def inlined(eqn: Any) -> Any | None:
    """The jaxpr of an equation that only groups others (`jit`); otherwise `None`."""
    name = _compat.INLINED.get(eqn.primitive.name)
    return None if name is None else eqn.params[name]


def is_product(eqn: Any) -> bool:
    """Whether an equation is a matrix product or a convolution."""
    return eqn.primitive.name in _PRODUCTS


def is_remat(eqn: Any) -> bool:
    """Whether an equation is a `jax.checkpoint`."""
    return _compat.primitive_name(eqn) == "remat2"


def as_array(x: Any) -> Array:
    """An array from a value; jax has its own types for literals."""
    return x if isinstance(x, jax.Array) else jnp.asarray(x)


def bind(
    eqn: Any, *operands: ArrayLike, product_dtype: Any = None, swapped: bool = False
) -> Sequence[Array]:
    """Evaluate one equation; the outputs are always a sequence.

    **Arguments:**

    - `product_dtype`: the dtype to which the operands of a matrix product or a convolution
        are rounded; their products accumulate in the dtype of the output.
    - `swapped`: whether to swap the factors of a matrix product.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    if _compat.primitive_name(eqn).startswith("custom_"):
        # The user's own rules receive these, and expect arrays as under `jax.grad`.
        operands = tuple(map(as_array, operands))
    if product_dtype is not None and is_product(eqn):
        out_dtype = eqn.outvars[0].aval.dtype
        # The user's `precision` is for wide operands; here `product_dtype` decides.
        params = params | {"precision": None, "preferred_element_type": out_dtype}
        operands = tuple(jnp.asarray(x).astype(product_dtype) for x in operands)
    if swapped:
        operands = operands[::-1]
        contracted, batch = params["dimension_numbers"]
        params = params | {"dimension_numbers": (contracted[::-1], batch[::-1])}
        if isinstance(params["precision"], tuple):
            params["precision"] = params["precision"][::-1]
    # The jax settings under which the user's call was traced.
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*operands, **params)
    # Some primitives return their own kind of sequence.
    return [as_array(x) for x in (out if eqn.primitive.multiple_results else [out])]


def source(eqn: Any) -> str:
    """The line in the user's code that an equation comes from; empty if it is unknown, as
    inside jax's own functions."""
    return source_info_util.summarize(eqn.source_info)


def _jaxprs_in(param: Any) -> Iterator[Any]:
    if hasattr(getattr(param, "jaxpr", param), "eqns"):
        yield getattr(param, "jaxpr", param)
    elif isinstance(param, (tuple, list)):
        for item in param:
            yield from _jaxprs_in(item)


def inner_jaxprs(eqn: Any) -> Iterator[Any]:
    """The jaxprs, without their constants, among the parameters of an equation."""
    for param in _compat.parameters(eqn).values():
        yield from _jaxprs_in(param)


def contains(eqn: Any, primitive: str) -> bool:
    """Whether an equation is, or contains at any depth, a primitive of that name."""
    if _compat.primitive_name(eqn) == primitive:
        return True
    return any(jaxpr_contains(jaxpr, primitive) for jaxpr in inner_jaxprs(eqn))


def jaxpr_contains(jaxpr: Any, primitive: str) -> bool:
    """Whether a jaxpr contains, at any depth, a primitive of that name."""
    return any(contains(eqn, primitive) for eqn in open_jaxpr(jaxpr)[0].eqns)
