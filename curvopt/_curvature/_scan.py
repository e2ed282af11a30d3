r"""A `scan`, with the sweeps run inside it.

Its body has its own tape, recorded once, with its arrays stacked over the iterations.
Whatever the body computes from constants alone is recorded once, outside. A scanned network
therefore costs as much as the unrolled one; as a single primitive, it would cost a nested
`jvp`. `Stacking` moves what the body records from one trace into another.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from .. import _sharding
from .._compat import is_traced, ScanParts
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
from ._products import ProductRule
from ._program import flatten, is_variable, Program
from ._rewrites import prepare


class Stacked(eqx.Module):
    """The pytrees of all iterations of a loop as one, with its arrays stacked, except those
    that the iterations share. An array that occurs several times is kept once."""

    stacked: list[Array]
    shared: list[Any]
    # For each leaf: whether it is stacked, and its index in `stacked` or `shared`.
    places: tuple[tuple[bool, int], ...] = eqx.field(static=True)
    treedef: Any = eqx.field(static=True)

    def at(self, slices: Sequence[Any]) -> PyTree:
        """The pytree of one iteration, from that iteration's slices of `stacked`."""
        leaves = [(slices if own else self.shared)[k] for own, k in self.places]
        return jtu.tree_unflatten(self.treedef, leaves)


class Stacking:
    """Takes a pytree apart inside the body of a loop, and reassembles the stack outside.

    **Arguments:**

    - `outside`: arrays of the surrounding trace that the body may close over.
    """

    def __init__(self, outside: PyTree):
        # By identity: tracers cannot be compared by value.
        self._outside = {id(leaf) for leaf in jtu.tree_leaves(outside)}

    def split(self, tree: PyTree) -> list[Array]:
        """The arrays that differ between iterations, for the body to return."""
        leaves, self._treedef = jtu.tree_flatten(tree)
        own: dict[int, tuple[int, Array]] = {}
        self._shared, places = [], []
        for leaf in leaves:
            if id(leaf) in self._outside or not is_traced(leaf):
                places.append((False, len(self._shared)))
                self._shared.append(leaf)
            else:
                place, _ = own.setdefault(id(leaf), (len(own), leaf))
                places.append((True, place))
        self._places = tuple(places)
        return [leaf for _, leaf in own.values()]

    def join(self, stacked: list[Array]) -> Stacked:
        """The stack, from the loop's stacked output of `split`."""
        return Stacked(stacked, self._shared, self._places, self._treedef)


class Constant(NamedTuple):
    """An active value from outside that every iteration uses."""

    number: int
    struct: _sharding.Struct


class Carry(NamedTuple):
    """An active carry of the loop: its numbers outside, before and after the loop (`None`
    if it is constant, or not needed), and inside, at the beginning and end of an
    iteration."""

    before: int | None
    begin: int
    end: int | None
    after: int | None
    struct: _sharding.Struct


class Slice(NamedTuple):
    """An active array that is scanned over or stacked as output: its numbers outside and
    inside."""

    outside: int
    inside: int
    struct: _sharding.Struct  # of one iteration's


class ScanEquation(AbstractEquation):
    """A scan, recorded as the tape of its body."""

    body: Stacked
    constants: tuple[Constant, ...] = eqx.field(static=True)
    carries: tuple[Carry, ...] = eqx.field(static=True)
    scanned: tuple[Slice, ...] = eqx.field(static=True)
    emitted: tuple[Slice, ...] = eqx.field(static=True)
    length: int = eqx.field(static=True)
    reverse: bool = eqx.field(static=True)
    unroll: Any = eqx.field(static=True)
    source: str = eqx.field(static=True)
    # In order: constants, carries before, scanned; carries after, put out.
    inputs: tuple[int, ...] = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    structs: tuple[_sharding.Struct, ...] = eqx.field(static=True)
    splits: bool = eqx.field(static=True)

    def _scan(self, body: Callable, init: PyTree, xs: PyTree, backward: bool) -> Any:
        return jax.lax.scan(
            body,
            init,
            xs,
            length=self.length,
            # The backward sweep takes the iterations in the opposite order.
            reverse=self.reverse != backward,
            unroll=self.unroll,
        )

    def pullback(self, adjoint: Arrays, cut: bool) -> tuple[Arrays, PyTree]:
        given = dict(zip(self.outputs, adjoint, strict=True))
        zeros = lambda s: _sharding.zeros(s.struct)
        carries = [zeros(c) if c.after is None else given[c.after] for c in self.carries]
        constants = [zeros(c) for c in self.constants]
        stacking = Stacking(self.body.shared)

        def body(carry: Any, x: Any) -> Any:
            (carries, constants), (slices, emitted) = carry, x
            adjoints: dict[int, Array] = {}
            ends = [(c.end, a) for c, a in zip(self.carries, carries) if c.end is not None]
            # Not a dictionary: one value may be the end of several carries and outputs.
            accumulate(adjoints, [n for n, _ in ends], [a for _, a in ends])
            accumulate(adjoints, [s.inside for s in self.emitted], emitted)
            kept = run_backward(self.body.at(slices), adjoints, cut)
            of = lambda number, s: adjoints[number] if number in adjoints else zeros(s)
            begins = [of(c.begin, c) for c in self.carries]
            # All iterations use the constants, so their adjoints add up.
            constants = [
                total + adjoints[c.number] if c.number in adjoints else total
                for total, c in zip(constants, self.constants)
            ]
            scanned = [of(s.inside, s) for s in self.scanned]
            return (begins, constants), (scanned, stacking.split(kept))

        emitted = [given[s.outside] for s in self.emitted]
        (carries, constants), (scanned, kept) = self._scan(
            body, (carries, constants), (self.body.stacked, emitted), backward=True
        )
        befores = [a for c, a in zip(self.carries, carries) if c.before is not None]
        return (*constants, *befores, *scanned), stacking.join(kept)

    def advance(self, sweep: AbstractSweep, kept: PyTree, carried: list[PyTree]) -> Any:
        given = dict(zip(self.inputs, carried, strict=True))
        constants = {c.number: given[c.number] for c in self.constants}
        entering = [item for item in carried if item is not None]
        full = lambda item, s: sweep.instantiate(item, s.struct, entering)
        carries = [
            full(None if c.before is None else given[c.before], c) for c in self.carries
        ]
        # `scan` slices the first axis, which the axes of `stack` occupy.
        leading = len(sweep.stack)
        first = lambda a: jnp.moveaxis(a, leading, 0)
        last = lambda a: jnp.moveaxis(a, 0, leading)
        scanned = jtu.tree_map(first, [given[s.outside] for s in self.scanned])

        def body(carries: Any, x: Any) -> Any:
            slices, kept_slices, scanned = x
            inside = dict(constants)
            inside |= {c.begin: item for c, item in zip(self.carries, carries)}
            inside |= {s.inside: item for s, item in zip(self.scanned, scanned)}
            equations = self.body.at(slices)
            own = kept.at(kept_slices) if kept else [NO_ADJOINTS] * len(equations)
            term = sweep.run(equations, own, inside)
            ends = [
                full(None if c.end is None else inside.get(c.end), c) for c in self.carries
            ]
            emitted = [full(inside.get(s.inside), s) for s in self.emitted]
            # The terms are stacked: a carry would need their dtype before they are known.
            return ends, (emitted, term)

        kept_stack = kept.stacked if kept else []
        xs = (self.body.stacked, kept_stack, scanned)
        carries, (emitted, terms) = self._scan(body, carries, xs, backward=False)
        afters = [item for c, item in zip(self.carries, carries) if c.after is not None]
        return [*afters, *jtu.tree_map(last, emitted)], jnp.sum(terms, axis=0)

    def report(self, how: ProductRule) -> list[EquationReport]:
        slices = [jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in self.body.stacked]
        body = self.body.at(slices)
        inner = [line for equation in body for line in equation.report(how)]
        return [EquationReport("scan", "scan", self.source), *inner]


def _fixed_point(
    program: Program,
    n_const: int,
    active: Sequence[bool],
    live: Sequence[bool],
    n_carry: int,
) -> tuple[list[bool], list[bool]]:
    """Which carries are active, and which outputs of the body are live: the fixed point of
    passing both round the loop."""
    consts, carries, xs = (
        list(active[:n_const]),
        list(active[n_const : n_const + n_carry]),
        list(active[n_const + n_carry :]),
    )
    ends = program.outvars[:n_carry]
    begins = program.invars[n_const : n_const + n_carry]
    while True:
        reached = program.active([*consts, *carries, *xs])
        grown = [a or (is_variable(v) and v in reached) for a, v in zip(carries, ends)]
        if grown == carries:
            break
        carries = grown
    live_carries, live_ys = list(live[:n_carry]), list(live[n_carry:])
    while True:
        needed = program.live([*live_carries, *live_ys])
        grown = [is_live or v in needed for is_live, v in zip(live_carries, begins)]
        if grown == live_carries:
            return carries, [*live_carries, *live_ys]
        live_carries = grown


def record_scan(
    parts: ScanParts,
    operands: Sequence[Value],
    live: Sequence[bool],
    source: str,
    tape: Any,
) -> tuple[ScanEquation, list[Value]]:
    """Sweep 1: run a scan, recording its body.

    **Arguments:**

    - `parts`: the scan, taken apart.
    - `operands`: its operands as values of the tape.
    - `live`: which outputs are differentiated.
    - `source`: the line of the scan in the user's code.
    - `tape`: the enclosing tape, which records whatever is constant in the body.

    **Returns:**

    The equation, and the outputs as values of the tape.
    """
    n_const, n_carry = parts.num_consts, parts.num_carry
    program = flatten(parts.jaxpr, source)
    consts, init, xs = (
        list(operands[:n_const]),
        list(operands[n_const : n_const + n_carry]),
        list(operands[n_const + n_carry :]),
    )
    active = [o.number is not None for o in operands]
    active_carries, live_ends = _fixed_point(program, n_const, active, live, n_carry)
    active[n_const : n_const + n_carry] = active_carries
    n_varying = len(operands) - n_const
    program = prepare(program, active, [True] * n_const + [False] * n_varying)

    # Loop invariants are evaluated here, once.
    varying = [Value(None, None, known=False)] * n_varying
    hoisted = tape.hoist(program, [*consts, *varying], live_ends)

    begins = [tape.number() if active else None for active in active_carries]
    insides = [None if x.number is None else tape.number() for x in xs]
    stacking = Stacking([consts, hoisted])
    ends: list[int | None] = []
    structs: list[_sharding.Struct] = []
    slice_structs: list[_sharding.Struct] = []
    equations: list[AbstractEquation] = []

    def body(carry: Any, x: Any) -> Any:
        inner = tape.child()
        inputs = [
            *consts,
            *(Value(a, n, known=False) for a, n in zip(carry, begins)),
            *(Value(a, n, known=False) for a, n in zip(x, insides)),
        ]
        outs = inner.run(program, inputs, live_ends, iter(hoisted))
        # A scan may trace its body more than once: overwrite, do not append.
        ends[:], equations[:] = [o.number for o in outs], inner.equations
        arrays = [jnp.asarray(o.array) for o in outs]
        structs[:] = map(_sharding.struct_of, arrays)
        slice_structs[:] = map(_sharding.struct_of, x)
        return arrays[:n_carry], (arrays[n_carry:], stacking.split(inner.equations))

    carry, (ys, stacked) = jax.lax.scan(
        body,
        [jnp.asarray(o.array) for o in init],
        [o.array for o in xs],
        length=parts.length,
        reverse=parts.reverse,
        unroll=parts.unroll,
    )

    used = {number for e in equations for number in e.inputs} | set(ends)
    common = [v for group in (consts, *hoisted) for v in group]
    shared = {v.number: v.array for v in common if v.number is not None}
    constants = [
        Constant(number, _sharding.struct_of(shared[number]))
        for number in sorted(shared.keys() & used)
    ]
    carries, outputs = [], []
    for value, begin, end, last, needed in zip(init, begins, ends, carry, live):
        after = None
        if begin is not None:
            after = tape.number() if needed else None
            struct = _sharding.struct_of(last)
            carries.append(Carry(value.number, begin, end, after, struct))
        outputs.append(Value(last, after))
    scanned = [
        Slice(x.number, inside, struct)
        for x, inside, struct in zip(xs, insides, slice_structs)
        if x.number is not None and inside is not None
    ]
    emitted, emitted_arrays = [], []
    for k, y in enumerate(ys, n_carry):
        outside, end = None, ends[k]
        if live[k] and end is not None:
            outside = tape.number()
            emitted.append(Slice(outside, end, structs[k]))
            emitted_arrays.append(y)
        outputs.append(Value(y, outside))

    lasts = [c for c in carries if c.after is not None]
    equation = ScanEquation(
        body=stacking.join(stacked),
        constants=tuple(constants),
        carries=tuple(carries),
        scanned=tuple(scanned),
        emitted=tuple(emitted),
        length=parts.length,
        reverse=parts.reverse,
        unroll=parts.unroll,
        source=source,
        inputs=(
            *(c.number for c in constants),
            *(c.before for c in carries if c.before is not None),
            *(s.outside for s in scanned),
        ),
        outputs=(*(c.after for c in lasts), *(s.outside for s in emitted)),
        structs=(
            *(c.struct for c in lasts),
            *map(_sharding.struct_of, emitted_arrays),
        ),
        splits=any(e.splits for e in equations),
    )
    return equation, outputs
