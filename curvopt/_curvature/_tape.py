"""The tape of a loss: recorded by the first sweep, walked by the others. The docstring of
the package explains its purpose."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Scalar

from .. import _sharding
from ._equation import AbstractEquation, NO_ADJOINTS, run_backward, Value
from ._primitive import record_primitive
from ._program import AbstractOperation, flatten, is_variable, Program, Variable
from ._refs import check_no_refs
from ._remat import RematEquation
from ._rewrites import prepare
from ._rules import find_rule, Linear
from ._scan import record_scan


class Tape:
    """The equations through which a loss depends on its parameters, in order."""

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        self.equations: list[AbstractEquation] = []
        self._numbers = itertools.count() if numbers is None else numbers

    def number(self) -> int:
        """A number that no value has yet."""
        return next(self._numbers)

    def child(self) -> "Tape":
        """An empty tape for the body of a loop, in which the numbers of this one are valid
        too."""
        return Tape(self._numbers)

    @property
    def splits(self) -> bool:
        return any(equation.splits for equation in self.equations)

    def _evaluate(
        self,
        operation: AbstractOperation,
        operands: Sequence[Value],
        live: set[Variable],
        kept: set[Variable],
    ) -> list[Value]:
        numbers = [operand.number for operand in operands]
        arrays = [operand.array for operand in operands]
        needed = [v in live and v.is_differentiable for v in operation.outvars]
        active = any(number is not None for number in numbers)
        if not active or not any(needed) or operation.stops_gradient:
            return [Value(out, None) for out in operation.bind(*arrays)]
        scan = operation.scan_parts
        if scan is not None:
            equation, outs = record_scan(scan, operands, needed, operation.source, self)
            self.equations.append(equation)
            return outs
        chosen = [k for k, is_needed in enumerate(needed) if is_needed]
        steady = [k for k, operand in enumerate(operands) if operand.known]
        invariant = steady if len(steady) < len(operands) else ()  # all: there is no loop
        equation, outs = record_primitive(
            operation,
            arrays,
            numbers,
            chosen,
            self.number,
            invariant,
            operation.outvars[0] in kept,
        )
        own = dict(zip(chosen, equation.outputs))
        if operation.is_remat:
            equation = RematEquation(equation, Tape)
        self.equations.append(equation)
        return [Value(out, own.get(k)) for k, out in enumerate(outs)]

    def run(
        self,
        program: Program,
        inputs: Sequence[Value],
        live_outputs: Sequence[bool],
        hoisted: Iterator[list[Value]] | None = None,
    ) -> list[Value]:
        """Evaluate and record a program.

        **Arguments:**

        - `live_outputs`: which outputs are differentiated.
        - `hoisted`: in the body of a loop, the outputs of the operations that `hoist` ran.
        """
        live, kept = program.live(live_outputs), _kept(program, inputs)

        def step(operation: AbstractOperation, operands: Sequence[Value]) -> list[Value]:
            if hoisted is None:
                return self._evaluate(operation, operands, live, kept)
            if _is_hoisted(operation, operands):
                return next(hoisted)  # `hoist` met them in the same order
            outs = self._evaluate(operation, operands, live, kept)
            # Not hoisted, for its operands or an effect: its results are an iteration's.
            return [out._replace(known=False) for out in outs]

        return _walk(program, inputs, step)

    def hoist(
        self, program: Program, inputs: Sequence[Value], live_outputs: Sequence[bool]
    ) -> list[list[Value]]:
        """Evaluate and record the invariants of a loop, once.

        **Returns:**

        The outputs of each hoisted operation, in order.
        """
        live, kept = program.live(live_outputs), _kept(program, inputs)
        hoisted: list[list[Value]] = []

        def step(operation: AbstractOperation, operands: Sequence[Value]) -> list[Value]:
            if not _is_hoisted(operation, operands):
                return [Value(None, None, known=False)] * len(operation.outvars)
            hoisted.append(self._evaluate(operation, operands, live, kept))
            return hoisted[-1]

        _walk(program, inputs, step)
        return hoisted


def _walk(program: Program, inputs: Sequence[Value], step: Callable) -> list[Value]:
    """Evaluate a program with `step(operation, operands)` for each operation."""
    env = dict(zip(program.invars, inputs, strict=True))
    read = lambda atom: env[atom] if is_variable(atom) else Value(atom, None)
    for operation in program.operations:
        outs = step(operation, [read(atom) for atom in operation.invars])
        env.update(zip(operation.outvars, outs, strict=True))
    return [read(atom) for atom in program.outvars]


def _kept(program: Program, inputs: Sequence[Value]) -> set[Variable]:
    """The variables that an equation keeps as its operands: whose derivative depends on
    them."""
    active = program.active([x.number is not None for x in inputs])
    kept = set()
    for operation in program.operations:
        own = [k for k, v in enumerate(operation.invars) if is_variable(v) and v in active]
        if own and not isinstance(find_rule(operation, own), Linear):
            kept.update(operation.variables)
    return kept


def _is_hoisted(operation: AbstractOperation, operands: Sequence[Value]) -> bool:
    known = all(operand.known for operand in operands)
    return known and not operation.has_effects


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A loss after its first sweep.

    **Attributes:**

    - `tape`: its equations; the values with numbers 0, 1, ... are the parameters' leaves.
    - `value`, `aux`: what the loss returned.
    - `number`: the number of the value; `None` if it does not depend on the parameters.
    """

    tape: Tape
    leaves: list[Array]
    treedef: Any
    value: Scalar
    aux: PyTree
    number: int | None

    def gradient(self, cut: bool = False) -> tuple[PyTree, list[PyTree]]:
        """Sweep 2: the gradient, and each equation's residuals for the third sweep. `cut`
        as for `run_backward`."""
        adjoints: dict[int, Array] = {}
        if self.number is not None:
            # A one that varies over devices as the value does.
            adjoints[self.number] = 1 + _sharding.zeros_like(self.value)
        kept = run_backward(self.tape.equations, adjoints, cut)
        grad = [
            adjoints[k] if k in adjoints else _sharding.zeros_like(leaf)
            for k, leaf in enumerate(self.leaves)
        ]
        return jtu.tree_unflatten(self.treedef, grad), kept

    def sweep(self, sweep: Any, kept: list[PyTree] | None, start: Any) -> tuple[Any, Any]:
        """Run a forward sweep, from what each leaf carries; return its total, and what the
        loss carries (`None` if it does not depend on the parameters)."""
        carried = dict(enumerate(start))
        equations = self.tape.equations
        # Without a second sweep every equation is swept.
        kept = [NO_ADJOINTS] * len(equations) if kept is None else kept
        total = sweep.run(equations, kept, carried)
        return total, None if self.number is None else carried[self.number]


def record(fn: Callable[[PyTree], tuple[Scalar, PyTree]], y: PyTree[Array]) -> Recorded:
    """Sweep 1: evaluate `fn(y) -> (loss, aux)` forward."""
    leaves, treedef = jtu.tree_flatten(y)
    aux_treedef, aux_static = None, None

    # A jaxpr returns arrays only: the rest of the auxiliary output leaves by this closure.
    def flat(*leaves: Array) -> list[Any]:
        nonlocal aux_treedef, aux_static
        value, aux = fn(jtu.tree_unflatten(treedef, leaves))
        aux, aux_static = eqx.partition(aux, eqx.is_array_like)
        aux_leaves, aux_treedef = jtu.tree_flatten(aux)
        return [value, *aux_leaves]

    active = [True] * len(leaves)
    jaxpr = jax.make_jaxpr(flat)(*leaves)
    check_no_refs(jaxpr)
    program = prepare(flatten(jaxpr), active, active)
    tape = Tape()
    # Only the loss is differentiated, not its auxiliary output.
    live = [True] + [False] * (len(program.outvars) - 1)
    inputs = [Value(leaf, tape.number()) for leaf in leaves]
    outs = tape.run(program, inputs, live)
    value, *aux = [jnp.asarray(out.array) for out in outs]
    return Recorded(
        tape=tape,
        leaves=leaves,
        treedef=treedef,
        value=value,
        aux=eqx.combine(jtu.tree_unflatten(aux_treedef, aux), aux_static),
        number=outs[0].number,
    )
