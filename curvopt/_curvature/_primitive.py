"""A step of the tape that is one primitive, or a chain of them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from .. import _jaxpr, _sharding
from ._equation import (
    AbstractEquation,
    AbstractSweep,
    Arrays,
    EquationReport,
    NO_ADJOINTS,
)
from ._products import ProductRule
from ._program import AbstractOperation, flatten, is_variable
from ._refs import on_refs
from ._rewrites import is_elementwise
from ._rules import (
    AbstractRule,
    find_rule,
    Linear,
    PrimitiveFunction,
    ReverseOverReverse,
)


class PrimitiveEquation(AbstractEquation):
    """One equation of a jaxpr, or a chain of them."""

    function: PrimitiveFunction
    rule: AbstractRule = eqx.field(static=True)
    vjp: Callable[[Arrays], Arrays]
    inputs: tuple[int, ...] = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    structs: tuple[_sharding.Struct, ...] = eqx.field(static=True)
    splits: bool = eqx.field(static=True)

    @property
    def operation(self) -> AbstractOperation:
        return self.function.operation

    def pullback(self, adjoint: Arrays, cut: bool) -> tuple[Sequence[Array | None], PyTree]:
        if cut and self.operation.is_output:
            return [None] * len(self.inputs), NO_ADJOINTS
        try:
            parts = self.vjp(adjoint)
            if len(self.inputs) > 1 and len(self.operation.outvars) > 1:
                # Not every input reaches every output. Zeros that jax instantiated must
                # not be passed on: some equations refuse any adjoint (those in the solves
                # of Optimistix, say).
                reached = _reached_outputs(self.vjp, adjoint)
                parts = tuple(p if r else None for p, r in zip(parts, reached))
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise refusal(self.operation, error) from error
        # A linear equation adds nothing to the curvature, so its adjoint is dropped.
        return parts, NO_ADJOINTS if isinstance(self.rule, Linear) else adjoint

    def _of(self, places: Sequence[int]) -> "PrimitiveEquation":
        """The same as an equation of some of its inputs, with the rule for these."""
        function = self.function.of(places)
        rule = find_rule(self.operation, function.active)
        inputs = tuple(self.inputs[k] for k in places)
        return dataclasses.replace(self, function=function, rule=rule, inputs=inputs)

    def advance(self, sweep: AbstractSweep, kept: PyTree, carried: list[PyTree]) -> Any:
        moving = [k for k, item in enumerate(carried) if item is not None]
        own = self if len(moving) == len(carried) else self._of(moving)
        try:
            outputs, term = sweep.through(own, kept, [carried[k] for k in moving])
        # No TypeError: those of rules, and of equations inside, name their own remedy.
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise refusal(self.operation, error) from error
        return jtu.tree_map(_jaxpr.as_array, outputs), term

    def report(self, how: ProductRule) -> list[EquationReport]:
        own = self.operation
        return [EquationReport(own.name, self.rule.label(self.function, how), own.source)]


def _reached_outputs(fn: Callable, *args: Any) -> list[bool]:
    """Which outputs of a linear function depend on its arguments; the others are zero. The
    function is traced, not run."""
    jaxpr = jax.make_jaxpr(fn)(*args)
    program = flatten(jaxpr)
    if any(on_refs(jaxpr)):  # what passes through a ref cannot be followed
        return [True] * len(program.outvars)
    active = program.active([True] * len(program.invars))
    return [is_variable(v) and v in active for v in program.outvars]


def refusal(operation: AbstractOperation, error: Exception) -> TypeError:
    """The error for an equation that jax cannot differentiate."""
    remedy = "Write it with functions that jax differentiates in reverse and twice forward"
    if operation.contains("custom_vjp_call"):
        remedy = (
            "Its backward rule must itself have a reverse mode. If it has a forward mode, "
            "use curvature=curvopt.HvpCurvature(); if it has neither, use "
            "curvopt.FiniteDifferenceCurvature(), which needs only the gradient, or, in "
            "Diffrax, adjoint=diffrax.DirectAdjoint()"
        )
    elif operation.contains("while"):
        remedy = (
            "Give the loop a static length (jax.lax.scan, or jax.lax.fori_loop with Python "
            "integers as bounds)"
        )
    elif "callback" in operation.name:
        remedy = "Give the callback a derivative with jax.custom_jvp"
    cause = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return TypeError(
        f"the loss cannot be differentiated through {operation.described}: {cause}. "
        f"{remedy}, or keep the parameters out of it with jax.lax.stop_gradient."
    )


def record_primitive(
    operation: AbstractOperation,
    operands: Sequence[Any],
    numbers: Sequence[int | None],
    chosen: Sequence[int],
    new_number: Callable[[], int],
    invariant: Sequence[int] = (),
    is_kept: bool = True,
) -> tuple[PrimitiveEquation, list[Any]]:
    """Sweep 1: evaluate an equation and keep what the other sweeps need.

    **Arguments:**

    - `operands`, `numbers`: the operands, and the numbers of those that are active.
    - `chosen`: which outputs are differentiated.
    - `invariant`: which operands are the same in all iterations of a loop around it.
    - `is_kept`: whether another equation keeps its first output.

    **Returns:**

    The equation, and all its outputs.
    """
    active = tuple(k for k, number in enumerate(numbers) if number is not None)
    function = PrimitiveFunction(
        operation, active, tuple(chosen), tuple(operands), tuple(invariant), is_kept=is_kept
    )
    try:
        if is_elementwise(operation):
            # What jax would keep for the pullback is made anew from the operands, which the
            # third sweep needs in any case.
            values, outs = function.bind(*function.primals)
            vjp = function.pullback
        else:
            values, vjp, outs = jax.vjp(function.bind, *function.primals, has_aux=True)
    except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        raise refusal(operation, error) from error
    rule = find_rule(operation, active)
    equation = PrimitiveEquation(
        function=dataclasses.replace(function, values=values),
        rule=rule,
        vjp=vjp,
        inputs=tuple(number for number in numbers if number is not None),
        outputs=tuple(new_number() for _ in chosen),
        structs=tuple(map(_sharding.struct_of, values)),
        splits=isinstance(rule, ReverseOverReverse),
    )
    return equation, list(outs)
