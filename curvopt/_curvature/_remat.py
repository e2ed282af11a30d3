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
    Arrays,
    EquationReport,
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

    def pullback(self, adjoint: Arrays) -> tuple[Sequence[Array | None], PyTree]:
        parts, _ = self.primitive.pullback(adjoint)
        return parts, adjoint

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
        operands, kept = list(self.primitive.function.operands), kept or ()
        if self._params["prevent_cse"]:
            # As in jax itself: otherwise XLA merges the recomputation with the first
            # computation and keeps its values alive, which `checkpoint` is to avoid.
            operands, kept = _sharding.barrier((operands, kept))
        tape, numbers, outs = self._record(operands)
        adjoints = {}
        if kept:
            adjoints = {o.number: a for o, a in zip(outs, kept) if o.number is not None}
            inner_kept = run_backward(tape.equations, adjoints)
        else:  # forward mode passes no adjoints
            inner_kept = [()] * len(tape.equations)
        inside = dict(zip(numbers, carried, strict=True))
        total = sweep.run(tape.equations, inner_kept, inside)
        return [
            sweep.instantiate(inside.get(o.number), s) for o, s in zip(outs, self.structs)
        ], total

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
