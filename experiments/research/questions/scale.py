r"""Scale: how the best raw learning rate and the best $\ell$ vary over problems,
directions, widths and batch sizes."""

import dataclasses
from collections.abc import Iterable, Mapping

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from curvopt import plots

from .._bench import Bench
from .._choice import (
    at_edge,
    best_value,
    Common,
    common_value,
    decades,
    good_values,
    shortfall,
)
from .._families import CONSTANT, COSINE, DIRECTIONS, KINDS, RATES
from .._latex import between, fraction, percent, plain, table
from .._policies import FRESH, scales
from .._question import Findings, Question
from .._style import TEXT_WIDTH


# The two numbers, which prefix the names of variables, and their dimensions.
RAW, RESCALED = "raw", "rescaled"
VALUES = {RAW: "learning_rate", RESCALED: "ell"}

# A value with a shortfall of at most this is a good one.
_WITHIN = 0.05


def _raw(bench: Bench) -> xr.Dataset:
    parts: list[xr.Dataset] = []
    for name, which in DIRECTIONS.items():
        out = bench.outcomes(bench.rates(name, which, RATES[name]))
        parts.append(out.rename(strategy="schedule").expand_dims(direction=[name]))
    return xr.concat(parts, dim="direction", join="outer")


def _rescaled(bench: Bench) -> xr.Dataset:
    data = scales(bench, [(name, FRESH, kind) for name in DIRECTIONS for kind in KINDS])
    out = bench.outcomes(data).set_index(strategy=["direction", "policy", "schedule"])
    return out.unstack("strategy").squeeze("policy", drop=True)


def ask(bench: Bench) -> xr.Dataset:
    """Run each direction at all raw learning rates and at all rescaled ones."""
    raw, rescaled = _raw(bench), _rescaled(bench)
    named = raw.rename({name: f"raw_{name}" for name in raw})
    other = rescaled.rename({name: f"rescaled_{name}" for name in rescaled})
    return named.merge(other, join="outer")


@dataclasses.dataclass(frozen=True)
class Tried:
    """One of the two numbers, tried with one direction on one problem.

    **Attributes:**

    - `number`: which of the two.
    - `lost`: the shortfall at each value.
    - `loss`: the final loss at each value, mean over seeds.
    """

    number: str
    lost: xr.DataArray
    loss: xr.DataArray

    @property
    def best(self) -> float:
        return best_value(self.lost, VALUES[self.number])

    @property
    def good(self) -> tuple[float, float]:
        return good_values(self.lost, VALUES[self.number], _WITHIN)

    @property
    def edge(self) -> int:
        return at_edge(self.lost, VALUES[self.number])

    def loss_at(self, value: float) -> float:
        return self.loss.reindex({VALUES[self.number]: [value]}).item()


# By setting; or by setting and direction.
Row = Mapping[str, Tried]

# The name of all directions together.
ALL = "All"


def tried(results: Mapping[str, xr.Dataset], number: str, kind: str) -> dict[str, Row]:
    """One of the two numbers under one schedule, by direction and setting, and finally for
    all."""
    rows: dict[str, Row] = {}
    for direction in DIRECTIONS:
        row = {}
        for name, data in results.items():
            own = data.sel(direction=direction, schedule=kind)
            loss = own[f"{number}_{data.attrs['metric']}"]
            lost = shortfall(loss, own[f"{number}_start"], VALUES[number])
            row[name] = Tried(number, lost, loss.mean("seed"))
        rows[direction] = row
    everything = {
        f"{name}, {d}": case for d, row in rows.items() for name, case in row.items()
    }
    return rows | {ALL: everything}


def common(row: Row) -> Common:
    """The one value for all entries of a row."""
    number = next(iter(row.values())).number
    return common_value({name: case.lost for name, case in row.items()}, VALUES[number])


def relative_losses(row: Row, to: Row, value: float | None = None) -> list[float]:
    """The final loss relative to the lowest in another row, with the best value of each or
    with one value for all."""
    return [
        case.loss_at(case.best if value is None else value)
        / to[name].loss_at(to[name].best)
        for name, case in row.items()
    ]


# Values of a grid as texts: one digit identifies a half power of ten.
_NAMED = {RAW: lambda x: plain(x, 1), RESCALED: fraction}


def _signed(x: float) -> str:
    if not np.isfinite(x):
        return "--"
    return rf"\ensuremath{{{'-' if x < 0 else '+'}}}{percent(abs(x))}"


def _range(row: Row, number: str) -> str:
    """The lowest and the highest value tried on any setting."""
    values = [case.lost.dropna(VALUES[number])[VALUES[number]] for case in row.values()]
    ends = (
        min(float(case.min()) for case in values),
        max(float(case.max()) for case in values),
    )
    return between(*map(_NAMED[number], ends))


def _losses(name: str, ratios: list[float]) -> dict[str, str]:
    # A geometric mean: twice and half the loss cancel.
    middle = float(np.exp(np.mean(np.log(ratios))))
    means = {"Mean": middle, "Least": min(ratios), "Most": max(ratios)}
    return {f"{name}Loss{what}": _signed(ratio - 1) for what, ratio in means.items()}


def found(raw: Row, rescaled: Row) -> dict[str, str]:
    """The texts about both numbers, with one direction or with all."""
    texts = {}
    for name, number, row in (("Raw", RAW, raw), ("Rescaled", RESCALED, rescaled)):
        best, one, named = [case.best for case in row.values()], common(row), _NAMED[number]
        own = {
            "Tried": _range(row, number),
            "Best": between(named(min(best)), named(max(best))),
            "Spread": plain(decades(best)),
            "Edges": str(sum(case.edge != 0 for case in row.values())),
            "Common": named(one.value),
            "CommonMean": percent(one.mean),
            "CommonWorst": percent(one.worst),
        }
        texts |= {f"{name}{what}": text for what, text in own.items()}
        texts |= _losses(f"{name}Common", relative_losses(row, raw, one.value))
    return texts | _losses("Rescaled", relative_losses(rescaled, raw))


# The rows of the table: title and text.
_ROWS = (
    ("best rate", "{RawBest}"),
    (r"\quad spread, decades", "{RawSpread}"),
    (r"best $\ell$", "{RescaledBest}"),
    (r"\quad spread, decades", "{RescaledSpread}"),
    (r"\midrule one rate", "{RawCommon}"),
    (r"\quad lost, mean", "{RawCommonMean}"),
    (r"\quad lost, at worst", "{RawCommonWorst}"),
    (r"one $\ell$", "{RescaledCommon}"),
    (r"\quad lost, mean", "{RescaledCommonMean}"),
    (r"\quad lost, at worst", "{RescaledCommonWorst}"),
    (r"\midrule loss with the best $\ell$, mean", "{RescaledLossMean}"),
    (r"\quad at worst", "{RescaledLossMost}"),
    (r"loss with one $\ell$, mean", "{RescaledCommonLossMean}"),
    (r"\quad at worst", "{RescaledCommonLossMost}"),
    ("loss with one rate, mean", "{RawCommonLossMean}"),
    (r"\quad at worst", "{RawCommonLossMost}"),
)


def _table(columns: Mapping[str, Mapping[str, str]]) -> str:
    header = ["", *(name if name != ALL else "all" for name in columns)]
    rows = [
        [name, *(text.format_map(texts) for texts in columns.values())]
        for name, text in _ROWS
    ]
    return table([header, *rows], "l" + "r" * len(columns))


# The texts that the paper cites, under the cosine and at a constant rate.
_SPREAD = ("RawSpread", "RescaledSpread")
_COMMON = ("RawCommonMean", "RescaledCommonMean")
_WORST = ("RawCommonWorst", "RescaledCommonWorst")
_OF_DIRECTION = (
    *(*_SPREAD, *_COMMON, *_WORST, "RawCommonLossMost", "RescaledCommonLossMost"),
    *("RescaledLossMean", "RescaledLossLeast", "RescaledLossMost"),
)
_SAID = {
    COSINE: {
        **dict.fromkeys(DIRECTIONS, _OF_DIRECTION),
        ALL: (*_SPREAD, *_COMMON, *_WORST, "RawEdges", "RescaledEdges", "RescaledCommon"),
    },
    CONSTANT: {
        **dict.fromkeys(DIRECTIONS, (*_COMMON, "RescaledLossMean")),
        ALL: (*_COMMON, *_WORST, "RescaledCommon"),
    },
}


def _counts(results: Mapping[str, xr.Dataset]) -> dict[str, str]:
    steps = [int(data.attrs["steps"]) for data in results.values()]
    seeds = [data.sizes["seed"] for data in results.values()]
    return {
        "ScaleSettings": str(len(results)),
        "ScaleCases": str(len(results) * len(DIRECTIONS)),
        "ScaleWithin": percent(_WITHIN, 1),
        "ScaleSteps": between(str(min(steps)), str(max(steps))),
        "ScaleSeeds": between(str(min(seeds)), str(max(seeds))),
    }


# Sizes in inches: the height of a setting's row, of the gap between directions, and of
# labels and legend; the width of a decade, and of the panel of losses.
_ROW, _GAP, _MARGIN, _DECADE, _LOSSES = 0.115, 0.24, 0.9, 0.38, 1.0

_GREY = "#888888"

# A larger multiple of the lowest loss is drawn here.
_HIGHEST = 2.0


def _draw_number(ax: Axes, row: Row, constant: Row, colour: str) -> None:
    """The best values, the good values around them, and the best common value."""
    ax.axvline(common(row).value, color=_GREY, linestyle=(0, (4, 2)), linewidth=0.9)
    for at, (name, case) in enumerate(row.items()):
        ax.plot(case.good, [at, at], color=colour, linewidth=2.4, alpha=0.45)
        marker = {-1: "<", 0: "o", 1: ">"}[case.edge]
        ax.plot(constant[name].best, at, "|", color="black", markersize=6)
        ax.plot(case.best, at, marker, color=colour, markersize=4)


def _draw_losses(ax: Axes, raw: Row, rescaled: Row, colour: str) -> None:
    """The excess of the final loss with the best rescaled value, and with one value for
    all, over that with the best raw value."""
    at = np.arange(len(raw))
    ratios = (
        relative_losses(rescaled, raw, common(rescaled).value),
        relative_losses(rescaled, raw),
    )
    one, best = (np.minimum(x, _HIGHEST) - 1 for x in ratios)
    ax.axvline(0.0, color=_GREY, linewidth=0.9)
    ax.plot(one, at, "s", color=colour, markersize=4, markerfacecolor="white")
    ax.plot(best, at, "o", color=colour, markersize=3)


def _handles() -> list[Line2D]:
    def handle(label: str, marker: str, size: float, **options) -> Line2D:
        look = {"color": "#444444", "linestyle": "", "marker": marker, "markersize": size}
        return Line2D([], [], label=label, **(look | options))

    return [
        handle("best, cosine", "o", 4.0),
        handle("best is the last tried", ">", 4.0),
        handle("best, constant", "|", 6.0, color="black"),
        handle(
            f"at most {_WITHIN:.0%} lost", "", 0.0, linestyle="-", linewidth=2.4, alpha=0.45
        ),
        handle("one for all", "", 0.0, linestyle=(0, (4, 2)), linewidth=0.9, color=_GREY),
        handle(r"loss with one $\ell$", "s", 4.0, markerfacecolor="white"),
    ]


def _figure(
    labels: list[str],
    cosine: Mapping[str, Mapping[str, Row]],
    constant: Mapping[str, Mapping[str, Row]],
) -> matplotlib.figure.Figure:
    """The optimum of both numbers over all settings; a decade is equally wide in both."""
    names = list(DIRECTIONS)
    limits = {
        number: _limits(case.lost for d in names for case in cosine[number][d].values())
        for number in VALUES
    }
    spans = [np.log10(high / low) for low, high in limits.values()]
    height = len(names) * (_ROW * len(labels) + _GAP) + _MARGIN
    with matplotlib.style.context(plots.STYLE):
        figure = matplotlib.figure.Figure((TEXT_WIDTH, height), layout="constrained")
        axes = figure.subplots(
            len(names),
            3,
            sharex="col",
            sharey=True,
            width_ratios=[*(_DECADE * span for span in spans), _LOSSES],
        )
        for row, name, colour in zip(axes, names, plots.COLOURS):
            for ax, number in zip(row, VALUES):
                _draw_number(ax, cosine[number][name], constant[number][name], colour)
                ax.set_xscale("log")
                ax.set_xlim(*limits[number])
            _draw_losses(row[2], cosine[RAW][name], cosine[RESCALED][name], colour)
            row[0].set_title(name, loc="left")
        axes[0, 0].set_yticks(range(len(labels)), labels)
        axes[0, 0].set_ylim(len(labels) - 0.4, -0.6)
        for ax, text in zip(
            axes[-1], ("learning rate", r"$\ell$", "loss against\nbest rate")
        ):
            ax.set_xlabel(text)
        axes[0, 1].set_xticks([1 / 8, 1 / 2, 2, 8], ["1/8", "1/2", "2", "8"])
        axes[0, 1].xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes[0, 2].xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, 0))
        figure.legend(handles=_handles(), loc="outside upper center", ncols=3)
    return figure


def _limits(losts: Iterable[xr.DataArray]) -> tuple[float, float]:
    """Axis limits around all values that were tried."""
    values = np.concatenate([lost[lost.dims[0]].values for lost in losts])
    return float(values.min()) / 1.5, float(values.max()) * 1.5


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    r"""The optimum of both numbers over all settings, and the shortfall of one for all."""
    kinds = {
        kind: {number: tried(results, number, kind) for number in VALUES} for kind in KINDS
    }
    columns = {
        kind: {
            name: found(rows[RAW][name], rows[RESCALED][name])
            for name in (*DIRECTIONS, ALL)
        }
        for kind, rows in kinds.items()
    }
    numbers = {
        f"Scale{what}{name}{'' if kind == COSINE else 'Constant'}": columns[kind][name][
            what
        ]
        for kind, by_name in _SAID.items()
        for name, said in by_name.items()
        for what in said
    } | {
        f"Scale{what}{name}": columns[COSINE][name][what]
        for what, name in (
            *(("RawTried", "SGD"), ("RawTried", "Adam")),
            ("RescaledTried", "SGD"),
        )
    }
    labels = [data.attrs["label"] for data in results.values()]
    return Findings(
        {"scale": _figure(labels, kinds[COSINE], kinds[CONSTANT])},
        _counts(results) | numbers,
        {"scale": _table(columns[COSINE])},
    )


SCALE = Question("scale", "Does one number fit all problems?", ask, conclude)
