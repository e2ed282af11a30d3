"""Results as Markdown tables."""

import numpy as np
import xarray as xr

from curvopt.statistics import cost_ratios, solved_at_no_more_cost

from .._formatting import markdown, number


def _cost(x: float) -> str:
    return number(x, ",.1f")


def costs_table(data: xr.Dataset) -> str:
    """The cost to the target: a row for each problem, a column for each solver."""
    rows = [["cost to the target, in C", "unknowns", *map(str, data.label.values)]]
    for name in data.problem.values:
        one = data.sel(problem=name)
        costs = (_cost(float(x)) for x in one.cost_to_target.values)
        rows.append([str(name), str(int(one.unknowns)), *costs])
    return markdown(rows)


def summary_table(data: xr.Dataset) -> str:
    """A row for each solver: the share it solves, and its costs; medians are over all
    problems, with infinity for a missed one."""
    header = (
        "solver",
        "solved",
        "cheapest",
        "within twice the cheapest",
        "median C over the cheapest",
        "median gradients",
        "median losses",
        "median curvatures",
        "median µs a C",
    )
    rows: list[tuple[str, ...]] = [header]
    for k, ratios in enumerate(cost_ratios(data.cost_to_target.values)):
        one = data.isel(solver=k)
        solved = one.solved.values
        counts = (
            np.median(np.where(solved, one[kind].values, np.inf))
            for kind in ("gradients", "losses", "curvatures")
        )
        ran = one.failure.values == ""
        times = one.seconds.values[ran] / one.cost.values[ran] * 1e6
        rows.append(
            (
                str(one.label.item()),
                f"{solved.mean():.1%}",
                f"{(ratios <= 1).mean():.1%}",
                f"{(ratios <= 2).mean():.1%}",
                *(_cost(x) for x in (np.median(ratios), *counts)),
                number(np.median(times) if ran.any() else np.nan, ".3g"),
            )
        )
    return markdown(rows)


def duels_table(data: xr.Dataset, measured: str = "cost_to_target") -> str:
    """Each of our solvers against each of the others: the number of problems on which it
    needs no more, of those that either solves.

    **Arguments:**

    - `data`: the dataset.
    - `measured`: the variable that is compared, `cost_to_target` or `seconds_to_target`.
    """
    ours = np.flatnonzero(data.ours.values)
    others = np.flatnonzero(~data.ours.values)
    labels, costs = data.label.values, data[measured].values
    rows = [["needs no more than", *(str(labels[k]) for k in others)]]
    for k in ours:
        duels = [solved_at_no_more_cost(costs[k], costs[rival]) for rival in others]
        cells = [f"{wins.sum()} of {either.sum()}" for wins, either in duels]
        rows.append([str(labels[k]), *cells])
    return markdown(rows)


def failures(data: xr.Dataset) -> list[str]:
    """The solvers that failed, by problem, with their errors."""
    return [
        f"{label} on {problem}: {failure}"
        for label, row in zip(data.label.values, data.failure.values)
        for problem, failure in zip(data.problem.values, row)
        if failure
    ]
