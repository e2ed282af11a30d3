"""The baseline: the best learning rate of a grid, with and without a schedule."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import optax
import xarray as xr
from jaxtyping import Array

import curvopt
from strategies import LearningRate

from ._catalogue import Direction


# Tuning seeds are drawn from here on: never among the reported ones.
_FIRST_SEED = 1_000_000


def _family(
    direction: curvopt.AbstractDirection, schedule: optax.Schedule | None
) -> Callable[[Array], curvopt.LineSearchMinimiser]:
    def solver(learning_rate: Array) -> curvopt.LineSearchMinimiser:
        rule = LearningRate(learning_rate, schedule)
        return curvopt.LineSearchMinimiser(direction, rule)

    return solver


def tune(
    problem: curvopt.AbstractProblem,
    directions: Mapping[str, Direction],
    *,
    metric: str,
    rates: int,
    tuning_seeds: int,
    seeds: int,
    steps: int,
    folder: Path,
) -> dict[str, curvopt.Tuning]:
    """Choose a learning rate and a schedule for each direction.

    A grid of `rates` learning rates, evenly spaced in the logarithm, times a constant and
    a cosine schedule, each run from `tuning_seeds` seeds that are not among the reported
    ones. Saved in a folder of each direction in `folder`.
    """
    schedules = {"constant": None, "cosine": optax.cosine_decay_schedule(1.0, steps)}
    return {
        name: curvopt.tune(
            problem,
            {kind: _family(entry.direction, s) for kind, s in schedules.items()},
            {"learning_rate": np.geomspace(entry.lowest, entry.highest, rates).tolist()},
            metric=metric,
            seeds=[_FIRST_SEED + k for k in range(tuning_seeds)],
            reported_seeds=seeds,
            steps=steps,
            folder=folder / name.replace(":", "-"),
        )
        for name, entry in directions.items()
    }


def all_runs(
    tuned: Mapping[str, curvopt.Tuning], directions: Mapping[str, Direction]
) -> xr.Dataset:
    """The tuning runs of all directions, dimensions
    `(strategy, learning_rate, seed, step)`; a rate that a direction did not try is `nan`.
    """
    parts = []
    for name, tuning in tuned.items():
        label, runs = directions[name].label, tuning.runs
        kinds = [str(kind) for kind in runs.strategy.values]
        evaluated = [str(k) for k, v in runs.items() if "evaluation_step" in v.dims]
        part = runs[["loss", "gradient_equivalents", "seconds", *evaluated]].assign_coords(
            strategy=[f"{label}, {kind}" for kind in kinds],
            direction=("strategy", [label] * len(kinds)),
            line_search=("strategy", kinds),
        )
        parts.append(part)
    together = xr.concat(parts, dim="strategy", join="outer", combine_attrs="override")
    return together  # pyright: ignore[reportReturnType]
