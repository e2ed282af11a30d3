"""Final losses, ranks and costs of strategies on a setting, and their table."""

import numpy as np
import scipy
import xarray as xr
from jaxtyping import Float

from curvopt.statistics import bca_interval

from ._latex import plain, table, two


def final(data: xr.Dataset) -> xr.DataArray:
    """The final metric of every run, of dimensions `(strategy, seed)`. A failed run counts
    with its initial metric, since its final one would dominate a mean."""
    ends = data[data.attrs["metric"]].astype(float)
    return ends.where(~failed(data), data.start).transpose("strategy", "seed")


def failed(data: xr.Dataset) -> xr.DataArray:
    """Which runs diverged or end above their start."""
    return data.diverged | (data[data.attrs["metric"]] > data.start)


def label(data: xr.Dataset) -> str:
    """The short name of a setting: its model."""
    return data.attrs["label"].partition(",")[0]


def names(data: xr.Dataset) -> list[str]:
    return [str(name) for name in data.strategy.values]


def ranks(data: xr.Dataset) -> Float[np.ndarray, " strategy"]:
    """Each strategy's mean rank over seeds, 1 for the best; ties share their mean rank."""
    return scipy.stats.rankdata(final(data).values, axis=0).mean(axis=1)


def lost(data: xr.Dataset) -> xr.DataArray:
    r"""The shortfall of every run, $(L - L^*) / (L_0 - L^*)$, with $L_0$ the mean initial
    loss and $L^*$ the lowest mean final loss of any strategy."""
    ends = final(data)
    best, first = ends.mean("seed").min(), data.start.astype(float).mean()
    return (ends - best) / (first - best)


def _interval(x: np.ndarray) -> str:
    low, high = bca_interval(x)
    return f"{plain(low, 4)} to {plain(high, 4)}" if np.isfinite(low) else "--"


def _tested(data: xr.Dataset) -> list[str]:
    if "test_accuracy" not in data:
        return ["--"] * data.sizes["strategy"]
    means = data.test_accuracy.astype(float).mean("seed")
    return [f"{100 * x:.1f}" for x in means.values]


def spent_a_step(data: xr.Dataset) -> Float[np.ndarray, " strategy"]:
    """The mean cost of a step in gradient-equivalents, over runs that did not diverge: a
    diverged run makes no more steps. It is nan if all diverged."""
    spent = data.gradient_equivalents.astype(float).where(~data.diverged)
    return spent.mean("seed").values / float(data.attrs["steps"])


def standing(data: xr.Dataset) -> str:
    """The table of a setting, in the order of the mean loss: mean and interval, mean rank,
    test accuracy, cost and time of a step, and the number of failed runs."""
    ends, rank, tested = final(data), ranks(data), _tested(data)
    cost, time = spent_a_step(data), data.step_time.values
    number_failed = failed(data).sum("seed").values
    head = [label(data), "loss", "95\\,\\% interval", "rank", "test (\\%)"]
    rows = [[*head, "$C$ a step", "time a step", "failed"]]
    for k in np.argsort(ends.mean("seed").values, kind="stable"):
        x = ends.values[k]
        rows.append(
            [
                names(data)[k],
                plain(float(x.mean()), 4),
                _interval(x),
                f"{rank[k]:.1f}",
                tested[k],
                two(float(cost[k])),
                two(float(time[k])),
                str(int(number_failed[k])) if number_failed[k] else "",
            ]
        )
    return table(rows, "lrcrrrrr")
