from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from .. import _compat
from ._equation import (
    AbstractEquation,
    AbstractSweep,
    Arrays,
    EquationReport,
    run_backward,
)
from ._prepare import prepare
from ._primitive import PrimitiveEquation
from ._products import ProductRule
from ._program import flatten
from ._value import Value


class RematEquation(AbstractEquation):
    """A `jax.checkpoint`: nothing inside it is kept. The third sweep runs the first and
    the second again, inside, from the inputs and the adjoints of the outputs."""

    primitive: PrimitiveEquation
    eqn: Any = eqx.field(static=True)
    new_tape: Callable[[], Any] = eqx.field(static=True)
    inputs: tuple[int, ...] = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    structs: tuple[_compat.Struct, ...] = eqx.field(static=True)
    splits: bool = eqx.field(static=True)

    def __init__(self, primitive: PrimitiveEquation, eqn: Any, new_tape: Callable[[], Any]):
        self.primitive, self.eqn, self.new_tape = primitive, eqn, new_tape
        self.inputs, self.outputs = primitive.inputs, primitive.outputs
        self.structs = primitive.structs
        self.splits = _compat.contains_custom_vjp(eqn)

    def pullback(self, adjoint: Arrays) -> tuple[Sequence[Array | None], PyTree]:
        parts, _ = self.primitive.pullback(adjoint)
        return parts, adjoint

    def _record(self, operands: Sequence[Any]) -> tuple[Any, list[int], list[Any]]:
        own = self.primitive
        tape = self.new_tape()
        numbers = {k: tape.number() for k in own.active}
        values = [Value(x, numbers.get(k)) for k, x in enumerate(operands)]
        program = flatten(self.eqn.params["jaxpr"], own.operation.source)
        active = [k in numbers for k in range(len(values))]
        program = prepare(program, active, [True] * len(values))
        outs = tape.run(
            program, values, [k in own.chosen for k in range(len(program.outvars))]
        )
        return tape, list(numbers.values()), [outs[k] for k in own.chosen]

    def advance(self, sweep: AbstractSweep, kept: PyTree, carried: list[PyTree]) -> Any:
        own = self.primitive
        operands, kept = list(own.operands), kept or ()
        if self.eqn.params.get("prevent_cse", True):
            # As in jax's own: or XLA would find the values computed already, and keep
            # them alive, which is what the user wanted to avoid.
            operands, kept = _compat.barrier((operands, kept))
        tape, numbers, outs = self._record(operands)
        adjoints = {}
        if kept:
            adjoints = {o.number: a for o, a in zip(outs, kept) if o.number is not None}
            inner_kept = run_backward(tape.equations, adjoints)
        else:
            inner_kept = [()] * len(tape.equations)
        inside = dict(zip(numbers, carried, strict=True))
        total = sweep.run(tape.equations, inner_kept, inside)
        return [
            sweep.instantiate(inside.get(o.number), s) for o, s in zip(outs, own.structs)
        ], total

    def report(self, how: ProductRule) -> list[EquationReport]:
        inner: list[EquationReport] = []

        def trace(operands: Sequence[Any]) -> None:
            tape, _, _ = self._record(operands)
            inner.extend(line for e in tape.equations for line in e.report(how))

        jax.eval_shape(trace, self.primitive.operands)
        line = EquationReport(
            self.primitive.operation.name, "remat", self.primitive.operation.source
        )
        return [line, *inner]
