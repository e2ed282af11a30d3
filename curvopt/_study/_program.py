"""The compiled programs of a strategy, and what XLA says of them."""

import dataclasses
import functools
import hashlib
import math
import re
import time
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from .._tree import join_static, split_static
from ._lane import Lane
from ._layout import Layout
from ._steps import dispatch, evaluate, scan, Static


Loop: TypeAlias = Literal["scan", "dispatch"]

# Operations and bytes a second that any machine manages.
_SLOW_FLOPS, _SLOW_BYTES = 5e9, 2e9


def fingerprint(*programs: Any) -> str:
    """A digest of what lowered programs do: of their operations, types and constants, in
    order. Names, which jax numbers as it goes along, count by where they come first."""
    found = hashlib.sha256()
    for program in programs:
        text = re.sub(r"#loc.*|loc\(.*?\)", "", program.as_text())
        seen: dict[str, str] = {}
        number = lambda match, seen=seen: seen.setdefault(match[0], f"%{len(seen)}")
        found.update(re.sub(r"[%@][\w.]+", number, text).encode())
    return found.hexdigest()


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
        self._static = Static(problem_rest, solver_rest, lane_rest, layout, longest)
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
            return scan.lower(self._static, *self._structs(), bound, bound)
        return dispatch.lower(self._static, *self._structs(), bound)

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
        """A digest of its steps and of its evaluation."""
        return fingerprint(self._lowered, self._lowered_evaluation(self.layout.width))

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

    def _lowered_evaluation(self, width: int) -> Any:
        """The evaluation of so many lanes on each device."""
        problem, _, lanes = self._structs(width)
        static = self._static.problem, self._state_rest, self._with_width(width)
        return evaluate.lower(static, problem, lanes.params, lanes.model_state)

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
