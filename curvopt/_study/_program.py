"""The compiled programs of a strategy, and XLA's analysis of them."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .._problem import AbstractProblem
from .._tree import join_static, split_static
from ._feed import BATCHES, Feed
from ._fingerprint import fingerprint
from ._host import side_by_side
from ._lane import begin, draw, Lane, Lanes, Origin, seed_key, to_device
from ._sharding import AXIS
from ._steps import dispatch, evaluate, Layout, Loop, scan, Static


# The most bytes for the history of a chunk on the device, and the size of a row of it.
_HISTORY_BYTES, _ROW_BYTES = 2**25, 80

# Operations and bytes per second that any machine achieves.
_SLOW_FLOPS, _SLOW_BYTES = 5e9, 2e9


def lowered_draw(problem: AbstractProblem) -> Any:
    """The initialisation of a problem, lowered."""
    dynamic, static = split_static(problem)

    def start(dynamic: Any, key: PRNGKeyArray) -> Any:
        start = draw(join_static(dynamic, static), Origin(key))
        return eqx.filter(start, eqx.is_array)

    return jax.jit(start).lower(dynamic, seed_key(0))


def _lowered_begin(lanes: Lanes) -> Any:
    """The start of a strategy, lowered."""
    dynamic, static = split_static((lanes.solver_of(0), lanes.start))

    def lane(dynamic: Any) -> Any:
        return eqx.filter(begin(*join_static(dynamic, static)), eqx.is_array)

    def struct(x: Any) -> jax.ShapeDtypeStruct:
        # Without the devices that an array is on.
        weak = getattr(x, "weak_type", False)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=weak)

    return jax.jit(lane).lower(jtu.tree_map(struct, dynamic))


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

    - `lanes`: the strategy's lanes, for structure and shapes.
    - `layout`: how the lanes of a group are placed on the devices.
    - `loop`: `"scan"`, many steps in one call, or `"dispatch"`, a call for each step.
    - `longest`: the most steps in one chunk.
    """

    def __init__(self, lanes: Lanes, layout: Layout, loop: Loop, longest: int):
        problem = lanes.problem
        if layout.sharding is not None:
            problem = layout.sharding.spread(problem)
        dynamic, problem_rest = split_static(problem)
        self._problem = jax.device_put(dynamic, layout.everywhere)
        self._solver, solver_rest = split_static(lanes.solver)
        self._lane, lane_rest = split_static(lanes.first)
        self._state_rest = split_static(lanes.first.model_state)[1]
        self._lanes, self._data = lanes, lanes.problem.host_data
        example = functools.partial(lanes.problem.example_batch, seed_key(0))
        self._batch = None if self._data is None else jax.eval_shape(example)
        self._static = Static(problem_rest, solver_rest, lane_rest, layout, longest)
        self.layout, self.longest = layout, longest
        self.loop: Loop = loop

    def _with_width(self, width: int) -> Layout:
        return dataclasses.replace(self.layout, width=width)

    def _structs(self, width: int | None = None) -> tuple[Any, Any, Any]:
        """The shapes and shardings of problem, solver and lanes."""
        layout = self.layout if width is None else self._with_width(width)

        def struct(x: Any, sharding: Any, lanes: bool) -> Any:
            shape = (layout.lanes, *x.shape) if lanes else x.shape
            # A weak type would compile to another program. Lanes come from the host, where
            # all types are strong.
            weak = not lanes and getattr(x, "weak_type", False)
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding, weak_type=weak)

        solver_at = layout.over_lanes if layout.per_lane else layout.everywhere
        arrays = jtu.tree_leaves(self._lane)
        return (
            jtu.tree_map(lambda x: struct(x, layout.everywhere, False), self._problem),
            jtu.tree_map(
                lambda x: struct(
                    x[0] if layout.per_lane else x, solver_at, layout.per_lane
                ),
                self._solver,
            ),
            jtu.tree_unflatten(
                jtu.tree_structure(self._lane),
                [
                    struct(x, sharding, True)
                    for x, sharding in zip(arrays, layout.of_lanes(arrays))
                ],
            ),
        )

    @functools.cached_property
    def _lowered(self) -> Any:
        layout = self.layout
        bound = jax.ShapeDtypeStruct((), jnp.int32, sharding=layout.everywhere)
        if self.loop == "scan":
            return scan(self._static).lower(*self._structs(), bound, bound)

        def batches(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            shape = (layout.lanes, *x.shape)
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=layout.over_lanes)

        data = jtu.tree_map(batches, self._batch)
        return dispatch(self._static).lower(*self._structs(), bound, data)

    @functools.cached_property
    def _compiled(self) -> tuple[Any, float]:
        began = time.perf_counter()
        compiled = self._lowered.compile()
        return compiled, time.perf_counter() - began

    @property
    def compile_seconds(self) -> float:
        """The time to trace, lower and compile; it compiles first if necessary."""
        return self._compiled[1]

    @property
    def seconds_at_most(self) -> float:
        """A rough upper bound on the time of a step, from XLA's count of operations and
        transfers on a slow machine; `nan` if the backend reports none."""
        costs = self._compiled[0].cost_analysis() or {}
        flops, moved = (costs.get(k, math.nan) for k in ("flops", "bytes accessed"))
        return flops / _SLOW_FLOPS + moved / _SLOW_BYTES

    @property
    def bytes(self) -> float:
        """The memory that it needs on one device, by XLA's own analysis: inputs, outputs
        and temporaries; and that of batches that wait. `nan` if the backend reports
        none."""
        leaves = jtu.tree_leaves(self._batch)
        batch = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
        return _bytes(self._compiled[0]) + BATCHES * self.layout.width * batch

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of a strategy's start, its steps and the evaluation, for any number of
        devices."""
        layout = self.layout.on_one_device
        if layout != self.layout:
            return Program(self._lanes, layout, self.loop, self.longest).fingerprint
        evaluation = self._lowered_evaluation(self.layout.width)
        return fingerprint(_lowered_begin(self._lanes), self._lowered, evaluation)

    def _bound(self, n: int) -> Array:
        return jax.device_put(np.int32(n), self.layout.everywhere)

    def place(
        self, runs: Int[np.ndarray, " n"], saved: Sequence[list[np.ndarray]] | None
    ) -> tuple[PyTree[Array], Lane]:
        """Place a group of runs on its devices. A group that is not full is padded with its
        own lanes.

        **Arguments:**

        - `runs`: the indices of the runs.
        - `saved`: the saved arrays of their lanes; `None` for lanes at their start.

        **Returns:**

        The arrays of their solver, and their lanes.
        """
        lanes, layout = self._lanes, self.layout
        full = np.resize(np.arange(len(runs)), layout.lanes)
        if saved is None:
            arrays = lanes.stacked(runs[full])
        else:
            arrays = [np.stack(xs) for xs in zip(*(saved[k] for k in full.tolist()))]
        where = layout.over_lanes if layout.per_lane else layout.everywhere
        solver = eqx.filter(lanes.solvers(runs[full]), eqx.is_array)
        return (
            jax.device_put(solver, where),
            to_device(arrays, lanes.first, layout.of_lanes(arrays)),
        )

    def feed(self, runs: Int[np.ndarray, " n"], first: int, last: int) -> Feed | None:
        """The batches from the host for steps `first .. last - 1` of a group of runs;
        `None` if the data are on the device."""
        if self._data is None:
            return None
        each = self._lanes.solver.line_search.steps_per_batch
        seeds = self._lanes.seeds(np.resize(runs, self.layout.lanes))
        batches = range(first // each, -(-last // each))
        return Feed(self._data, seeds, self.layout, self._batch, batches, each)

    def first_batch(self) -> Callable[[int], PyTree[Array]] | None:
        """The same batch for all lanes and steps, to measure without loading any."""
        if self._data is None:
            return None
        each = lambda x, s: np.broadcast_to(x, (self.layout.lanes, *x.shape)).astype(
            s.dtype
        )
        stacked = jtu.tree_map(each, self._data.first, self._batch)
        batch = jax.device_put(stacked, self.layout.over_lanes)
        return lambda step: batch

    def by_seed(self, runs: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Runs in the order in which they are grouped: with data from the host those of
        a seed together, so that few groups ask for its batches."""
        if self._data is None:
            return runs
        return runs[np.argsort(self._lanes.seeds(runs), kind="stable")]

    def advance(
        self,
        solver: PyTree[Array],
        lanes: Lane,
        first: int,
        last: int,
        feed: Callable[[int], PyTree[Array]] | None = None,
    ) -> tuple[Lane, dict[str, np.ndarray]]:
        """Make steps `first .. last - 1`, at most `longest`. The lanes are donated.

        **Returns:**

        The lanes, and the history as NumPy arrays of shape `(last - first, lanes)`. It ends
        before a step whose batch cannot be had, unless that is the first one.
        """
        dynamic, rest = split_static(lanes)
        # Call the executable itself: another thread may have other jax settings (x64 and
        # the like), under which the jitted function would be retraced as another program.
        compiled, fixed = self._compiled[0], (self._problem, solver)
        if self.loop == "scan":
            bounds = self._bound(first), self._bound(last)
            dynamic, history = compiled(*fixed, dynamic, *bounds)
            history = jax.device_get(history)
            history = {k: np.asarray(x)[: last - first] for k, x in history.items()}
        else:
            rows = []
            for count in range(first, last):
                try:
                    data = None if feed is None else feed(count)
                except Exception:
                    if not rows:
                        raise
                    break
                dynamic, row = compiled(*fixed, dynamic, self._bound(count), data)
                rows.append(row)
                if feed is not None and len(rows) > 1:
                    # Steps that only wait for the device would hold their batches.
                    jax.block_until_ready(rows[-2])
            rows = jax.device_get(rows)
            history = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
        return join_static(jax.block_until_ready(dynamic), rest), history

    def _lowered_evaluation(self, width: int) -> Any:
        """The evaluation of `width` lanes on each device, lowered."""
        problem, _, lanes = self._structs(width)
        static = self._static.problem, self._state_rest, self._with_width(width)
        return evaluate(static).lower(problem, lanes.params, lanes.model_state)

    def _evaluation(self, width: int) -> Any:
        return self._lowered_evaluation(width).compile()

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
        """Compile the step and the evaluation, unless they are compiled already."""
        _ = self._compiled
        _ = self._evaluate_all if evaluate_at_once else self._evaluate_one

    def evaluate(self, lanes: Lane, at_once: bool = True) -> Any:
        """Evaluate the problem's metrics, as arrays of shape `(lanes,)`.

        **Arguments:**

        - `lanes`: the lanes.
        - `at_once`: whether to evaluate them together, or one after another.
        """
        arrays = lanes.answer, eqx.filter(lanes.model_state, eqx.is_array)
        layout = self.layout
        if at_once:
            return jax.device_get(self._evaluate_all(self._problem, *arrays))
        leaves, structure = jtu.tree_flatten(arrays)
        places, rows = layout.of_lanes(leaves), []
        for k in range(layout.width):  # the k-th lane of each device
            own = jax.device_put([x[k :: layout.width] for x in leaves], places)
            one = jtu.tree_unflatten(structure, own)
            rows.append(jax.device_get(self._evaluate_one(self._problem, *one)))
        merge = lambda *xs: np.stack(xs, axis=1).reshape(layout.lanes, *xs[0].shape[1:])
        return jtu.tree_map(merge, *rows)


class Programs:
    """The programs of a strategy, each compiled on first use.

    **Arguments:**

    - `lanes`: the strategy's lanes.
    - `devices`: the devices on which they run side by side.
    - `longest`: the most steps in one chunk.

    **Attributes:**

    - `from_host`: whether the data come from the host.
    """

    def __init__(self, lanes: Lanes, devices: Sequence[Any], longest: int):
        if jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(
                "jax_disable_jit is on, but studies and `train` run compiled programs. "
                "Turn it off for them. To look into a loss step by step, call "
                "`problem.loss(params, (batch, model_state, key))` with it on."
            )
        self._lanes, self._devices, self._longest = lanes, tuple(devices), longest
        self.from_host = lanes.problem.host_data is not None
        self._known: dict[tuple[Loop, int, int], Program] = {}

    def __call__(self, loop: Loop, width: int, longest: int | None = None) -> Program:
        """The program of a loop over `width` lanes at once; give `longest` to repeat an
        earlier choice."""
        if longest is None:
            fitting = _HISTORY_BYTES // (_ROW_BYTES * width)
            longest = max(1, min(self._longest, fitting))
        key = loop, width, longest
        if key not in self._known:
            only_default = self._devices == (jax.local_devices()[0],)
            mesh = None if only_default else Mesh(np.array(self._devices), (AXIS,))
            layout = Layout(width, self._lanes.family, mesh)
            if (sharding := self._lanes.sharding) is not None:
                first = self._lanes.first
                layout = dataclasses.replace(
                    layout,
                    mesh=sharding.with_lanes,
                    sharding=sharding,
                    specs=sharding.specs(first.params, first),
                )
            self._known[key] = Program(self._lanes, layout, loop, longest)
        return self._known[key]

    @property
    def compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self._known.values())

    def time(self, program: Program, workers: int, steps: int) -> float:
        """The seconds that the first steps of `workers` groups side by side take."""
        runs = np.resize(np.arange(len(self._lanes)), program.layout.lanes)
        tasks = []
        for _ in range(workers):
            solver, group = program.place(runs, None)
            jax.block_until_ready(eqx.filter(group, eqx.is_array))
            batch = program.first_batch()
            make = functools.partial(program.advance, solver, group, 0, steps, batch)
            tasks.append(make)
        began = time.perf_counter()
        side_by_side(tasks)
        return time.perf_counter() - began
