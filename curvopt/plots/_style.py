"""The style of all figures: colours, line styles, markers, sizes."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import matplotlib.textpath
import numpy as np
from matplotlib.lines import Line2D

from ._labels import plain


# Okabe & Ito 2008, "Color Universal Design".
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

# For greyscale, where some colours look the same: markers, with sizes at which they look
# equally large. There is no cross, which marks divergence.
_MARKERS = (
    ("o", 3.8),
    ("s", 3.6),
    ("^", 4.2),
    ("D", 3.3),
    ("v", 4.2),
    ("P", 4.8),
    ("*", 6.0),
)

# From the eighth strategy on.
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))

# For `matplotlib.style.context`. Sizes are in points on paper; text is at least 7.
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "font.size": 8,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.0,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.2,
    "lines.markeredgewidth": 0.5,
    "text.usetex": False,
    "xtick.color": "#444444",
    "xtick.labelcolor": "black",
    "xtick.labelsize": 7,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "xtick.minor.size": 1.5,
    "xtick.minor.width": 0.4,
    "ytick.color": "#444444",
    "ytick.labelcolor": "black",
    "ytick.labelsize": 7,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 1.5,
    "ytick.minor.width": 0.4,
}

# In inches: one column of a two-column paper, and both columns.
_WIDTHS = {"column": 3.3, "page": 6.8}

Width = Literal["column", "page"] | float | int


def inches(width: Width) -> float:
    """The width of a figure on paper.

    **Raises:**

    `ValueError` if it is neither a known name nor above 0.
    """
    known = isinstance(width, (int, float, np.number))
    found = float(width) if known else _WIDTHS.get(str(width), 0.0)
    if not 0 < found < np.inf:
        raise ValueError(
            f"width must be one of {', '.join(map(repr, _WIDTHS))}, or inches, but it is "
            f"{width!r}."
        )
    return found


def text_width(label: str, size: float) -> float:
    """The width of a line of text, in points, mathematics included."""
    # In the default font of figures; this needs no renderer.
    path = matplotlib.textpath.TextPath((0, 0), plain(label), size=size)
    return float(path.get_extents().width) if label.strip() else 0.0


@dataclasses.dataclass(frozen=True)
class Look:
    """The look of a strategy in all panels.

    **Attributes:**

    - `colour`, `marker`: together they identify the strategy.
    - `line`: with the marker it does so in greyscale.
    - `size`: the size of the marker.
    - `number`: the number of the look, from 0.
    """

    colour: str
    line: Any
    marker: str
    size: float
    number: int

    def handle(self) -> Line2D:
        """Its handle in a legend."""
        return Line2D(
            [],
            [],
            color=self.colour,
            linestyle=self.line,
            marker=self.marker,
            markersize=self.size,
            markeredgecolor="white",
        )


def looks(labels: Iterable[str], among: Iterable[str] = ()) -> dict[str, Look]:
    """A look for each label, by its place among all strategies: it looks the same in every
    figure. The first 28 differ in greyscale too."""
    drawn, found = dict.fromkeys(labels), {}
    for k, label in enumerate(dict.fromkeys([*among, *drawn])):
        row, column = divmod(k, len(COLOURS))
        line = _LINES[row % len(_LINES)]
        # Each row has other pairs of colour and marker: on a short handle dashes are hard
        # to see.
        marker, size = _MARKERS[(column + 3 * row) % len(_MARKERS)]
        found[label] = Look(COLOURS[column], line, marker, size, k)
    return {label: found[label] for label in drawn}
