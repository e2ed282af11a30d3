"""Guards: where the curvature vanishes or turns negative, and which guard helps most."""

import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import curvopt
from curvopt.plots import STYLE
from strategies import (
    Backtracking,
    CDAT,
    CurvatureRescaling,
    GrowthLimited,
    Restarted,
    Scheduled,
)

from .._bench import Bench
from .._claims import Claims, claims, counted, Pair, verdict
from .._families import COSINE, DIRECTIONS
from .._latex import camel, percent, plain, table
from .._question import Findings, Question
from .._standings import failed, final, label, names
from .._style import look, TEXT_WIDTH


_FIRST = 50

_ASKED = ("SGD", "Adam")

ABSOLUTE, LIMITED = "absolute values", "limited growth"
GAUSS, BACKTRACKING = "Gauss-Newton", "backtracking"
LIMITED_GAUSS = "limited growth, Gauss-Newton"

# Unless the name says otherwise, a negative curvature counts with its absolute value.
CURES = (
    ABSOLUTE,
    "negative as zero",
    "a floor",
    GAUSS,
    BACKTRACKING,
    "a restart",
    LIMITED,
    "limited growth, negative as zero",
    LIMITED_GAUSS,
    "limited growth, a restart",
)


def _cures(direction: str, bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    which, cosine = DIRECTIONS[direction], bench.schedule(COSINE)
    assert cosine is not None
    bare = CurvatureRescaling(1.0, cosine, average=0.9, along="fresh")
    flat = CurvatureRescaling(1.0, cosine, average=0.9, along="fresh", negative="flat")
    exact, gauss = curvopt.AdjointCurvature(), curvopt.GaussNewtonCurvature()
    rules = {
        ABSOLUTE: (bare, exact),
        "negative as zero": (flat, exact),
        GAUSS: (bare, gauss),
        BACKTRACKING: (Backtracking(bare), exact),
        "a restart": (Restarted(bare), exact),
        LIMITED: (GrowthLimited(bare), exact),
        "limited growth, negative as zero": (GrowthLimited(flat), exact),
        LIMITED_GAUSS: (GrowthLimited(bare), gauss),
        "limited growth, a restart": (Restarted(GrowthLimited(bare)), exact),
    }
    if direction == "SGD":
        # At the same scale: sigma is twice ell. Only for SGD: CDAT measures along the whole
        # direction, so that with memory more than the floor would differ.
        floored = Scheduled(CDAT(2.0, average=0.9, epsilon=1e-3), cosine)
        rules["a floor"] = (floored, exact)
    return {
        f"{direction}, {cure}": curvopt.LineSearchMinimiser(which, rule, curvature=method)
        for cure, (rule, method) in rules.items()
    }


def ask(bench: Bench) -> xr.Dataset:
    """Run SGD and Adam with each cure on the reported seeds; keeps the fraction of negative
    curvatures, and the first steps in full."""
    strategies = {
        name: solver
        for direction in _ASKED
        for name, solver in _cures(direction, bench).items()
    }
    data = bench.compare("reported", strategies)
    out = bench.outcomes(data)
    out["negative"] = data.guard_negative.mean("step").astype(np.float32)
    first = data.isel(step=slice(_FIRST)).sel(seed=0)
    for name in ("curvature", "step_size", "loss"):
        out[f"first_{name}"] = first[name].astype(np.float32)
    return out


def _pairs(cure: str) -> list[Pair]:
    return [(f"{direction}, {cure}", f"{direction}, {LIMITED}") for direction in _ASKED]


def _lost(data: xr.Dataset, direction: str) -> dict[str, float]:
    """The shortfall of each cure against the best cure of the same direction; 1 without any
    progress."""
    ours = [name for name in names(data) if name.startswith(f"{direction}, ")]
    means, first = final(data).sel(strategy=ours).mean("seed"), float(data.start.mean())
    best = float(means.min())
    lost = (means.values - best) / max(first - best, np.finfo(np.float32).tiny)
    cures = (name.removeprefix(f"{direction}, ") for name in ours)
    return dict(zip(cures, np.minimum(lost, 1.0).tolist()))


def _mean_lost(results: Mapping[str, xr.Dataset], direction: str) -> dict[str, float]:
    by_setting = [_lost(data, direction) for data in results.values()]
    # The cures of a direction are the same in all settings.
    return {
        cure: float(np.mean([lost[cure] for lost in by_setting])) for cure in by_setting[0]
    }


def _cell(data: xr.Dataset, found: Claims, name: str, pair: Pair) -> str:
    """The mean final loss, bold if better than with limited growth, with a minus if worse,
    and the number of failed runs."""
    if name not in names(data):
        return "--"
    text = plain(float(final(data).sel(strategy=name).mean()), 3)
    said = verdict(found[pair]) if pair in found else "undecided"
    text = {"better": rf"\textbf{{{text}}}", "worse": rf"{text}$^{{-}}$"}.get(said, text)
    number = int(failed(data).sel(strategy=name).sum())
    return f"{text} ({number})" if number else text


def _losses(results: Mapping[str, xr.Dataset], found: Mapping[str, Claims]) -> str:
    """The final loss with each cure, with a column for each setting, and the mean
    shortfall."""
    columns = 2 + len(results)
    rows = [["", *(label(data) for data in results.values()), "lost, mean"]]
    for k, direction in enumerate(_ASKED):
        rule = r"\midrule " if k else ""
        rows.append([rf"{rule}\multicolumn{{{columns}}}{{l}}{{\emph{{{direction}}}}}"])
        lost = _mean_lost(results, direction)
        for cure in (cure for cure in CURES if cure in lost):
            name = f"{direction}, {cure}"
            pair = (name, f"{direction}, {LIMITED}")
            cells = [_cell(x, found[key], name, pair) for key, x in results.items()]
            rows.append([rf"\quad {cure}", *cells, percent(lost[cure])])
    return table(rows, "l" + "r" * (columns - 1))


def _unguarded(data: xr.Dataset, direction: str, what: str) -> np.ndarray:
    """The first steps of one seed with the absolute value as the only guard."""
    return data[what].sel(strategy=f"{direction}, {ABSOLUTE}").values.astype(float)


def _sign_rows(data: xr.Dataset, direction: str) -> list[str]:
    curvature = _unguarded(data, direction, "first_curvature")
    steps = _unguarded(data, direction, "first_step_size")
    loss = _unguarded(data, direction, "first_loss")
    share = [
        percent(float(data.negative.sel(strategy=f"{direction}, {cure}").mean()))
        for cure in (ABSOLUTE, LIMITED)
    ]
    ratio = steps[0] / np.median(steps[1:])
    return [
        *share,
        str(int((curvature < 0).sum())),
        plain(float(ratio)),
        plain(float(loss[1] / loss[0])),
    ]


_SIGNS: tuple[str, ...] = (
    "",
    ABSOLUTE,
    LIMITED,
    "of the first",
    r"$\tau_0 / \tau$",
    "$f_1 / f_0$",
)


def _signs(results: Mapping[str, xr.Dataset]) -> str:
    """How often the curvature is negative over the run and in the first steps, the size of
    the very first step, and its effect on the loss."""
    rows = [list(_SIGNS)]
    for k, direction in enumerate(_ASKED):
        rule = r"\midrule " if k else ""
        rows.append([rf"{rule}\multicolumn{{{len(_SIGNS)}}}{{l}}{{\emph{{{direction}}}}}"])
        for data in results.values():
            rows.append([rf"\quad {label(data)}", *_sign_rows(data, direction)])
    return table(rows, "lrrrrr")


# What the paper cites: the shortfall of these cures, and these columns of the signs.
_SAID_OF_CURES = {
    "SGD": (ABSOLUTE, GAUSS, BACKTRACKING, LIMITED, LIMITED_GAUSS),
    "Adam": (ABSOLUTE, GAUSS, BACKTRACKING, LIMITED),
}
_SIGN_NAMES: tuple[str, ...] = (
    "Negative",
    "NegativeLimited",
    "NegativeFirst",
    "FirstStep",
    "FirstLoss",
)
_SAID_OF_SIGNS: dict[tuple[str, str], tuple[str, ...]] = {
    ("mlp", "SGD"): ("Negative", "NegativeLimited"),
    ("mlp", "Adam"): ("Negative", "NegativeLimited"),
    ("autoencoder", "SGD"): ("FirstStep", "FirstLoss"),
    ("autoencoder", "Adam"): ("NegativeFirst",),
    ("lenet", "SGD"): ("FirstStep",),
    ("lenet", "Adam"): ("Negative", "NegativeLimited"),
    ("gru", "Adam"): ("Negative", "NegativeLimited"),
}


def _numbers(
    results: Mapping[str, xr.Dataset], found: Mapping[str, Claims]
) -> dict[str, str]:
    numbers = {
        "GuardsSettings": str(len(results)),
        "GuardsFirst": str(max(data.sizes["step"] for data in results.values())),
        "GuardsSeeds": str(min(data.sizes["seed"] for data in results.values())),
        "GuardsComparisons": str(max(len(own) for own in found.values())),
    }
    numbers |= counted(found, _pairs(LIMITED_GAUSS), f"Guards{camel(LIMITED_GAUSS)}")
    for direction, cures in _SAID_OF_CURES.items():
        lost = _mean_lost(results, direction)
        for cure in cures:
            numbers[f"Guards{camel(cure)}{direction}Lost"] = percent(lost[cure])
    for (setting, direction), said in _SAID_OF_SIGNS.items():
        if setting in results:
            signs: dict[str, str] = dict(
                zip(_SIGN_NAMES, _sign_rows(results[setting], direction))
            )
            for what in said:
                numbers[f"Guards{what}{camel(setting)}{direction}"] = signs[what]
    return numbers


# The cures and quantities in the figure.
_SHOWN = (ABSOLUTE, LIMITED, LIMITED_GAUSS)
_ROWS = {"first_curvature": r"$|\kappa|$", "first_step_size": r"$\tau$"}

# Heights in inches: a panel; titles, labels and legend together.
_PANEL, _MARGIN = 0.95, 0.75

_HOLLOW: dict[str, Any] = {
    "linestyle": "",
    "markerfacecolor": "white",
    "markeredgewidth": 0.7,
}


def _panel(ax: Axes, data: xr.Dataset, direction: str, what: str) -> None:
    """The absolute value of a quantity at each of the first steps; hollow if negative."""
    for k, cure in enumerate(_SHOWN):
        values = data[what].sel(strategy=f"{direction}, {cure}").values.astype(float)
        steps, size = np.arange(len(values)), np.where(values == 0, np.nan, np.abs(values))
        style: dict[str, Any] = {
            **look(k),
            "linewidth": 0.8,
            "markersize": 2.6,
            "markeredgewidth": 0.3,
        }
        ax.plot(steps, size, **style)
        below = values < 0
        hollow = style | _HOLLOW | {"markeredgecolor": style["color"], "zorder": 3}
        ax.plot(steps[below], size[below], **hollow)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(numticks=5))
    ax.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _handles() -> list[Line2D]:
    handles = [Line2D([], [], label=cure, **look(k)) for k, cure in enumerate(_SHOWN)]
    grey = "#444444"
    negative = {**look(0), **_HOLLOW, "color": grey, "markeredgecolor": grey}
    return [*handles, Line2D([], [], label="negative", **negative)]


def _figure(results: Mapping[str, xr.Dataset]) -> matplotlib.figure.Figure:
    """Curvature and step size in the first steps of one seed, a column for each setting."""
    rows = list(itertools.product(_ASKED, _ROWS))
    with matplotlib.style.context(STYLE):
        figure = matplotlib.figure.Figure(
            (TEXT_WIDTH, _PANEL * len(rows) + _MARGIN), layout="constrained"
        )
        axes = figure.subplots(len(rows), len(results), squeeze=False, sharex=True)
        for line, (direction, what) in zip(axes, rows):
            for ax, data in zip(line, results.values()):
                _panel(ax, data, direction, what)
            line[0].set_ylabel(f"{direction}, {_ROWS[what]}")
        for ax, data in zip(axes[0], results.values()):
            ax.set_title(label(data))
        for ax in axes[-1]:
            ax.set_xlabel("steps")
        figure.align_ylabels()
        figure.legend(handles=_handles(), loc="outside upper center", ncols=4)
    return figure


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The final loss with each cure compared with limited growth, and the first steps,
    where the curvature vanishes or turns negative."""
    pairs = [pair for cure in CURES if cure != LIMITED for pair in _pairs(cure)]
    found = {name: claims(data, pairs) for name, data in results.items()}
    return Findings(
        {"guards": _figure(results)},
        _numbers(results, found),
        {"guards": _losses(results, found), "guards-signs": _signs(results)},
    )


GUARDS = Question("guards", "Where the curvature vanishes", ask, conclude)
