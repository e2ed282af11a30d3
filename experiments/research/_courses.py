"""The figure of learning curves, with a panel for each setting."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.figure
import matplotlib.style
import matplotlib.ticker
import xarray as xr
from matplotlib.axes import Axes

from curvopt.plots import STYLE

from ._reported import clocks
from ._standings import label, names
from ._style import GREY, legend, look


_ABREAST = 3


def _panel(ax: Axes, data: xr.Dataset, shown: Sequence[str], clock: str) -> None:
    # A mean over the finite seeds only would flatter: a line ends where a run diverges.
    loss = data.smooth_loss.astype(float).mean("seed", skipna=False)
    times = clocks(data)[clock]
    lowest, start = float(loss.min()), float(data.start.mean())
    # A loss above the start is drawn at the upper edge.
    highest = start + 0.05 * abs(start)
    loss = loss.clip(max=highest)
    points = data.sizes["window"]
    for k, name in enumerate(shown):
        if name in names(data):
            every = (k * points // (4 * len(shown)), max(1, points // 4))
            x, y = times.sel(strategy=name), loss.sel(strategy=name)
            ax.plot(x, y, label=name, markevery=every, clip_on=False, **look(k))
    for name in names(data):
        if name not in shown:
            ax.plot(times.sel(strategy=name), loss.sel(strategy=name), **GREY)
    if lowest > 0:
        # Final losses are close together and far below the start.
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        ax.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    else:
        ax.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    ax.set_ylim(lowest - 0.05 * abs(lowest), highest)
    ax.set_xlim(0, float(times.max()))
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    ax.set_title(label(data))


def courses(
    results: Mapping[str, xr.Dataset], shown: Sequence[str], clock: str
) -> matplotlib.figure.Figure:
    """The smooth loss, a mean over seeds, against one of `clocks`, up to slightly above its
    initial value; the strategies `shown` in colour, the others grey."""
    columns = min(_ABREAST, len(results))
    rows = math.ceil(len(results) / columns)
    with matplotlib.style.context(STYLE):
        size = (6.0, 1.7 * rows + 0.16 * math.ceil(len(shown) / 4) + 0.2)
        figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        for ax, data in zip(axes.flat, results.values()):
            _panel(ax, data, shown, clock)
        for ax in axes.flat[len(results) :]:
            ax.remove()
        figure.supxlabel(clock, fontsize=8)
        figure.supylabel("mini-batch loss", fontsize=8)
        legend(figure, axes.flat[: len(results)])
    return figure
