"""Cheapening: curvature on a part of the batch, at every k-th step, in bfloat16."""

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
from .._latex import camel, percent
from .._question import Findings, Question
from .._standings import final, label, names, spent_a_step
from .._style import legend, look, TEXT_WIDTH


# The same runs as those of the question of rivals.
FULL = "rescaled"

# What a step may cost, in gradient-equivalents.
GOAL = 1.1

_ASKED = ("SGD", "Adam")

VARIANTS = (
    "a quarter of the batch",
    "a sixteenth of the batch",
    "every 5th step",
    "every 20th step",
    "every 5th step, a quarter",
    "products in bfloat16",
)


def _every(k: int, solver: curvopt.LineSearchMinimiser) -> curvopt.LineSearchMinimiser:
    # Growth stays limited step by step: it asks for nothing, and k times slower it would
    # hold back runs of this length.
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
        "a quarter of the batch": quarter,
        "a sixteenth of the batch": recipe(curvature=curvopt.SubsampledCurvature(1 / 16)),
        "every 5th step": _every(5, full),
        "every 20th step": _every(20, full),
        "every 5th step, a quarter": _every(5, quarter),
        "products in bfloat16": recipe(curvature=bfloat16),
    }
    return {f"{direction}, {name}": solver for name, solver in solvers.items()}


def ask(bench: Bench) -> xr.Dataset:
    """SGD's and Adam's recipe with less and less curvature, from the seeds that are
    reported."""
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
    """What a variant comes to over all settings and directions.

    **Attributes:**

    - `cost`: of a step, the mean.
    - `worse`: on how many it is worse than the full recipe.
    - `highest`: the upper end of the interval of the relative difference, where that is
        highest: worse than this it is nowhere.
    """

    cost: float
    worse: int
    highest: float


def _cheaper_than_full(
    results: Mapping[str, xr.Dataset], found: Mapping[str, Claims]
) -> dict[str, Cheaper]:
    out = {}
    for variant in VARIANTS:
        of = [(found[name][pair], pair) for name in results for pair in _pairs(variant)]
        data = [results[name] for name in results for _ in _ASKED]
        ends = [x.high / _reference(d, pair) for (x, pair), d in zip(of, data)]
        worse = sum(verdict(x) == "worse" for x, _ in of)
        out[variant] = Cheaper(_cost(results, variant), worse, max(ends))
    return out


def _reference(data: xr.Dataset, pair: Pair) -> float:
    """The mean final loss with the full recipe, that differences are relative to."""
    return float(final(data).sel(strategy=pair[1]).mean())


def _panel(ax: Axes, data: xr.Dataset, found: Claims, direction: str) -> None:
    """The relative difference in per cent, with its interval, against the cost; hollow
    where a difference holds."""
    for k, variant in enumerate(VARIANTS):
        pair = _pair(direction, variant)
        of, unit = found[pair], 100 / _reference(data, pair)
        cost = spent_a_step(data)[names(data).index(pair[0])]
        style: dict[str, Any] = {**look(k), "linestyle": "", "markeredgewidth": 0.8}
        style["markeredgecolor"] = style["color"]
        if of.holds:
            style["markerfacecolor"] = "white"
        if np.isfinite(of.low):
            ends = [unit * of.low, unit * of.high]
            ax.plot([cost, cost], ends, color=style["color"], linewidth=1.0)
        ax.plot(cost, unit * of.mean_difference, label=variant, **style)
    ax.axhline(0, color="black", linewidth=0.7, zorder=1)
    ax.axvline(GOAL, color="#888888", linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    ax.margins(x=0.12, y=0.15)


# In inches: a panel, and titles, labels and legend.
_PANEL, _MARGIN = 1.25, 0.75


def _figure(
    results: Mapping[str, xr.Dataset], found: Mapping[str, Claims]
) -> matplotlib.figure.Figure:
    """What is lost against what it costs: a row for each direction, a column for each
    setting."""
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
        "CheapeningComparisons": str(max(len(of) for of in found.values())),
        "CheapeningFullCost": f"{_cost(results, FULL):.2f}",
    }
    for variant, of in cheaper.items():
        name = f"Cheapening{_named(variant)}"
        numbers[f"{name}Cost"] = f"{of.cost:.2f}"
        numbers[f"{name}Highest"] = percent(of.highest)
        numbers |= counted(found, _pairs(variant), name)
        for direction in _ASKED:
            strategy, _ = _pair(direction, variant)
            count = sum(number_failed(data, strategy) for data in results.values())
            numbers[f"{name}Failed{direction}"] = str(count)
    safe = {variant: of for variant, of in cheaper.items() if not of.worse}
    best = min(safe, key=lambda variant: safe[variant].cost, default=FULL)
    chosen = cheaper.get(best)
    within = [variant for variant, of in safe.items() if of.cost <= GOAL]
    return numbers | {
        "CheapeningBest": best,
        "CheapeningBestCost": f"{chosen.cost if chosen else _cost(results, FULL):.2f}",
        "CheapeningBestHighest": percent(chosen.highest) if chosen else percent(0.0),
        "CheapeningWithin": str(len(within)),
    }


def _named(variant: str) -> str:
    # Letters alone would not tell every 5th step from every 20th.
    words = {"5th": "fifth", "20th": "twentieth", "bfloat16": "bfloat"}
    for short, word in words.items():
        variant = variant.replace(short, word)
    return camel(variant)


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """What less curvature loses against the full recipe, in pairs, and what it costs."""
    pairs = [pair for variant in VARIANTS for pair in _pairs(variant)]
    found = {name: claims(data, pairs) for name, data in results.items()}
    cheaper = _cheaper_than_full(results, found)
    rows = {v: rf"\quad {v} (${of.cost:.2f}\,C$)" for v, of in cheaper.items()}
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
