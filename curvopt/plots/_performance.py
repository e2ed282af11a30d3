import dataclasses
from collections.abc import Sequence

import matplotlib.figure
import matplotlib.ticker
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .. import statistics
from .._runs import check_distinct
from ._panels import legend, styled
from ._style import inches, looks, Width


def performance_profile(
    costs: ArrayLike,
    labels: Sequence[str],
    *,
    dashed: Sequence[bool] | None = None,
    width: Width = "page",
) -> matplotlib.figure.Figure:
    r"""The fraction of the problems that each solver solves within a factor $\alpha$ of the
    cheapest solver's cost.

    At $\alpha = 1$ a line starts at the fraction of problems on which its solver is the
    cheapest; it ends at the fraction that the solver solves at all.

    **Arguments:**

    - `costs`: to reach the target, shape `(solver, problem)`; infinite where it was missed.
    - `labels`: the labels of the solvers.
    - `dashed`: for each solver, whether its line is dashed, to distinguish a group.
    - `width`: as in [`curvopt.plots.learning_curves`][].

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` as in [`curvopt.statistics.performance_profile`][], or if there is not one
    distinct label, and one element of `dashed`, for each solver.

    Source: Dolan & Moré, Benchmarking optimization software with performance profiles,
    Math. Program. 91, 2002.
    """
    ratios = statistics.cost_ratios(costs)
    solvers, problems = ratios.shape
    dashes = [False] * solvers if dashed is None else dashed
    for name, given in (("labels", labels), ("dashed", dashes)):
        if (
            not isinstance(given, Sequence | np.ndarray)
            or isinstance(given, str)
            or len(given) != solvers
        ):
            raise ValueError(
                f"{name} must be one for each of {solvers} solvers, but they are {given!r}."
            )
    labels = [str(label) for label in labels]
    check_distinct(pd.Index(labels), "labels", "Give each solver one of its own.")
    largest = float(np.max(ratios, initial=2.0, where=np.isfinite(ratios)))
    end = min(1.05 * largest, np.finfo(float).max)
    # Every factor at which one of the lines has a step.
    steps = np.unique(ratios[np.isfinite(ratios)])
    factors = np.unique(np.concatenate([[1.0], steps, [end]]))
    fractions = statistics.performance_profile(costs, factors)
    look = looks(labels)
    for k, label in enumerate(labels):
        if dashes[k]:
            look[label] = dataclasses.replace(look[label], line=(0, (3, 1.5)))
    size = inches(width)
    with styled():
        figure = matplotlib.figure.Figure(figsize=(size, 1.0), layout="constrained")
        ax = figure.subplots()
        for k, own in enumerate(look.values()):
            ax.step(
                factors,
                fractions[k],
                where="post",
                color=own.colour,
                linestyle=own.line,
                marker=own.marker,
                markersize=own.size,
                markeredgecolor="white",
                # Spaced by length along the line, not by points, which crowd near 1.
                markevery=(0.05 + 0.15 * k / solvers, 0.25),
                label=labels[k],
                clip_on=False,
            )
        ax.set_xscale("log", base=2)
        if largest > 64:
            ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(base=2, numticks=7))
        ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        ax.set_xlim(1, end)
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        ax.set_xlabel(r"factor $\alpha$ over the cheapest solver's cost")
        ax.set_ylabel(f"of {problems} problems, solved")
        lines = legend(figure, look)
        figure.set_figheight(min(0.62 * size, 2.6) + 0.155 * (lines + 1))
    return figure
