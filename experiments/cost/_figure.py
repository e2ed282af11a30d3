from collections.abc import Sequence

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from curvopt.plots import COLOURS

from ._variants import GRADIENT


_STYLE = {
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "ytick.major.size": 0,
}

# Two more colours, so that no two kinds of method share one.
_COLOURS = (*COLOURS, "#7f7f7f", "#8c564b")

_COLUMNS = {
    "time_median": "time",
    "flops_ratio": "FLOPs",
    "temporary_ratio": "temporary memory",
}


def _colours(labels: Sequence[str]) -> list[str]:
    """A colour for each kind of method, which is its label up to the comma."""
    kinds = [label.partition(",")[0] for label in labels]
    order = list(dict.fromkeys(kinds))
    return [_COLOURS[order.index(kind) % len(_COLOURS)] for kind in kinds]


def _scale(ax: Axes, variable: str, values: xr.DataArray) -> None:
    """Set the scale that the panels of a column share; it includes the gradient's 1. Memory
    spans more than a factor of ten."""
    ax.set_xlabel(f"{_COLUMNS[variable]}\nover one gradient's")
    if variable == "temporary_ratio":
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    else:
        ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    ax.set_xlim(0.85 * min(values.min().item(), 1.0), max(1.2 * values.max().item(), 2.0))


def _panel(ax: Axes, cases: xr.Dataset, variable: str, colours: list[str]) -> None:
    """A row for each method: the larger batch filled, smaller ones hollow."""
    rows = np.arange(cases.sizes["variant"])
    by_size = np.argsort(cases.batch_size.values)
    for k, largest in zip(by_size, [False] * (len(by_size) - 1) + [True]):
        case = cases.isel(case=k)
        x = case[variable].values
        shift = 0.0 if len(by_size) == 1 else (-0.14 if largest else 0.14)
        faces = colours if largest else ["white"] * len(rows)
        if variable == "time_median":
            low, high = case.time_low.values, case.time_high.values
            ax.hlines(rows + shift, low, high, colors=colours, linewidth=1.2)
        ax.scatter(x, rows + shift, s=20, c=faces, edgecolors=colours, zorder=3)
        if largest:
            for row in rows[~np.isfinite(x)]:
                ax.annotate("does not run", (1.06, row), fontsize=7, va="center")
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_axisbelow(True)
    ax.grid(axis="both", alpha=0.3)


def figure(data: xr.Dataset) -> matplotlib.figure.Figure:
    """Time, FLOPs and memory relative to a gradient's, with a row of panels per workload.

    Dots are medians; lines of time span the quartiles. Methods keep their place and colour
    in all panels, and each column has one scale, logarithmic for memory.
    """
    data = data.sel(variant=[m for m in data.variant.values if m != GRADIENT])
    workloads = list(dict.fromkeys(data.workload.values))
    methods = data.sizes["variant"]
    colours = _colours(data.label.values.tolist())
    with matplotlib.style.context(_STYLE):
        result = matplotlib.figure.Figure(
            figsize=(8.5, 0.9 + len(workloads) * (0.35 + 0.155 * methods)),
            layout="constrained",
        )
        axes = result.subplots(
            len(workloads), len(_COLUMNS), squeeze=False, sharex="col", sharey=True
        )
        for row, workload in zip(axes, workloads):
            cases = data.isel(case=np.flatnonzero(data.workload.values == workload))
            for ax, variable in zip(row, _COLUMNS):
                _panel(ax, cases, variable, colours)
            sizes = sorted(cases.batch_size.values, reverse=True)
            row[0].set_title(
                f"{cases.title.values[0]}, batch {' ●, '.join(map(str, sizes))} ○",
                loc="left",
            )
            row[0].set_yticks(range(methods), data.label.values)
        for ax, variable in zip(axes[-1], _COLUMNS):
            drawn = ["time_low", "time_high"] if variable == "time_median" else [variable]
            _scale(ax, variable, data[drawn].to_array())
    return result
