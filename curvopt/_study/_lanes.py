"""Many lanes of a strategy: points of a grid times seeds, in groups of one size."""

import dataclasses
import functools

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int

from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from . import _lane
from ._host import to_host


@dataclasses.dataclass(frozen=True)
class Lanes:
    """The lanes of a strategy: which solver, from which key.

    **Attributes:**

    - `solver`: the solver; with `per_lane`, its arrays have an axis in front, of the points
        of a grid.
    - `keys`: random keys.
    - `point`, `seed`: of each lane, which of the solver's points and which of the keys.
    - `per_lane`: whether the solver has points.
    """

    solver: LineSearchMinimiser
    keys: Array
    point: Int[np.ndarray, " lanes"]
    seed: Int[np.ndarray, " lanes"]
    per_lane: bool

    def __len__(self) -> int:
        return len(self.seed)

    def solvers(self, chosen: Int[np.ndarray, " n"]) -> LineSearchMinimiser:
        """The solver of some lanes, with an axis of lanes if it has points."""
        if not self.per_lane:
            return self.solver
        take = lambda x: x[self.point[chosen]] if eqx.is_array(x) else x
        return jtu.tree_map(take, self.solver)

    def start(self, problem: AbstractProblem, k: int) -> _lane.Lane:
        """A lane at its start."""
        return _lane.lane(self._solver_of(k), _lane.start(problem, self.keys[self.seed[k]]))

    def _solver_of(self, k: int) -> LineSearchMinimiser:
        at = lambda x: np.asarray(x[self.point[k]]) if eqx.is_array(x) else x
        return jtu.tree_map(at, self._on_host) if self.per_lane else self.solver

    @functools.cached_property
    def _on_host(self) -> LineSearchMinimiser:
        # A point is taken of arrays on the host at once; on a device it is a call for each.
        to_host = lambda x: np.asarray(x) if eqx.is_array(x) else x
        return jtu.tree_map(to_host, self.solver)

    def started(
        self, problem: AbstractProblem, chosen: Int[np.ndarray, " n"]
    ) -> list[np.ndarray]:
        """The arrays of some lanes at their start, stacked."""
        lanes = np.unique(chosen).tolist()
        starts = {
            seed: _lane.start(problem, self.keys[seed])
            for seed in np.unique(self.seed[lanes]).tolist()
        }
        of = lambda k: _lane.lane(self._solver_of(k), starts[int(self.seed[k])])
        arrays = {k: to_host(of(k)) for k in lanes}
        return [np.stack(xs) for xs in zip(*(arrays[k] for k in chosen.tolist()))]


def groups(lanes: int, size: int) -> list[Int[np.ndarray, " size"]]:
    """Lanes in groups of one size; the last is filled up with lanes that it has already."""
    found = []
    for first in range(0, lanes, size):
        own = np.arange(first, min(first + size, lanes))
        found.append(np.resize(own, size))
    return found
