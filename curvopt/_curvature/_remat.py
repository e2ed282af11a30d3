"""A `jax.checkpoint`, with the sweeps run inside it."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from .. import _sharding
from .._compat import parameters
from ._equation import (
    AbstractEquation,
    AbstractSweep,
    accumulate,
    Arrays,
    EquationReport,
    NO_ADJOINTS,
    run_backward,
    Value,
)
from ._primitive import PrimitiveEquation
from ._products import ProductRule
from ._program import flatten
from ._rewrites import prepare


class RematEquation(AbstractEquation):
    """A `jax.checkpoint`: nothing inside it is kept. The third sweep repeats the first two
    inside it, from its inputs and the adjoints of its outputs."""

    primitive: PrimitiveEquation
    # `Tape`, which cannot be imported here: its module imports this one.
    new_tape: Callable[[], Any] = eqx.field(static=True)
    inputs: tuple[int, ...] = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    structs: tuple[_sharding.Struct, ...] = eqx.field(static=True)
    splits: bool = eqx.field(static=True)

    def __init__(self, primitive: PrimitiveEquation, new_tape: Callable[[], Any]):
        self.primitive, self.new_tape = primitive, new_tape
        self.inputs, self.outputs = primitive.inputs, primitive.outputs
        self.structs = primitive.structs
        self.splits = primitive.operation.contains("custom_vjp_call")

    @property
    def _params(self) -> dict[str, Any]:
        return parameters(self.primitive.operation.members[0].eqn)

    def pullback(self, adjoint: Arrays, cut: bool) -> tuple[Sequence[Array | None], PyTree]:
        if not cut:
            parts, _ = self.primitive.pullback(adjoint, cut)
        else:  # jax itself would go back through an output that is tagged inside
            tape, numbers, outs = self._record(self.primitive.function.operands)
            adjoints, _ = _backward(tape, outs, adjoint, cut)
            parts = [adjoints.get(number) for number in numbers]
        return parts, (adjoint, cut)

    def _record(self, operands: Sequence[Any]) -> tuple[Any, list[int], list[Any]]:
        own = self.primitive.function
        tape = self.new_tape()
        numbers = {k: tape.number() for k in own.active}
        values = [Value(x, numbers.get(k)) for k, x in enumerate(operands)]
        program = flatten(self._params["jaxpr"], own.operation.source)
        active = [k in numbers for k in range(len(values))]
        program = prepare(program, active, [True] * len(values))
        outs = tape.run(
            program, values, [k in own.chosen for k in range(len(program.outvars))]
        )
        return tape, list(numbers.values()), [outs[k] for k in own.chosen]

    def advance(self, sweep: AbstractSweep, kept: PyTree, carried: list[PyTree]) -> Any:
        operands = list(self.primitive.function.operands)
        adjoint, cut = kept or (NO_ADJOINTS, False)
        if self._params["prevent_cse"]:
            # As in jax itself: otherwise XLA merges the recomputation with the first
            # computation and keeps its values alive, which `checkpoint` is to avoid.
            operands, adjoint = _sharding.barrier((operands, adjoint))
        tape, numbers, outs = self._record(operands)
        if adjoint:
            _, inner_kept = _backward(tape, outs, adjoint, cut)
        else:
            inner_kept = [NO_ADJOINTS] * len(tape.equations)
        inside = dict(zip(numbers, carried, strict=True))
        total = sweep.run(tape.equations, inner_kept, inside)
        return [None if o.number is None else inside[o.number] for o in outs], total

    def report(self, how: ProductRule) -> list[EquationReport]:
        inner: list[EquationReport] = []

        def trace(operands: Sequence[Any]) -> None:
            tape, _, _ = self._record(operands)
            inner.extend(line for e in tape.equations for line in e.report(how))

        jax.eval_shape(trace, self.primitive.function.operands)
        line = EquationReport(
            self.primitive.operation.name, "remat", self.primitive.operation.source
        )
        return [line, *inner]


def _backward(
    tape: Any, outs: Sequence[Any], adjoint: Arrays, cut: bool
) -> tuple[dict[int, Array], list[PyTree]]:
    """Sweep 2 inside: the adjoints by number, and the residuals."""
    adjoints: dict[int, Array] = {}
    reached = [k for k, out in enumerate(outs) if out.number is not None]
    accumulate(adjoints, [outs[k].number for k in reached], [adjoint[k] for k in reached])
    return adjoints, run_backward(tape.equations, adjoints, cut)
