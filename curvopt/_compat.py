"""What differs between jax versions, and nothing else.

A jaxpr is walked, never rebuilt: equations are bound again with the parameters
they carry, so that no parameter needs to be understood here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.extend.core as jex
from jaxtyping import Array, ArrayLike


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


def inlined(eqn: Any) -> Any | None:
    """The jaxpr of an equation that only groups others (`jit`), else `None`."""
    name = _INLINED.get(eqn.primitive.name)
    return None if name is None else eqn.params[name]


def stops_gradient(eqn: Any) -> bool:
    """Whether an equation's outputs are to be taken as constants."""
    return eqn.primitive.name == "stop_gradient"


def bind(eqn: Any, *operands: ArrayLike) -> Sequence[Array]:
    """Evaluate one equation; its outputs always as a sequence."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # A pair before jax 0.9.2, a dictionary since.
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*subfuns, *operands, **params)
    return out if eqn.primitive.multiple_results else [out]


def _inner_jaxprs(param: Any) -> Iterator[Any]:
    if hasattr(getattr(param, "jaxpr", param), "eqns"):
        yield getattr(param, "jaxpr", param)
    elif isinstance(param, (tuple, list)):
        for item in param:
            yield from _inner_jaxprs(item)


def contains_custom_vjp(eqn: Any) -> bool:
    """Whether an equation is, or has somewhere inside it, a `jax.custom_vjp`."""
    return eqn.primitive.name in _CUSTOM_VJP or any(
        contains_custom_vjp(inner)
        for param in eqn.params.values()
        for jaxpr in _inner_jaxprs(param)
        for inner in jaxpr.eqns
    )
