"""The common style of the paper's figures."""

from collections.abc import Iterable
from typing import Any

import matplotlib.figure
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from curvopt.plots import COLOURS


# The width of the paper's text block, in inches.
TEXT_WIDTH = 6.05

# Strategies in the background share one entry in the legend.
GREY: dict[str, Any] = {
    "color": "#bbbbbb",
    "linewidth": 0.6,
    "zorder": 1,
    "label": "other strategies",
}

# An eighth colour, for figures with eight lines.
_COLOURS = (*COLOURS, "#7f7f7f")
_MARKERS = "os^DvP*Xph"
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))


def look(k: int) -> dict[str, Any]:
    """The look of the `k`-th strategy: colour, and marker and line style for greyscale."""
    return {
        "color": _COLOURS[k % len(_COLOURS)],
        "linestyle": _LINES[k % len(_LINES)],
        "marker": _MARKERS[k % len(_MARKERS)],
        "markersize": 4,
        "markeredgecolor": "white",
    }


def legend(figure: matplotlib.figure.Figure, axes: Iterable[Axes]) -> None:
    """One legend above all panels, with each strategy once."""
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels()):
            found.setdefault(name, handle)
    # In points: 3.9 for a letter, 30 for a handle with the space around it.
    widest = 3.9 * max(map(len, found)) + 30
    fit = max(1, int(72 * figure.get_figwidth() / widest))
    columns = min(4, fit, len(found))
    # Matplotlib fills a legend by columns; this order makes it read by rows.
    order = [k for c in range(columns) for k in range(c, len(found), columns)]
    listed = [list(found.items())[k] for k in order]
    figure.legend(
        [handle for _, handle in listed],
        [name for name, _ in listed],
        loc="outside upper center",
        ncols=columns,
    )
