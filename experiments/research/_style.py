"""What the figures of the paper have in common: its page, and how strategies look."""

from collections.abc import Iterable
from typing import Any

import matplotlib.figure
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from curvopt.plots import COLOURS


# In inches: the width of the text block of the paper.
TEXT_WIDTH = 6.05

# For those that are there to be compared with: one name in the legend for all.
GREY: dict[str, Any] = {
    "color": "#bbbbbb",
    "linewidth": 0.6,
    "zorder": 1,
    "label": "other strategies",
}

# An eighth colour: no two in a figure of so many lines are the same.
_COLOURS = (*COLOURS, "#7f7f7f")
_MARKERS = "os^DvP*Xph"
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))


def look(k: int) -> dict[str, Any]:
    """How the `k`-th strategy is drawn: its colour, and for greyscale marker and line."""
    return {
        "color": _COLOURS[k % len(_COLOURS)],
        "linestyle": _LINES[k % len(_LINES)],
        "marker": _MARKERS[k % len(_MARKERS)],
        "markersize": 4,
        "markeredgecolor": "white",
    }


def legend(figure: matplotlib.figure.Figure, axes: Iterable[Axes]) -> None:
    """One legend above all panels, each strategy once."""
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels()):
            found.setdefault(name, handle)
    # In points: a letter, and a handle with the space around it.
    widest = 3.9 * max(map(len, found)) + 30
    fit = max(1, int(72 * figure.get_figwidth() / widest))
    columns = min(4, fit, len(found))
    # matplotlib fills columns; strategies are to be read along the lines.
    order = [k for c in range(columns) for k in range(c, len(found), columns)]
    listed = [list(found.items())[k] for k in order]
    figure.legend(
        [handle for _, handle in listed],
        [name for name, _ in listed],
        loc="outside upper center",
        ncols=columns,
    )
