"""Strategies on the reported seeds: outcomes, costs and learning curves."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

import curvopt

from .._timing import step_times
from ._bench import Bench


# The number of windows of steps over which the mini-batch loss is smoothed.
WINDOWS = 50


def reported(
    bench: Bench, strategies: Mapping[str, curvopt.LineSearchMinimiser]
) -> xr.Dataset:
    """Run strategies on the reported seeds.

    **Arguments:**

    - `bench`: the setting.
    - `strategies`: the strategies by name.

    **Returns:**

    The outcomes, with `course`, the metric along the run; `smooth_loss`, the mean
    mini-batch loss over windows of steps, and `smooth_cost`, the mean cost so far in
    gradient-equivalents (`window` is the mean step); `step_time`, the time of a step
    relative to a gradient's, and `gradient_seconds`.
    """
    data = bench.compare("reported", strategies)
    out = bench.outcomes(data)
    out["course"] = data[bench.setting.metric].astype(np.float32)
    size = max(1, bench.steps // WINDOWS)
    windows = data[["loss", "gradient_equivalents"]].coarsen(step=size, boundary="trim")
    smooth = windows.mean().rename(step="window")
    out["smooth_loss"] = smooth.loss.astype(np.float32)
    out["smooth_cost"] = smooth.gradient_equivalents.mean("seed").astype(np.float32)
    seconds, repeats = (1.0, 4) if bench.quick else (20.0, 40)
    ratios, gradient = step_times(
        bench.problem, strategies, seconds=seconds, repeats=repeats
    )
    times = [ratios[str(name)] for name in out.strategy.values]
    out["step_time"] = "strategy", np.array(times, np.float32)
    out["gradient_seconds"] = np.float32(gradient)
    return out.drop_vars("step", errors="ignore")


def clocks(data: xr.Dataset) -> dict[str, xr.DataArray]:
    """The position of each window of `smooth_loss` on three clocks of dimensions
    `(strategy, window)`: steps, gradient-equivalents and seconds."""
    steps = (data.window + 1).broadcast_like(data.smooth_cost)
    return {
        "steps": steps,
        "gradient-equivalents": data.smooth_cost,
        "seconds": steps * data.step_time * data.gradient_seconds,
    }
