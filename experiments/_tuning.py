"""The baseline: the best learning rate of a grid, with and without a schedule."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import optax
import xarray as xr

import curvopt
from strategies import LearningRate

from ._catalogue import Direction


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What tuning chose for one direction.

    **Attributes:**

    - `learning_rate`: the best rate of the grid.
    - `schedule`: `"constant"` or `"cosine"`.
    - `at_edge`: whether the rate is the smallest or largest of the grid.
    - `cost`: gradient-equivalents spent on this direction, all runs together.
    """

    learning_rate: float
    schedule: str
    at_edge: bool
    cost: float

    def solver(
        self, direction: curvopt.AbstractDirection, steps: int
    ) -> curvopt.LineSearchMinimiser:
        """The tuned baseline."""
        rule = LearningRate(self.learning_rate, _schedules(steps)[self.schedule])
        return curvopt.LineSearchMinimiser(direction, rule)


def _schedules(steps: int) -> dict[str, optax.Schedule | None]:
    return {"constant": None, "cosine": optax.cosine_decay_schedule(1.0, steps)}


def tune(
    problem: curvopt.AbstractProblem,
    directions: Mapping[str, Direction],
    *,
    metric: str,
    rates: int,
    seeds: list[int],
    steps: int,
) -> tuple[dict[str, Tuned], xr.Dataset]:
    """Choose a learning rate and a schedule for each direction.

    A grid of `rates` learning rates, evenly spaced in the logarithm, times a constant
    and a cosine schedule, each run from `seeds` for the same `steps` as the runs that
    are reported; the choice is the smallest mean of the final `metric`, where a run
    that diverged counts as its value at the start.

    **Returns:**

    The choice for each direction, and the runs, dimensions
    `(strategy, value, seed, step)`; a rate that a direction did not try is `nan`.
    """
    chosen, parts = {}, []
    for name, entry in directions.items():
        grid = np.geomspace(entry.lowest, entry.highest, rates)
        runs = _run_direction(problem, entry, grid, seeds=seeds, steps=steps)
        mean = curvopt.final_metric(runs, metric).mean("seed").transpose("strategy", ...)
        kind, at = np.unravel_index(int(mean.values.argmin()), mean.shape)
        chosen[name] = Tuned(
            learning_rate=float(grid[at]),
            schedule=str(runs.line_search.values[kind]),
            at_edge=int(at) in (0, rates - 1),
            cost=float(runs.gradient_equivalents.isel(step=-1).sum()),
        )
        parts.append(runs)
    # Directions have grids of their own: a rate that one did not try becomes nan.
    together = xr.concat(parts, dim="strategy", join="outer", combine_attrs="override")
    return chosen, together  # pyright: ignore[reportReturnType]


def _run_direction(
    problem: curvopt.AbstractProblem,
    entry: Direction,
    grid: np.ndarray,
    *,
    seeds: list[int],
    steps: int,
) -> xr.Dataset:
    """One direction with every rate of the grid and every schedule."""

    def family(schedule: optax.Schedule | None) -> Any:
        return lambda rate: curvopt.LineSearchMinimiser(
            entry.direction, LearningRate(rate, schedule)
        )

    schedules = _schedules(steps)
    runs = curvopt.run_grid(
        problem,
        {f"{entry.label}, {kind}": family(s) for kind, s in schedules.items()},
        grid.tolist(),
        seeds=seeds,
        steps=steps,
    )
    evaluated = [str(k) for k, v in runs.items() if "evaluation_step" in v.dims]
    return runs[["loss", "gradient_equivalents", *evaluated]].assign_coords(
        direction=("strategy", [entry.label] * len(schedules)),
        line_search=("strategy", list(schedules)),
    )
