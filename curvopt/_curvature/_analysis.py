"""What a jaxpr tells before it is run: what the loss needs, and what can change."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .. import _compat


def is_differentiable(var: Any) -> bool:
    """Whether a variable can carry a derivative; integers and booleans cannot."""
    return jnp.issubdtype(var.aval.dtype, jnp.inexact)


def live_variables(jaxpr: Any, live_outputs: Sequence[bool]) -> set[Any]:
    """The variables through which a derivative can flow to the live outputs.

    What only auxiliary outputs need is not among them: it is evaluated, never
    differentiated.
    """
    live = {
        v
        for v, is_live in zip(jaxpr.outvars, live_outputs)
        if is_live and not _compat.is_literal(v)
    }
    for eqn in reversed(jaxpr.eqns):
        outputs = [v in live and is_differentiable(v) for v in eqn.outvars]
        if not any(outputs) or _compat.stops_gradient(eqn):
            continue
        needed = live_inputs(eqn, outputs)
        live.update(
            v
            for v, is_needed in zip(eqn.invars, needed)
            if is_needed and not _compat.is_literal(v)
        )
    return live


def live_inputs(eqn: Any, live_outputs: Sequence[bool]) -> list[bool]:
    """Which operands of an equation its live outputs may need."""
    inner = _compat.inlined(eqn)
    if inner is None:
        return [True] * len(eqn.invars)
    jaxpr, _ = _compat.open_jaxpr(inner)
    live = live_variables(jaxpr, live_outputs)
    return [v in live for v in jaxpr.invars]


def reached_outputs(fn: Callable, *args: Any) -> list[bool]:
    """Which outputs of a linear function depend on its arguments at all; the others are
    zero. It is traced, not run."""
    closed = jax.make_jaxpr(fn)(*args)
    jaxpr, _ = _compat.open_jaxpr(closed)
    return active_outputs(jaxpr, [True] * len(jaxpr.invars))


def active_outputs(jaxpr: Any, active_inputs: Sequence[bool]) -> list[bool]:
    """Which outputs depend on the active inputs, differentiably."""
    active = {v for v, is_active in zip(jaxpr.invars, active_inputs) if is_active}
    for eqn in jaxpr.eqns:
        operands = [not _compat.is_literal(v) and v in active for v in eqn.invars]
        if not any(operands) or _compat.stops_gradient(eqn):
            continue
        inner = _compat.inlined(eqn)
        if inner is None:
            outputs = [True] * len(eqn.outvars)
        else:
            outputs = active_outputs(_compat.open_jaxpr(inner)[0], operands)
        active.update(
            v for v, is_out in zip(eqn.outvars, outputs) if is_out and is_differentiable(v)
        )
    return [not _compat.is_literal(v) and v in active for v in jaxpr.outvars]
