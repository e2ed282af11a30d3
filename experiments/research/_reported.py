"""Strategies on the reported seeds: outcomes, costs and learning curves."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import xarray as xr

import curvopt

from .._timing import step_times
from ._averaged import averaged, averaging, EvaluatedElsewhere, own_and_average
from ._bench import Bench


# The number of windows of steps over which the mini-batch loss is smoothed.
WINDOWS = 50


def _kept(bench: Bench, data: xr.Dataset) -> xr.Dataset:
    out = bench.outcomes(data)
    out["course"] = data[bench.setting.metric].astype(np.float32)
    size = max(1, bench.steps // WINDOWS)
    windows = data[["loss", "gradient_equivalents"]].coarsen(step=size, boundary="trim")
    smooth = windows.mean().rename(step="window")
    out["smooth_loss"] = smooth.loss.astype(np.float32)
    out["smooth_cost"] = smooth.gradient_equivalents.mean("seed").astype(np.float32)
    return out.drop_vars("step", errors="ignore")


def reported(
    bench: Bench,
    strategies: Mapping[str, curvopt.LineSearchMinimiser],
    both: Mapping[str, curvopt.LineSearchMinimiser] | None = None,
    elsewhere: Mapping[str, curvopt.LineSearchMinimiser] | None = None,
) -> xr.Dataset:
    """Run strategies on the reported seeds.

    **Arguments:**

    - `bench`: the setting.
    - `strategies`: the strategies by name.
    - `both`: further strategies, evaluated at the parameters and, under the name of
        [`averaged`][], at their average.
    - `elsewhere`: further strategies, evaluated at another point than the trained one.

    **Returns:**

    The outcomes, with `course`, the metric along the run; `smooth_loss`, the mean
    mini-batch loss over windows of steps, and `smooth_cost`, the mean cost so far in
    gradient-equivalents (`window` is the mean step); `step_time`, the time of a step
    relative to a gradient's, and `gradient_seconds`.
    """
    parts = [_kept(bench, bench.compare("reported", strategies))]
    runs = {name: (bench.problem, solver) for name, solver in strategies.items()}
    if both:
        other = averaging(bench)
        data = own_and_average(other.compare("reported-averaged", both))
        parts += [_kept(other, x) for x in data]
        for name, solver in both.items():
            runs[name] = runs[averaged(name)] = other.problem, solver
    if elsewhere:
        other = dataclasses.replace(bench, problem=EvaluatedElsewhere(bench.problem))
        parts.append(_kept(other, other.compare("reported-elsewhere", elsewhere)))
        runs |= {name: (other.problem, solver) for name, solver in elsewhere.items()}
    out = xr.concat(parts, dim="strategy", join="exact")
    seconds, repeats = (1.0, 4) if bench.quick else (20.0, 40)
    ratios, gradient = step_times(bench.problem, runs, seconds=seconds, repeats=repeats)
    times = [ratios[str(name)] for name in out.strategy.values]
    out["step_time"] = "strategy", np.array(times, np.float32)
    out["gradient_seconds"] = np.float32(gradient)
    return out


def clocks(data: xr.Dataset) -> dict[str, xr.DataArray]:
    """The position of each window of `smooth_loss` on three clocks of dimensions
    `(strategy, window)`: steps, gradient-equivalents and seconds."""
    steps = (data.window + 1).broadcast_like(data.smooth_cost)
    return {
        "steps": steps,
        "gradient-equivalents": data.smooth_cost,
        "seconds": steps * data.step_time * data.gradient_seconds,
    }
