"""What all figures have in common: colours, line styles, markers, sizes."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import matplotlib.textpath


# Okabe & Ito 2008, "Color Universal Design".
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

# For greyscale, in which some of the colours are alike: markers, and sizes at which they
# look equally large. No cross: it marks what diverged.
_MARKERS = (
    ("o", 3.8),
    ("s", 3.6),
    ("^", 4.2),
    ("D", 3.3),
    ("v", 4.2),
    ("P", 4.8),
    ("*", 6.0),
)

# For the eighth strategy and on.
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))

# For `matplotlib.style.context`. Sizes are those on paper, in points: nothing is below 7.
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

# Of one column of a paper in two columns, and of both, in inches.
_WIDTHS = {"column": 3.3, "page": 6.8}

Width = Literal["column", "page"] | float | int


def inches(width: Width) -> float:
    """The width of a figure on paper.

    **Raises:**

    `ValueError` if it is neither a known name nor above 0.
    """
    found = _WIDTHS.get(width) if isinstance(width, str) else float(width)
    if found is None or not found > 0:
        raise ValueError(
            f"width must be one of {', '.join(map(repr, _WIDTHS))}, or inches, but it is "
            f"{width!r}."
        )
    return found


def text_width(text: str, size: float) -> float:
    """The width of a line of text, in points, mathematics included."""
    # Of the font that figures are drawn in by default; no renderer is needed.
    path = matplotlib.textpath.TextPath((0, 0), text, size=size)
    return float(path.get_extents().width) if text.strip() else 0.0


@dataclasses.dataclass(frozen=True)
class Look:
    """How a strategy is drawn in all panels.

    **Attributes:**

    - `colour`, `marker`: both together tell it apart.
    - `line`: with the marker does so in greyscale.
    - `size`: of the marker.
    - `number`: which of the looks it is, from 0.
    """

    colour: str
    line: Any
    marker: str
    size: float
    number: int


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each label, in their order; 28 are different in greyscale too."""
    found = {}
    for k, label in enumerate(dict.fromkeys(labels)):
        row, column = divmod(k, len(COLOURS))
        line = _LINES[row % len(_LINES)]
        # Other pairs in every row: on a short handle a dash is hard to see.
        marker, size = _MARKERS[(column + 3 * row) % len(_MARKERS)]
        found[label] = Look(COLOURS[column], line, marker, size, k)
    return found
