"""The table of strategies over all settings."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from curvopt.statistics import stratified_interquartile_mean

from ._latex import percent, table, two
from ._profiles import costs_to_target
from ._standings import lost, names, ranks, spent_a_step


def everywhere(results: Mapping[str, xr.Dataset]) -> list[str]:
    """The strategies that were run on all settings."""
    first, *others = results.values()
    return [name for name in names(first) if all(name in names(data) for data in others)]


def _reached(
    results: Mapping[str, xr.Dataset], strategies: Sequence[str]
) -> dict[str, float]:
    costs = costs_to_target(results, strategies, "steps")
    return dict(zip(strategies, map(float, np.isfinite(costs).mean(axis=1))))


def overview(
    results: Mapping[str, xr.Dataset], strategies: Sequence[str]
) -> tuple[str, dict[str, dict[str, str]]]:
    """Every strategy over all settings: its shortfall (the interquartile mean with its
    interval, and the mean), its rank, and the share of runs that reach the target.

    **Arguments:**

    - `results`: the results by setting, each with the same number of seeds.
    - `strategies`: strategies that were run on all of them.

    **Returns:**

    The table, in the order of the shortfall; and by strategy the texts `Lost` and `Mean`,
    its shortfall, and `Spent` and `Time`, the cost and the time of a step.
    """
    parts = [lost(data).sel(strategy=strategies) for data in results.values()]
    scores = np.stack([part.values for part in parts], axis=-1)
    shared = [data.sel(strategy=strategies) for data in results.values()]
    rank = np.mean([ranks(data) for data in shared], axis=0)
    spent = xr.DataArray(
        [spent_a_step(data) for data in shared], dims=("setting", "strategy")
    )
    # A setting on which all runs diverged has no cost: the median skips it.
    cost = spent.median("setting").values
    time = np.median([data.step_time.values for data in shared], axis=0)
    reached = _reached(results, strategies)
    estimates = [stratified_interquartile_mean(x) for x in scores]
    rows, texts = [], {}
    for k in sorted(range(len(strategies)), key=lambda k: estimates[k].value):
        name, estimate = strategies[k], estimates[k]
        mean = float(scores[k].mean())
        texts[name] = {
            "Lost": percent(estimate.value),
            "Mean": percent(mean),
            "Spent": two(float(cost[k])),
            "Time": two(float(time[k])),
        }
        low, high = (f"{100 * x:.1f}" for x in (estimate.low, estimate.high))
        rows.append(
            [
                name,
                f"{100 * estimate.value:.1f}",
                f"{low} to {high}",
                f"{100 * mean:.1f}",
                f"{rank[k]:.1f}",
                f"{100 * reached[name]:.0f}",
                texts[name]["Spent"],
                texts[name]["Time"],
            ]
        )
    head = ["", "lost (\\%)", "95\\,\\% interval", "mean", "rank", "at target (\\%)"]
    return table([[*head, "$C$ a step", "time a step"], *rows], "lrcrrrrr"), texts
