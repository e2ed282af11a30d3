from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from .. import _compat
from ._analysis import reached_outputs
from ._equation import AbstractEquation, AbstractSweep, Arrays, EquationReport
from ._products import ProductRule
from ._program import AbstractOperation, Operation
from ._rules import AbstractRule, find_rule, Linear, ReverseOverReverse


class PrimitiveEquation(AbstractEquation):
    """One equation of a jaxpr, as a function of its *active* operands: those that
    depend on the parameters."""

    operation: AbstractOperation = eqx.field(static=True)
    active: tuple[int, ...] = eqx.field(static=True)
    # The outputs through which the loss depends on it.
    chosen: tuple[int, ...] = eqx.field(static=True)
    rule: AbstractRule = eqx.field(static=True)
    operands: tuple[Any, ...]
    values: Arrays
    vjp: Callable[[Arrays], Arrays]
    inputs: tuple[int, ...] = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    structs: tuple[_compat.Struct, ...] = eqx.field(static=True)
    splits: bool = eqx.field(static=True)

    @property
    def primals(self) -> Arrays:
        return tuple(self.operands[k] for k in self.active)

    def _bind(self, primals: Sequence[Array], product_dtype: Any) -> Arrays:
        operands = list(self.operands)
        for k, primal in zip(self.active, primals, strict=True):
            operands[k] = primal
        outs = self.operation.bind(*operands, product_dtype=product_dtype)
        return tuple(outs[k] for k in self.chosen)

    def fn(self, *primals: Array) -> Arrays:
        """The equation itself."""
        return self._bind(primals, None)

    def bind_as(self, how: ProductRule) -> Callable[..., Arrays]:
        """The equation, with the operands of products in the precision asked for."""
        return lambda *primals: self._bind(primals, how.dtype)

    def pullback(self, adjoint: Arrays) -> tuple[Sequence[Array | None], PyTree]:
        try:
            parts = self.vjp(adjoint)
            if len(self.inputs) > 1 and len(self.operation.outvars) > 1:
                # Not every input need reach every output. Zeros that jax made real must
                # not travel on: some equations refuse any adjoint (in the solves of
                # Optimistix, say).
                reached = reached_outputs(self.vjp, adjoint)
                parts = tuple(p if r else None for p, r in zip(parts, reached))
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise refusal(self.operation, error) from error
        # A linear equation adds nothing to the curvature: its adjoint is not kept.
        return parts, () if isinstance(self.rule, Linear) else adjoint

    def advance(self, sweep: AbstractSweep, kept: PyTree, carried: list[PyTree]) -> Any:
        try:
            outputs, term = sweep.through(self, kept, carried)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            raise refusal(self.operation, error) from error
        return jtu.tree_map(_compat.as_array, outputs), term

    def report(self, how: ProductRule) -> list[EquationReport]:
        own = self.operation
        return [EquationReport(own.name, self.rule.label(own, how), own.source)]


def refusal(operation: AbstractOperation, error: Exception) -> TypeError:
    """What to say where jax cannot differentiate an equation."""
    remedy = "Write it with functions that jax differentiates in reverse and twice forward"
    eqn = operation.eqn if isinstance(operation, Operation) else None
    if eqn is not None and _compat.contains_custom_vjp(eqn):
        remedy = (
            "Its backward rule must have a reverse mode of its own. Where it has a forward "
            "mode, use curvature=curvopt.HvpCurvature(); where it has neither, "
            "curvopt.FiniteDifferenceCurvature(), which needs the gradient alone, or, in "
            "Diffrax, adjoint=diffrax.DirectAdjoint()"
        )
    elif eqn is not None and _compat.contains_while(eqn):
        remedy = (
            "Give the loop a length that is known when it is traced (jax.lax.scan, or "
            "jax.lax.fori_loop with numbers for its bounds)"
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
) -> tuple[PrimitiveEquation, list[Any]]:
    """Sweep 1: evaluate an equation and keep what the other sweeps need.

    **Arguments:**

    - `operands`, `numbers`: the operands, with numbers where they are active.
    - `chosen`: which outputs are differentiated.

    **Returns:**

    The equation, and all its outputs.
    """
    active = tuple(k for k, number in enumerate(numbers) if number is not None)

    def evaluate(*primals: Array) -> tuple[Arrays, Sequence[Array]]:
        arrays = list(operands)
        for k, primal in zip(active, primals, strict=True):
            arrays[k] = primal
        outs = operation.bind(*arrays)
        return tuple(outs[k] for k in chosen), outs

    primals = [operands[k] for k in active]
    try:
        values, vjp, outs = jax.vjp(evaluate, *primals, has_aux=True)
    except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
        raise refusal(operation, error) from error
    rule = find_rule(operation, active)
    equation = PrimitiveEquation(
        operation=operation,
        active=active,
        chosen=tuple(chosen),
        rule=rule,
        operands=tuple(operands),
        values=values,
        vjp=vjp,
        inputs=tuple(number for number in numbers if number is not None),
        outputs=tuple(new_number() for _ in chosen),
        structs=tuple(map(_compat.struct_of, values)),
        splits=isinstance(rule, ReverseOverReverse),
    )
    return equation, list(outs)
