"""The compiled programs of a strategy: steps of a group of lanes, and their evaluation."""

import dataclasses
import functools
import hashlib
import math
import re
import time
from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from .._tree import join_static, split_static
from . import _record
from ._lane import Lane, step


Loop: TypeAlias = Literal["scan", "dispatch"]

_AXIS = "lanes"

# Operations and bytes a second that any machine manages.
_SLOW_FLOPS, _SLOW_BYTES = 5e9, 2e9


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the lanes of a group lie on the devices.

    **Attributes:**

    - `width`: how many lanes a device runs at once, vmapped; 1 is no vmap at all.
    - `per_lane`: whether the solver's hyper-parameters differ from lane to lane.
    - `mesh`: the devices; `None` for the default one.
    """

    width: int
    per_lane: bool
    mesh: Mesh | None = None

    @property
    def lanes(self) -> int:
        """How many lanes a group has."""
        return self.width * (1 if self.mesh is None else self.mesh.size)

    @property
    def over_lanes(self) -> NamedSharding | None:
        """Where arrays with an axis of lanes go."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec(_AXIS))

    @property
    def everywhere(self) -> NamedSharding | None:
        """Where arrays that all lanes share go."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec())


@dataclasses.dataclass(frozen=True)
class _Static:
    """What a program is compiled for, beside the shapes of its arrays."""

    problem: Hashable
    solver: Hashable
    lanes: Hashable
    layout: Layout
    longest: int


def _squeezed(tree: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(lambda x: jnp.squeeze(x, 0), tree)


def _sharded(layout: Layout, fn: Callable, in_specs: tuple, out_specs: Any) -> Callable:
    """`fn` on each device's own lanes: no device waits for another."""
    if layout.mesh is None:
        return fn
    return jax.shard_map(
        fn, mesh=layout.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


_LANES, _ALL = PartitionSpec(_AXIS), PartitionSpec()


def _local_step(static: _Static) -> Callable:
    """`(problem, solver, lanes, count) -> (lanes, row)` on one device's lanes, all pytrees
    of arrays. Without vmap, lanes have no axis."""

    def one(problem: Any, solver: Any, lane: Any, count: Int[Array, ""]) -> Any:
        new, row = step(
            join_static(problem, static.problem),
            join_static(solver, static.solver),
            join_static(lane, static.lanes),
            count,
        )
        return eqx.filter(new, eqx.is_array), _record.flat(*row)

    if static.layout.width == 1:
        return one
    return jax.vmap(one, in_axes=(None, 0 if static.layout.per_lane else None, 0, None))


def _without_axis(static: _Static, solver: Any, lanes: Any) -> tuple[Any, Any]:
    """A single lane, and its solver, as they are without vmap."""
    if static.layout.width > 1:
        return solver, lanes
    return _squeezed(solver) if static.layout.per_lane else solver, _squeezed(lanes)


def _with_axis(static: _Static, tree: Any, axis: int = 0) -> Any:
    if static.layout.width > 1:
        return tree
    return jtu.tree_map(lambda x: jnp.expand_dims(x, axis), tree)


def _specs(static: _Static, *more: PartitionSpec) -> tuple[PartitionSpec, ...]:
    return (_ALL, _LANES if static.layout.per_lane else _ALL, _LANES, *more)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _scan(
    static: _Static,
    problem: Any,
    solver: Any,
    lanes: Any,
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> tuple[Any, dict[str, Array]]:
    """Steps `first .. last - 1` in one program. The bounds are data: chunks of any length
    up to the longest run the same program. Of the history, as long as the longest chunk,
    the first `last - first` rows are filled."""

    def local(problem: Any, solver: Any, lanes: Any, first: Any, last: Any) -> Any:
        solver, lanes = _without_axis(static, solver, lanes)
        # Traced once, for the shapes of a row and for the loop.
        stepper = eqx.filter_closure_convert(
            _local_step(static), problem, solver, lanes, first
        )
        _, row = stepper.out_struct  # pyright: ignore[reportFunctionMemberAccess]
        history = jtu.tree_map(
            lambda s: jnp.zeros((static.longest, *s.shape), s.dtype), row
        )

        def body(count: Int[Array, ""], carry: Any) -> Any:
            lanes, history = carry
            lanes, row = stepper(problem, solver, lanes, count)
            history = jtu.tree_map(lambda h, x: h.at[count - first].set(x), history, row)
            return lanes, history

        lanes, history = jax.lax.fori_loop(first, last, body, (lanes, history))
        return _with_axis(static, lanes), _with_axis(static, history, axis=1)

    out_specs = _LANES, PartitionSpec(None, _AXIS)
    fn = _sharded(static.layout, local, _specs(static, _ALL, _ALL), out_specs)
    return fn(problem, solver, lanes, first, last)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=3)
def _dispatch(
    static: _Static, problem: Any, solver: Any, lanes: Any, count: Int[Array, ""]
) -> tuple[Any, dict[str, Array]]:
    """One step, and its row of the history."""

    def local(problem: Any, solver: Any, lanes: Any, count: Any) -> Any:
        solver, lanes = _without_axis(static, solver, lanes)
        out = _local_step(static)(problem, solver, lanes, count)
        return _with_axis(static, out)

    fn = _sharded(static.layout, local, _specs(static, _ALL), (_LANES, _LANES))
    return fn(problem, solver, lanes, count)


# Of a strategy it sees the parameters only: one program serves all strategies.
@functools.partial(jax.jit, static_argnums=0)
def _evaluate(static: Any, problem: Any, params: Any, model_state: Any) -> Any:
    problem_rest, state_rest, layout = static

    def one(problem: Any, params: Any, model_state: Any) -> Any:
        problem = join_static(problem, problem_rest)
        metrics = problem.evaluate(params, join_static(model_state, state_rest))
        return jtu.tree_map(_record.storable, metrics)

    def local(problem: Any, params: Any, model_state: Any) -> Any:
        if layout.width == 1:
            out = one(problem, _squeezed(params), _squeezed(model_state))
            return jtu.tree_map(lambda x: jnp.expand_dims(x, 0), out)
        return jax.vmap(one, in_axes=(None, 0, 0))(problem, params, model_state)

    fn = _sharded(layout, local, (_ALL, _LANES, _LANES), _LANES)
    return fn(problem, params, model_state)


def _lines(program: str) -> set[str]:
    """A program's operations, without the names that jax numbers as it goes along."""
    program = re.sub(r"#loc.*|loc\(.*?\)|[%@][\w.]+(#\d+)?(:\d+)?", "", program)
    return {line.strip() for line in program.splitlines()}


def _bytes(compiled: Any) -> float:
    memory = compiled.memory_analysis()
    if memory is None:
        return math.nan
    return float(
        memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )


class Program:
    """The steps of a group of lanes, compiled.

    **Arguments:**

    - `problem`: the problem.
    - `solver`: the solver; its arrays have an axis of lanes in front if they are
        `layout.per_lane`.
    - `lane`: one lane, for structure and shapes.
    - `layout`: how the lanes lie on the devices.
    - `loop`: `"scan"`, many steps in one call, or `"dispatch"`, a call for each step.
    - `longest`: the most steps between two looks.
    """

    def __init__(
        self,
        problem: AbstractProblem,
        solver: LineSearchMinimiser,
        lane: Lane,
        layout: Layout,
        loop: Loop,
        longest: int,
    ):
        dynamic, problem_rest = split_static(problem)
        self._problem = jax.device_put(dynamic, layout.everywhere)
        self._solver, solver_rest = split_static(solver)
        self._lane, lane_rest = split_static(lane)
        self._state_rest = split_static(lane.model_state)[1]
        self._static = _Static(problem_rest, solver_rest, lane_rest, layout, longest)
        self.layout, self.loop, self.longest = layout, loop, longest

    def _with_width(self, width: int) -> Layout:
        return dataclasses.replace(self.layout, width=width)

    def _structs(self, width: int | None = None) -> tuple[Any, Any, Any]:
        """Shapes and places of problem, solver and lanes."""
        layout = self.layout if width is None else self._with_width(width)

        def struct(x: Any, sharding: Any, lanes: bool) -> Any:
            shape = (layout.lanes, *x.shape) if lanes else x.shape
            # A program for another type would be another program. Lanes come from the
            # host, and are strongly typed.
            weak = not lanes and getattr(x, "weak_type", False)
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding, weak_type=weak)

        solver_at = layout.over_lanes if layout.per_lane else layout.everywhere
        return (
            jtu.tree_map(lambda x: struct(x, layout.everywhere, False), self._problem),
            jtu.tree_map(
                lambda x: struct(
                    x[0] if layout.per_lane else x, solver_at, layout.per_lane
                ),
                self._solver,
            ),
            jtu.tree_map(lambda x: struct(x, layout.over_lanes, True), self._lane),
        )

    @functools.cached_property
    def _lowered(self) -> Any:
        bound = jax.ShapeDtypeStruct((), jnp.int32, sharding=self.layout.everywhere)
        if self.loop == "scan":
            return _scan.lower(self._static, *self._structs(), bound, bound)
        return _dispatch.lower(self._static, *self._structs(), bound)

    @functools.cached_property
    def _compiled(self) -> tuple[Any, float]:
        began = time.perf_counter()
        compiled = self._lowered.compile()
        return compiled, time.perf_counter() - began

    @property
    def compile_seconds(self) -> float:
        """How long it took to trace, lower and compile; compiles if that was not done."""
        return self._compiled[1]

    @property
    def seconds_at_most(self) -> float:
        """How long a step can take at most, or nearly, by XLA's count of operations and
        transfers on a slow machine; `nan` where the backend gives none."""
        costs = self._compiled[0].cost_analysis() or {}
        flops, moved = (costs.get(k, math.nan) for k in ("flops", "bytes accessed"))
        return flops / _SLOW_FLOPS + moved / _SLOW_BYTES

    @property
    def bytes(self) -> float:
        """The memory that it needs on one device, by XLA's own analysis: inputs, outputs
        and temporaries. `nan` where the backend gives none."""
        return _bytes(self._compiled[0])

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of what the program does: of its operations, types and constants."""
        lines = "\n".join(sorted(_lines(self._lowered.as_text())))
        return hashlib.sha256(lines.encode()).hexdigest()

    def _bound(self, n: int) -> Array:
        return jax.device_put(np.int32(n), self.layout.everywhere)

    def place_solver(self, solver: LineSearchMinimiser) -> PyTree[Array]:
        """A group's solver on its devices."""
        layout = self.layout
        where = layout.over_lanes if layout.per_lane else layout.everywhere
        return jax.device_put(eqx.filter(solver, eqx.is_array), where)

    def advance(
        self, solver: PyTree[Array], lanes: Lane, first: int, last: int
    ) -> tuple[Lane, dict[str, np.ndarray]]:
        """Make steps `first .. last - 1`, at most `longest`. The lanes are used up.

        **Returns:**

        The lanes, and the history as NumPy arrays of shape `(last - first, lanes)`.
        """
        dynamic, rest = split_static(lanes)
        # The executable itself: in another thread jax's settings (x64 and the like) may be
        # others, and a call of the jitted function would be another program.
        compiled, fixed = self._compiled[0], (self._problem, solver)
        if self.loop == "scan":
            bounds = self._bound(first), self._bound(last)
            dynamic, history = compiled(*fixed, dynamic, *bounds)
            history = jax.device_get(history)
            history = {k: np.asarray(x)[: last - first] for k, x in history.items()}
        else:
            rows = []
            for count in range(first, last):
                dynamic, row = compiled(*fixed, dynamic, self._bound(count))
                rows.append(row)
            rows = jax.device_get(rows)
            history = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
        return join_static(jax.block_until_ready(dynamic), rest), history

    def _evaluation(self, width: int) -> Any:
        """The compiled evaluation of so many lanes on each device."""
        problem, _, lanes = self._structs(width)
        static = self._static.problem, self._state_rest, self._with_width(width)
        arguments = problem, lanes.params, lanes.model_state
        return _evaluate.lower(static, *arguments).compile()

    @functools.cached_property
    def _evaluate_all(self) -> Any:
        return self._evaluation(self.layout.width)

    @functools.cached_property
    def _evaluate_one(self) -> Any:
        return self._evaluation(1)

    @property
    def evaluation_bytes(self) -> float:
        """The memory that the evaluation of all lanes at once needs on one device."""
        return _bytes(self._evaluate_all)

    def compile(self, evaluate_at_once: bool) -> None:
        """Compile whatever is not compiled yet."""
        _ = self._compiled
        _ = self._evaluate_all if evaluate_at_once else self._evaluate_one

    def evaluate(self, lanes: Lane, at_once: bool = True) -> Any:
        """The problem's metrics, arrays of shape `(lanes,)`.

        **Arguments:**

        - `lanes`: the lanes.
        - `at_once`: whether to evaluate them together, or one after another.
        """
        arrays = lanes.params, eqx.filter(lanes.model_state, eqx.is_array)
        layout, place = self.layout, self.layout.over_lanes
        if at_once:
            return jax.device_get(self._evaluate_all(self._problem, *arrays))
        rows = []
        for k in range(layout.width):  # of each device its k-th lane
            each = lambda x, k=k: jax.device_put(x[k :: layout.width], place)
            one = jtu.tree_map(each, arrays)
            rows.append(jax.device_get(self._evaluate_one(self._problem, *one)))
        merge = lambda *xs: np.stack(xs, axis=1).reshape(layout.lanes, *xs[0].shape[1:])
        return jtu.tree_map(merge, *rows)
