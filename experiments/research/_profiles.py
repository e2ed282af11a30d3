"""The cost to reach a target, over settings and seeds."""

from collections.abc import Mapping, Sequence

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes

from curvopt.plots import STYLE
from curvopt.statistics import performance_profile, time_to_target

from ._reported import clocks
from ._standings import final
from ._style import GREY, legend, look


# The target is this far along the way from the initial loss to the lowest mean final loss.
WAY = 0.95

# The largest factor in the figure.
_FARTHEST = 16.0


def target(data: xr.Dataset) -> float:
    """The target loss on a setting."""
    first = float(data.start.astype(float).mean())
    best = float(final(data).mean("seed").min())
    return first - WAY * (first - best)


def _costs(
    data: xr.Dataset, strategies: Sequence[str], clock: str
) -> Float[np.ndarray, "strategy seed"]:
    data = data.sel(strategy=list(strategies))
    losses = data.smooth_loss.transpose("seed", "strategy", "window").values
    times = clocks(data)[clock].transpose("strategy", "window").values
    return time_to_target(losses, target(data), times[None]).T


def costs_to_target(
    results: Mapping[str, xr.Dataset], strategies: Sequence[str], clock: str
) -> Float[np.ndarray, "strategy run"]:
    """The cost at which each strategy's smooth loss first reaches the target, on every
    setting and seed; infinite if it never does.

    **Arguments:**

    - `results`: the results by setting.
    - `strategies`: strategies that were run on all of them.
    - `clock`: one of `clocks`.
    """
    parts = [_costs(data, strategies, clock) for data in results.values()]
    return np.concatenate(parts, axis=1)


def _panel(
    ax: Axes, costs: np.ndarray, strategies: Sequence[str], shown: Sequence[str]
) -> None:
    factors = np.geomspace(1, _FARTHEST, 200)
    fractions = dict(zip(strategies, performance_profile(costs, factors)))
    for k, name in enumerate(shown):
        if name in fractions:
            every = (0.02 + 0.11 * k / len(shown), 0.22)
            ax.plot(factors, fractions[name], label=name, markevery=every, **look(k))
    for name in [name for name in fractions if name not in shown]:
        ax.plot(factors, fractions[name], **GREY)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    ax.set_xlim(1, _FARTHEST)
    ax.set_ylim(0, 1.02)


def profiles(
    results: Mapping[str, xr.Dataset], strategies: Sequence[str], shown: Sequence[str]
) -> matplotlib.figure.Figure:
    """For each clock, the share of runs in which a strategy reaches the target within a
    factor of the cheapest strategy's cost; the strategies `shown` in colour, the others
    grey."""
    units = list(clocks(next(iter(results.values()))))
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure(figsize=(6.0, 2.9), layout="constrained")
        axes = figure.subplots(1, len(units), sharey=True)
        for ax, clock in zip(axes, units):
            _panel(ax, costs_to_target(results, strategies, clock), strategies, shown)
            ax.set_title(clock)
        axes[0].yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        axes[0].set_ylabel("runs at the target")
        axes[len(units) // 2].set_xlabel("factor over the cheapest strategy's cost")
        legend(figure, axes)
    return figure
