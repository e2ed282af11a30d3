r"""Without noise: which rule takes which direction to the minimum of a deterministic
problem, and how well the bare rescaling, $\ell = 1/2$ without averages, does there."""

from collections.abc import Mapping

import matplotlib.figure
import matplotlib.style
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

import curvopt
from curvopt.plots import STYLE
from curvopt.statistics import summarise_times, time_to_target, TimeSummary
from strategies import (
    Backtracking,
    BacktrackingArmijo,
    BarzilaiBorwein,
    CurvatureRescaling,
    HessianAwareScaling,
    LBFGS,
    LearningRate,
    Momentum,
    NonlinearCG,
    SGD,
)

from .._bench import Bench
from .._families import decades, raw
from .._latex import plain, table
from .._question import Findings, Question
from .._standings import label, names
from .._style import legend, look, TEXT_WIDTH


DIRECTIONS: dict[str, curvopt.AbstractDirection] = {
    "SGD": SGD(),
    "Momentum": Momentum(),
    "NonlinearCG": NonlinearCG(),
    "LBFGS": LBFGS(),
}

TUNED, BARE, RELAXED, EDGE = "tuned rate", r"$\ell = 1/2$", r"$\ell = 0.9$", r"$\ell = 1$"
AVERAGED, TRIED, ARMIJO = "1/2, averages", "1/2, backtracking", "Armijo"
AWARE, SPECTRAL = "Hessian-aware", "Barzilai--Borwein"

# The rules in the order of the tables.
RULES = (TUNED, BARE, RELAXED, EDGE, AVERAGED, TRIED, ARMIJO, AWARE, SPECTRAL)

# The directions that are also run at a tuned rate.
_RATED = ("SGD", "Momentum")
_RATES = decades(-6, 1)

# The share of the way from the initial to the lowest loss of any run that may be left.
TOLERANCE = 1e-6

# The number of points of a line in the figure.
_POINTS = 60


def _rules(direction: str) -> dict[str, curvopt.AbstractLineSearch]:
    rules: dict[str, curvopt.AbstractLineSearch] = {
        BARE: CurvatureRescaling(),
        RELAXED: CurvatureRescaling(0.9),
        EDGE: CurvatureRescaling(1.0),
        AVERAGED: CurvatureRescaling(average=0.9),
        TRIED: Backtracking(CurvatureRescaling()),
        ARMIJO: BacktrackingArmijo(),
        AWARE: HessianAwareScaling(),
    }
    # Along other directions the Barzilai-Borwein steps are not spectral.
    return rules | {SPECTRAL: BarzilaiBorwein()} if direction == "SGD" else rules


def _tuned(bench: Bench) -> dict[str, float]:
    """By direction, the rate with the lowest mean final loss on the tuning seeds."""
    families = {name: raw(DIRECTIONS[name], None) for name in _RATED}
    tried = bench.sweep("rates", families, {"learning_rate": _RATES})
    means = curvopt.final_metric(tried, bench.setting.metric).mean("seed")
    best = means.learning_rate[means.argmin("learning_rate")]
    return dict(zip(_RATED, best.values.tolist()))


def _strategies(rates: Mapping[str, float]) -> dict[str, curvopt.LineSearchMinimiser]:
    searches = {
        (name, rule): search for name in DIRECTIONS for rule, search in _rules(name).items()
    }
    searches |= {(name, TUNED): LearningRate(rate) for name, rate in rates.items()}
    return {
        f"{name}, {rule}": curvopt.LineSearchMinimiser(DIRECTIONS[name], search)
        for (name, rule), search in searches.items()
    }


def ask(bench: Bench) -> xr.Dataset:
    """Run every direction with every rule on the reported seeds; keeps the steps and the
    cost until the loss is near the lowest that any of them finds."""
    rates = _tuned(bench)
    data = bench.compare("reported", _strategies(rates))
    loss = data.loss.astype(float)
    start, lowest = float(loss.isel(step=0).mean()), float(loss.min())
    target = lowest + TOLERANCE * (start - lowest)
    # A step records the loss before it, whose cost is what was spent until then.
    spent = data.gradient_equivalents.astype(float).shift(step=1, fill_value=0.0)
    loss, spent = (x.transpose("strategy", "seed", "step") for x in (loss, spent))
    dims = ("strategy", "seed")
    steps = time_to_target(loss.values, target)
    cost = time_to_target(loss.values, target, spent.values)
    last = loss.sizes["step"] - 1
    shown = np.unique(np.geomspace(1, last, _POINTS).round().astype(int))
    gap = ((loss - lowest) / (start - lowest)).isel(step=shown).median("seed")
    return xr.Dataset(
        {
            "steps_needed": (dims, steps.astype(np.float32)),
            "cost_needed": (dims, cost.astype(np.float32)),
            # A diverged run has no loss: its median is nan, and not drawn.
            "gap": gap.astype(np.float32),
            "spent": spent.isel(step=shown).median("seed").astype(np.float32),
        }
    ).assign_attrs(
        rates=", ".join(f"{name}: {rate:g}" for name, rate in rates.items()),
        lowest=lowest,
        start=start,
    )


def _times(data: xr.Dataset, what: str) -> dict[str, TimeSummary]:
    times = data[what].transpose("strategy", "seed").values
    return dict(zip(names(data), map(summarise_times, times)))


def _cell(data: xr.Dataset, name: str) -> str:
    """Median steps and cost, and the number of runs that reached the target if not all
    did."""
    if name not in names(data):
        return ""
    steps, cost = (_times(data, f"{what}_needed")[name] for what in ("steps", "cost"))
    if not steps.reached:
        return "--"
    some = "" if steps.reached == steps.runs else rf"$^{{{steps.reached}}}$"
    if not np.isfinite(steps.median):
        return rf"--{some}"
    return rf"{steps.median:.0f} ({plain(cost.median)}){some}"


def _table(results: Mapping[str, xr.Dataset]) -> str:
    columns = 1 + len(results)
    rows = [["", *(label(data) for data in results.values())]]
    for k, direction in enumerate(DIRECTIONS):
        rule = r"\midrule " if k else ""
        rows.append([rf"{rule}\multicolumn{{{columns}}}{{l}}{{\emph{{{direction}}}}}"])
        for name in RULES:
            cells = [_cell(data, f"{direction}, {name}") for data in results.values()]
            if any(cells):
                rows.append([rf"\quad {name}", *cells])
    return table(rows, "l" + "r" * len(results))


# Rules in the names of the paper's numbers: those whose successes are counted, and those
# that are compared with the bare one.
_ARRIVE = {
    BARE: "Bare",
    RELAXED: "Relaxed",
    EDGE: "Edge",
    AVERAGED: "Averages",
    ARMIJO: "Armijo",
    SPECTRAL: "BarzilaiBorwein",
}
_COMPARED = {
    RELAXED: "Relaxed",
    AVERAGED: "Averages",
    ARMIJO: "Armijo",
    TUNED: "Tuned",
    SPECTRAL: "BarzilaiBorwein",
}


def _reached(results: Mapping[str, xr.Dataset], rule: str) -> list[tuple[str, str]]:
    """The settings and directions with which half of the runs reach the target."""
    return [
        (name, direction)
        for name, data in results.items()
        for direction in DIRECTIONS
        if (times := _times(data, "cost_needed").get(f"{direction}, {rule}"))
        and np.isfinite(times.median)
    ]


def _ratios(results: Mapping[str, xr.Dataset], rule: str, other: str) -> list[float]:
    """The median cost with a rule relative to another, wherever both reach the target."""
    both = sorted(set(_reached(results, rule)) & set(_reached(results, other)))
    costs = {name: _times(data, "cost_needed") for name, data in results.items()}
    return [
        costs[name][f"{direction}, {rule}"].median
        / costs[name][f"{direction}, {other}"].median
        for name, direction in both
    ]


def _numbers(results: Mapping[str, xr.Dataset]) -> dict[str, str]:
    numbers = {
        "NoiselessSettings": str(len(results)),
        "NoiselessSeeds": str(min(data.sizes["seed"] for data in results.values())),
        "NoiselessSteps": str(max(int(d.attrs["steps"]) for d in results.values())),
        "NoiselessCases": str(len(results) * len(DIRECTIONS)),
        "NoiselessTolerance": plain(TOLERANCE, 1),
    }
    for rule, name in _ARRIVE.items():
        numbers[f"Noiseless{name}Reached"] = str(len(_reached(results, rule)))
    for rule, name in _COMPARED.items():
        ratios = _ratios(results, BARE, rule)
        middle = float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")
        numbers[f"Noiseless{name}Ratio"] = plain(middle)
        # For Barzilai-Borwein the paper cites its successes instead.
        if rule != SPECTRAL:
            numbers[f"Noiseless{name}Both"] = str(len(ratios))
    return numbers


# A smaller remaining share of the way is drawn at this height.
_LEAST = 1e-9

# The rules in the figure.
_SHOWN = (TUNED, BARE, RELAXED, AVERAGED, ARMIJO)


def _draw(ax: Axes, data: xr.Dataset, direction: str) -> None:
    for k, rule in enumerate(_SHOWN):
        name = f"{direction}, {rule}"
        if name in names(data):
            own = data.sel(strategy=name)
            gap = np.maximum(own.gap.values.astype(float), _LEAST)
            ax.plot(own.spent, gap, label=rule, markevery=(2 * k, 15), **look(k))


def _figure(results: Mapping[str, xr.Dataset]) -> matplotlib.figure.Figure:
    with matplotlib.style.context(STYLE):
        size = (TEXT_WIDTH, 1.15 * len(results) + 0.6)
        figure = matplotlib.figure.Figure(size, layout="constrained")
        axes = figure.subplots(
            len(results), len(DIRECTIONS), sharex="row", sharey=True, squeeze=False
        )
        for row, data in zip(axes, results.values()):
            for ax, direction in zip(row, DIRECTIONS):
                _draw(ax, data, direction)
                ax.axhline(TOLERANCE, color="0.6", linewidth=0.7, label="target")
                ax.set_title(direction)
            row[0].set_ylabel(label(data), fontsize=7)
        axes[0, 0].set(xscale="log", yscale="log", ylim=(_LEAST, 10))
        for ax in axes.flat:
            ax.set_xscale("log")
            ax.minorticks_off()
        figure.supxlabel("gradient-equivalents", fontsize=8)
        figure.supylabel("share of the way left", fontsize=8)
        legend(figure, axes.flat)
    return figure


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """Steps and cost to the target by direction, rule and problem, and the cost of the bare
    rescaling relative to the others."""
    return Findings(
        figures={"noiseless": _figure(results)},
        numbers=_numbers(results),
        tables={"noiseless": _table(results)},
    )


NOISELESS = Question(
    "noiseless",
    "Without noise",
    ask,
    conclude,
    ("rosenbrock", "valley", "quadratic-100", "quadratic-1000", "pendulum"),
)
