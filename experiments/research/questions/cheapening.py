"""Cheapening: the curvature on a part of the batch, at every k-th step, or in bfloat16."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import matplotlib.figure
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

import curvopt
from curvopt.plots import STYLE
from strategies import EveryK, GrowthLimited, recipes

from .._bench import Bench
from .._claims import (
    Claims,
    claims,
    claims_table,
    counted,
    number_failed,
    Pair,
    verdict,
)
from .._families import DIRECTIONS
from .._latex import percent
from .._question import Findings, Question
from .._standings import final, label, names, spent_a_step
from .._style import legend, look, TEXT_WIDTH


# The question of rivals has the same runs, which are not made again.
FULL = "rescaled"

# The goal for the cost of a step, in gradient-equivalents.
GOAL = 1.1

_ASKED = ("SGD", "Adam")

QUARTER, SIXTEENTH = "a quarter of the batch", "a sixteenth of the batch"
FIFTH, TWENTIETH = "every 5th step", "every 20th step"
FIFTH_QUARTER, BFLOAT16 = "every 5th step, a quarter", "products in bfloat16"

VARIANTS = (QUARTER, SIXTEENTH, FIFTH, TWENTIETH, FIFTH_QUARTER, BFLOAT16)

# Variants in the names of the paper's numbers.
_NAMES = {
    QUARTER: "Quarter",
    SIXTEENTH: "Sixteenth",
    FIFTH_QUARTER: "FifthQuarter",
    BFLOAT16: "Bfloat",
}


def _every(k: int, solver: curvopt.LineSearchMinimiser) -> curvopt.LineSearchMinimiser:
    # Growth stays limited at every step: that costs nothing, and at every k-th step only it
    # would hold back runs of this length.
    rule = solver.line_search
    assert isinstance(rule, GrowthLimited)
    rarely = dataclasses.replace(rule, inner=EveryK(rule.inner, k))
    return curvopt.LineSearchMinimiser(solver.direction, rarely, curvature=solver.curvature)


def _cheaper(direction: str, bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    recipe = functools.partial(recipes.rescaled, DIRECTIONS[direction], steps=bench.steps)
    full, quarter = recipe(), recipe(curvature=curvopt.SubsampledCurvature(1 / 4))
    bfloat16 = curvopt.AdjointCurvature(product_dtype=jnp.bfloat16)
    solvers = {
        FULL: full,
        QUARTER: quarter,
        SIXTEENTH: recipe(curvature=curvopt.SubsampledCurvature(1 / 16)),
        FIFTH: _every(5, full),
        TWENTIETH: _every(20, full),
        FIFTH_QUARTER: _every(5, quarter),
        BFLOAT16: recipe(curvature=bfloat16),
    }
    return {f"{direction}, {name}": solver for name, solver in solvers.items()}


def ask(bench: Bench) -> xr.Dataset:
    """Run the recipes of SGD and Adam with less and less curvature, on the reported
    seeds."""
    strategies = {
        name: solver
        for direction in _ASKED
        for name, solver in _cheaper(direction, bench).items()
    }
    return bench.outcomes(bench.compare("reported", strategies))


def _pair(direction: str, variant: str) -> Pair:
    return f"{direction}, {variant}", f"{direction}, {FULL}"


def _pairs(variant: str) -> list[Pair]:
    return [_pair(direction, variant) for direction in _ASKED]


def _cost(results: Mapping[str, xr.Dataset], variant: str) -> float:
    """The mean cost of a step over all settings and directions."""
    costs = [
        spent_a_step(data)[names(data).index(f"{direction}, {variant}")]
        for data in results.values()
        for direction in _ASKED
    ]
    return float(np.nanmean(costs))


@dataclasses.dataclass(frozen=True)
class Cheaper:
    """A variant over all settings and directions.

    **Attributes:**

    - `cost`: the mean cost of a step.
    - `worse`: the number of comparisons in which it is worse than the full recipe.
    - `highest`: the largest upper end of the intervals of the relative difference.
    """

    cost: float
    worse: int
    highest: float


def _cheaper_than_full(
    results: Mapping[str, xr.Dataset], found: Mapping[str, Claims]
) -> dict[str, Cheaper]:
    out = {}
    for variant in VARIANTS:
        compared = [
            (found[name][pair], pair) for name in results for pair in _pairs(variant)
        ]
        data = [results[name] for name in results for _ in _ASKED]
        ends = [x.high / _reference(d, pair) for (x, pair), d in zip(compared, data)]
        worse = sum(verdict(x) == "worse" for x, _ in compared)
        out[variant] = Cheaper(_cost(results, variant), worse, max(ends))
    return out


def _reference(data: xr.Dataset, pair: Pair) -> float:
    """The mean final loss of the full recipe, the unit of differences."""
    return float(final(data).sel(strategy=pair[1]).mean())


def _panel(ax: Axes, data: xr.Dataset, found: Claims, direction: str) -> None:
    """The relative difference in per cent, with its interval, against the cost; hollow if
    the difference holds."""
    for k, variant in enumerate(VARIANTS):
        pair = _pair(direction, variant)
        comparison, unit = found[pair], 100 / _reference(data, pair)
        cost = spent_a_step(data)[names(data).index(pair[0])]
        style: dict[str, Any] = {**look(k), "linestyle": "", "markeredgewidth": 0.8}
        style["markeredgecolor"] = style["color"]
        if comparison.holds:
            style["markerfacecolor"] = "white"
        if np.isfinite(comparison.low):
            ends = [unit * comparison.low, unit * comparison.high]
            ax.plot([cost, cost], ends, color=style["color"], linewidth=1.0)
        ax.plot(cost, unit * comparison.mean_difference, label=variant, **style)
    ax.axhline(0, color="black", linewidth=0.7, zorder=1)
    dashed = {"color": "#888888", "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 1}
    ax.axvline(GOAL, label=rf"goal, {GOAL:g} $C$", **dashed)
    ax.margins(x=0.12, y=0.15)


# Heights in inches: a panel; titles, labels and legend together.
_PANEL, _MARGIN = 1.25, 0.95


def _figure(
    results: Mapping[str, xr.Dataset], found: Mapping[str, Claims]
) -> matplotlib.figure.Figure:
    """Loss against cost, with a row for each direction and a column for each setting."""
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure(
            (TEXT_WIDTH, _PANEL * len(_ASKED) + _MARGIN), layout="constrained"
        )
        axes = figure.subplots(len(_ASKED), len(results), squeeze=False, sharex="col")
        for line, direction in zip(axes, _ASKED):
            for ax, (name, data) in zip(line, results.items()):
                _panel(ax, data, found[name], direction)
            line[0].set_ylabel(f"{direction}: difference, %")
        for ax, data in zip(axes[0], results.values()):
            ax.set_title(label(data))
        for ax in axes[-1]:
            ax.set_xlabel("$C$ a step")
        figure.align_ylabels()
        legend(figure, axes.flat)
    return figure


def _numbers(
    results: Mapping[str, xr.Dataset],
    found: Mapping[str, Claims],
    cheaper: Mapping[str, Cheaper],
) -> dict[str, str]:
    numbers = {
        "CheapeningGoal": f"{GOAL:g}",
        "CheapeningSettings": str(len(results)),
        "CheapeningSeeds": str(min(data.sizes["seed"] for data in results.values())),
        "CheapeningComparisons": str(max(len(summary) for summary in found.values())),
        "CheapeningFullCost": f"{_cost(results, FULL):.2f}",
    }
    for variant in (QUARTER, SIXTEENTH, BFLOAT16):
        numbers[f"Cheapening{_NAMES[variant]}Highest"] = percent(cheaper[variant].highest)
    for variant in (SIXTEENTH, FIFTH_QUARTER):
        numbers |= counted(found, _pairs(variant), f"Cheapening{_NAMES[variant]}")
    strategy, _ = _pair("SGD", FIFTH_QUARTER)
    numbers |= {
        "CheapeningQuarterCost": f"{cheaper[QUARTER].cost:.2f}",
        "CheapeningFifthQuarterFailedSGD": str(
            sum(number_failed(data, strategy) for data in results.values())
        ),
    }
    safe = {variant: summary for variant, summary in cheaper.items() if not summary.worse}
    best = min(safe, key=lambda variant: safe[variant].cost, default=FULL)
    chosen = cheaper.get(best)
    within = [variant for variant, summary in safe.items() if summary.cost <= GOAL]
    return numbers | {
        "CheapeningBest": best,
        "CheapeningBestCost": f"{chosen.cost if chosen else _cost(results, FULL):.2f}",
        "CheapeningWithin": str(len(within)),
    }


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """Paired comparisons of cheaper curvatures with the full recipe, and their costs."""
    pairs = [pair for variant in VARIANTS for pair in _pairs(variant)]
    found = {name: claims(data, pairs) for name, data in results.items()}
    cheaper = _cheaper_than_full(results, found)
    rows = {v: rf"\quad {v} (${summary.cost:.2f}\,C$)" for v, summary in cheaper.items()}
    groups = {
        direction: {rows[variant]: _pair(direction, variant) for variant in VARIANTS}
        for direction in _ASKED
    }
    return Findings(
        {"cheapening": _figure(results, found)},
        _numbers(results, found, cheaper),
        {"cheapening": claims_table(results, found, groups, failures=True)},
    )


CHEAPENING = Question("cheapening", "How little curvature is enough?", ask, conclude)
