r"""Regimes: the effect of $\ell$ from 1/16 to 4 on the loss, the sharpness along the
direction, the distance travelled and the test metric."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from curvopt import plots

from .._bench import Bench
from .._choice import best_value, shortfall
from .._families import CONSTANT
from .._latex import between, fraction, percent, plain, table
from .._policies import BARE, FRESH, scales
from .._question import Findings, Question
from .._style import TEXT_WIDTH


_WINDOWS = 40

_DIRECTIONS = ("SGD", "Adam")

# Policies in the names of the paper's numbers, and in figures.
_POLICIES = {FRESH: ("Averages", "with averages"), BARE: ("Bare", "without averages")}

_ASKED = [
    (direction, policy, CONSTANT) for direction in _DIRECTIONS for policy in (BARE, FRESH)
]


def _course(data: xr.DataArray, what: str) -> xr.DataArray:
    """The mean or median over windows of steps, for a small and smooth course."""
    size = max(1, data.sizes["step"] // _WINDOWS)
    windows = data.coarsen(step=size, boundary="trim")
    return getattr(windows, what)().rename(step="window")


def ask(bench: Bench) -> xr.Dataset:
    """Run SGD and Adam at constant values of the rescaled learning rate; keeps outcomes and
    the course of loss, sharpness along the direction and distance."""
    data = scales(bench, _ASKED)
    descent = -data.slope
    sharpness = data.step_size * np.abs(data.curvature) / descent.where(descent > 0)
    evaluated = [str(k) for k, v in data.items() if "evaluation_step" in v.dims]
    course = {
        "loss": _course(data.loss, "mean"),
        "sharpness": _course(sharpness, "median"),
        "step_size": _course(data.step_size, "median"),
        **{f"course_{name}": data[name] for name in evaluated},
    }
    out = bench.outcomes(data)
    for name, values in course.items():
        # Diverged runs make the mean nan: over the others it would flatter.
        out[name] = values.mean("seed", skipna=False).astype(np.float32)
    return out.drop_vars("step", errors="ignore")


@dataclasses.dataclass(frozen=True)
class Regimes:
    r"""The effect of $\ell$ with one direction and policy on one setting. All arrays have
    the dimension `ell`.

    **Attributes:**

    - `loss`, `error`: the final training loss, and the final test error (the error rate if
        there is an accuracy, else the test loss); means over seeds.
    - `lost`: the shortfall.
    - `distance`: the distance from the start; nan if a run did not end below its start.
    - `sharpness`: the sharpness along the direction, median over the last quarter of the
        run; nan like the distance.
    - `early`: the loss after a tenth of the run.
    - `ended`: whether all runs ended below their start.
    """

    loss: xr.DataArray
    error: xr.DataArray
    lost: xr.DataArray
    distance: xr.DataArray
    sharpness: xr.DataArray
    early: xr.DataArray
    ended: xr.DataArray

    @property
    def edge(self) -> float:
        """The lowest value at which a run did not end below its start; infinite if all
        did."""
        return float(min(self.ended.ell.values[~self.ended.values], default=np.inf))

    @property
    def measured(self) -> xr.DataArray:
        r"""The sharpness relative to $2 \ell$, the value that the rule sets."""
        return self.sharpness / (2 * self.sharpness.ell)

    @property
    def widest(self) -> float:
        """The value at which the distance is largest."""
        return best_value(-self.distance.fillna(0.0), "ell")


def at(data: xr.DataArray, ell: float) -> float:
    """The entry at a value; nan if the value was not tried."""
    return data.reindex(ell=[ell]).item()


def regimes(data: xr.Dataset, direction: str, policy: str) -> Regimes:
    """The effect on one setting, at the values that were tried."""
    own = data.sel(strategy=", ".join((direction, policy, CONSTANT)))
    own = own.isel(ell=np.flatnonzero(own.start.notnull().all("seed")))
    loss, start = own[data.attrs["metric"]], own.start
    error = 1 - own.test_accuracy if "test_accuracy" in own else own.test_loss
    ended = (loss < start).all("seed")
    windows = own.sizes["window"]
    late = own.sharpness.isel(window=slice(-max(1, windows // 4), None))
    return Regimes(
        loss=loss.mean("seed"),
        error=error.mean("seed"),
        lost=shortfall(loss, start, "ell"),
        distance=own.distance.mean("seed").where(ended),
        sharpness=late.median("window").where(ended),
        early=own.loss.isel(window=windows // 10),
        ended=ended,
    )


# By setting.
Row = Mapping[str, Regimes]

# The unit of a quantity, common to both policies of a setting so that they compare.
_Unit = Callable[[Sequence[Regimes]], float]


def _lowest(name: str) -> _Unit:
    return lambda both: min(float(getattr(case, name).min()) for case in both)


# The name of an array, its title, its unit, and the largest value drawn: one wrecked run
# would flatten all others.
_PANELS: tuple[tuple[str, str, _Unit, float], ...] = (
    ("loss", "final loss,\nrelative", _lowest("loss"), 4.0),
    ("error", "test error,\nrelative", _lowest("error"), 4.0),
    (
        "distance",
        "distance,\nrelative",
        lambda both: float(both[0].distance.isel(ell=0)),
        np.inf,
    ),
    ("sharpness", "sharpness along\nthe direction", lambda both: 1.0, np.inf),
)

_DASHED = (0, (4, 2))

# The lines of every panel, and of the panels of sharpness.
_LINES = (
    Line2D([], [], color="#888888", linestyle=_DASHED, label=r"$\ell = 1/2$ and $1$"),
    Line2D([], [], color="black", linestyle=":", label=r"sharpness of $2 \ell$"),
)

_MARK = Line2D([], [], color="black", linestyle="", marker="x", markersize=4)


def _draw(ax: Axes, values: np.ndarray, ended: xr.DataArray, look: dict) -> None:
    ell, at = ended.ell.values, ended.values
    ax.plot(ell, values, linewidth=0.9, markevery=np.flatnonzero(at).tolist(), **look)
    ax.plot(ell[~at], values[~at], "x", color=look["color"], markersize=4)


def _axes(ax: Axes) -> None:
    for mark in (0.5, 1.0):
        ax.axvline(mark, color="#888888", linestyle=_DASHED, linewidth=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks([1 / 16, 1 / 4, 1, 4], ["1/16", "1/4", "1", "4"])
    ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(matplotlib.ticker.NullLocator())


def _figure(rows: Mapping[str, Row], labels: list[str]) -> matplotlib.figure.Figure:
    r"""The effect of $\ell$ with one direction: a row for each policy, a column for each
    quantity, and a line for each setting."""
    shapes = zip(plots.COLOURS, "os^DvP*", labels)
    looks = [
        {"color": colour, "marker": marker, "markersize": 3.5, "label": label}
        for colour, marker, label in shapes
    ]
    with matplotlib.style.context(plots.STYLE):
        figure = matplotlib.figure.Figure((TEXT_WIDTH, 3.5), layout="constrained")
        axes = figure.subplots(len(rows), len(_PANELS), sharex=True, sharey="col")
        for panels, (policy, row) in zip(axes, rows.items()):
            for ax, (name, _, unit, most) in zip(panels, _PANELS):
                for look, (setting, case) in zip(looks, row.items()):
                    by = unit([other[setting] for other in rows.values()])
                    values = np.minimum(getattr(case, name).values / by, most)
                    _draw(ax, values, case.ended, look)
                _axes(ax)
            panels[0].set_ylabel(_POLICIES[policy][1])
            ell = next(iter(row.values())).ended.ell.values
            panels[-1].plot(ell, 2 * ell, color="black", linestyle=":", linewidth=1.0)
        for ax, (_, title, *_) in zip(axes[0], _PANELS):
            ax.set_title(title, weight="normal")
        for ax in axes[-1]:
            ax.set_xlabel(r"$\ell$")
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            [*handles, _MARK, *_LINES],
            [*names, "ended no lower than it began", *(str(x.get_label()) for x in _LINES)],
            loc="outside upper center",
            ncols=3,
        )
    return figure


def _named(ell: float) -> str:
    return "none" if np.isinf(ell) else fraction(ell)


def _values(case: Regimes) -> dict[str, float]:
    """The best values by several criteria, and the edge."""
    return {
        "Early": best_value(case.early, "ell"),
        "Best": best_value(case.loss, "ell"),
        "Test": best_value(case.error, "ell"),
        "Widest": case.widest,
        "Edge": case.edge,
    }


_HALF_AND_ONE = {"Half": 0.5, "One": 1.0}


def _span(values: Sequence[float]) -> str:
    """The lowest and the highest of the finite values."""
    there = [x for x in values if np.isfinite(x)]
    ends = min(there, default=np.nan), max(there, default=np.nan)
    return between(*map(plain, ends))


def _range(row: Row, name: str) -> str:
    """The lowest and the highest of a value over all settings."""
    found = [_values(case)[name] for case in row.values()]
    return between(_named(min(found)), _named(max(found)))


def _numbers(row: Row) -> dict[str, str]:
    """The texts over all settings, with one direction and policy."""
    texts = {"Best": _range(row, "Best")}
    texts["First"] = _named(min(case.edge for case in row.values()))
    texts["Edges"] = str(sum(np.isfinite(case.edge) for case in row.values()))
    for name, ell in _HALF_AND_ONE.items():
        lost = np.minimum([at(case.lost, ell) for case in row.values()], 1.0)
        texts[f"{name}LostMean"] = percent(float(lost.mean()))
        texts[f"{name}LostWorst"] = percent(float(lost.max()))
        texts[f"{name}Measured"] = _span([at(case.measured, ell) for case in row.values()])
    sharpest = [float(case.sharpness.max()) for case in row.values()]
    return texts | {"Sharpest": _span(sharpest)}


def _grown(row: Row) -> str:
    r"""The factor by which the distance grows from $\ell = 1/2$ to 1."""
    return _span([at(x.distance, 1.0) / at(x.distance, 0.5) for x in row.values()])


def _table(rows: Mapping[str, Mapping[str, Row]], labels: list[str]) -> str:
    """The table by direction, policy and setting."""
    head = ["", "early", "loss", "test", "distance", "edge", "lost at 1/2", "at 1"]
    lines = [[*head, "sharpest"]]
    for direction, policies in rows.items():
        for policy, row in policies.items():
            group = rf"\emph{{{direction}, {_POLICIES[policy][1]}}}"
            lines.append([group, *[""] * 8])
            for label, case in zip(labels, row.values()):
                values = map(_named, _values(case).values())
                lost = [percent(at(case.lost, ell)) for ell in _HALF_AND_ONE.values()]
                sharpest = plain(float(case.sharpness.max()))
                lines.append([rf"\quad {label}", *values, *lost, sharpest])
    return table(lines, "l" + "r" * 8)


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    r"""The effect of $\ell$ on loss, test error, sharpness and distance, and the ends of
    its regimes."""
    rows = {
        direction: {
            policy: {
                name: regimes(data, direction, policy) for name, data in results.items()
            }
            for policy in _POLICIES
        }
        for direction in _DIRECTIONS
    }
    labels = [data.attrs["label"] for data in results.values()]
    seeds = [data.sizes["seed"] for data in results.values()]
    numbers = {
        f"Regimes{what}{direction}{_POLICIES[policy][0]}": text
        for direction, policies in rows.items()
        for policy, row in policies.items()
        for what, text in _numbers(row).items()
    }
    tried = [
        case.ended.ell.values
        for policies in rows.values()
        for row in policies.values()
        for case in row.values()
    ]
    last = [max(values) for values in tried]
    numbers |= {
        **{
            f"Regimes{name}SGDAverages": _range(rows["SGD"][FRESH], name)
            for name in ("Early", "Test", "Widest")
        },
        **{f"RegimesGrown{d}Averages": _grown(row[FRESH]) for d, row in rows.items()},
        "RegimesSettings": str(len(results)),
        "RegimesTried": between(fraction(min(map(min, tried))), fraction(min(last))),
        "RegimesTriedFarthest": fraction(max(last)),
        "RegimesSeeds": between(str(min(seeds)), str(max(seeds))),
    }
    figures = {f"regimes-{d.lower()}": _figure(case, labels) for d, case in rows.items()}
    return Findings(figures, numbers, {"regimes": _table(rows, labels)})


REGIMES = Question("regimes", "Where is exploration, where the edge?", ask, conclude)
