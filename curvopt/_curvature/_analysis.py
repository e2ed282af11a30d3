"""What a program tells before it is run: what the loss needs, and what can change."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .. import _compat
from ._program import AbstractOperation, flatten, is_variable, Operation, Program, Variable


def stops_gradient(operation: AbstractOperation) -> bool:
    """Whether an operation's outputs are to be taken as constants."""
    return isinstance(operation, Operation) and _compat.stops_gradient(operation.eqn)


def live_variables(program: Program, live_outputs: Sequence[bool]) -> set[Variable]:
    """The variables through which a derivative can flow to the live outputs.

    What only auxiliary outputs need is not among them: it is evaluated, never
    differentiated.
    """
    outputs = zip(program.outvars, live_outputs, strict=True)
    live = {v for v, is_live in outputs if is_live and is_variable(v)}
    for operation in reversed(program.operations):
        if stops_gradient(operation):
            continue
        if any(v in live and v.is_differentiable for v in operation.outvars):
            live.update(operation.variables)
    return live


def active_variables(program: Program, active_inputs: Sequence[bool]) -> set[Variable]:
    """The variables that depend on the active inputs, differentiably."""
    inputs = zip(program.invars, active_inputs, strict=True)
    active = {v for v, is_active in inputs if is_active}
    for operation in program.operations:
        if not stops_gradient(operation) and not active.isdisjoint(operation.variables):
            active.update(v for v in operation.outvars if v.is_differentiable)
    return active


def reached_outputs(fn: Callable, *args: Any) -> list[bool]:
    """Which outputs of a linear function depend on its arguments at all; the others are
    zero. It is traced, not run."""
    jaxpr = jax.make_jaxpr(fn)(*args)
    program = flatten(jaxpr)
    if any(_compat.on_refs(jaxpr)):  # what passes through a ref cannot be followed
        return [True] * len(program.outvars)
    active = active_variables(program, [True] * len(program.invars))
    return [is_variable(v) and v in active for v in program.outvars]
