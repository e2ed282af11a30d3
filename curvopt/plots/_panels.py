"""Panels on paper: quantities by directions, at a given width."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib.figure
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .._checks import check_count
from ._labels import write
from ._style import inches, Look, STYLE, text_width, Width


# In inches: narrower panels have no room for their ticks, or for ticks and a label.
_NARROWEST, _NARROWEST_WITH_LABEL = 1.5, 2.1

# In inches: the space below a row of panels, with a label and without, and a line of text.
_BELOW, _BETWEEN, _LINE = 0.42, 0.14, 0.155

# In points: a handle of a legend with the space around it, the part of it that the last
# column does not need, and an average letter of a note.
_HANDLE, _SPACE, _LETTER = 24.8, 4.0, 3.9

_NOTHING: Mapping[str, Line2D] = MappingProxyType({})


def _places(
    quantities: int, directions: int, fit: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Row and column of every panel, and whether directions are rows.

    Directions are columns if they fit; otherwise, if there are fewer quantities, these are
    the columns. A single row is wrapped.

    **Arguments:**

    - `fit`: the number of panels that fit in a row.
    """
    quantity, direction = np.indices((quantities, directions))
    if min(quantities, directions) == 1:
        panels = max(quantities, directions)
        # Balanced: 3 and 2, not 4 and 1.
        columns = math.ceil(panels / math.ceil(panels / fit))
        return *np.divmod(quantity + direction, columns), False
    if directions > fit and quantities < directions:
        return direction, quantity, True
    return quantity, direction, False


class Panels:
    """A figure of panels that share axes and labels where possible.

    **Attributes:**

    - `figure`: the figure.
    - `axes`: shape `(quantity, direction)`, independent of their place on the figure.
    - `narrow`: whether the panels are too narrow for many ticks.
    """

    figure: matplotlib.figure.Figure
    axes: np.ndarray
    narrow: bool

    def __init__(
        self,
        quantities: int,
        titles: Sequence[str],
        *,
        width: Width,
        same_x: bool,
        same_y: bool,
    ):
        """**Arguments:**

        - `quantities`: the number of quantities.
        - `titles`: the titles of the directions.
        - `width`: the width of the figure.
        - `same_x`, `same_y`: whether all quantities share that axis; otherwise only the
            directions of one quantity do.
        """
        self._width = inches(width)
        labelled = quantities > 1 and not same_y
        narrowest = _NARROWEST_WITH_LABEL if labelled else _NARROWEST
        fit = max(1, int(self._width / narrowest))
        self._row, self._column, self._turned = _places(quantities, len(titles), fit)
        rows, columns = int(self._row.max()) + 1, int(self._column.max()) + 1
        self.narrow = self._width / columns < _NARROWEST
        tall = min(max(0.55 * self._width / columns, 0.92), 1.0 if labelled else 1.25)
        self._height = rows * tall + (rows - 1) * (_BETWEEN if same_x else _BELOW) + _BELOW
        self.figure = matplotlib.figure.Figure(
            figsize=(self._width, self._height), layout="constrained"
        )
        grid = self.figure.add_gridspec(rows, columns)
        self.axes = np.empty(self._row.shape, dtype=object)
        for at in np.ndindex(self.axes.shape):
            first_x = (0, 0) if same_x else (at[0], 0)
            first_y = (0, 0) if same_y else (at[0], 0)
            self.axes[at] = self.figure.add_subplot(
                grid[int(self._row[at]), int(self._column[at])],
                sharex=self.axes[first_x],
                sharey=self.axes[first_y],
            )
        self._name(titles)

    def _name(self, titles: Sequence[str]) -> None:
        wrapped = self.axes.shape[0] == 1
        for at, ax in np.ndenumerate(self.axes):
            title = titles[int(at[1])]
            if not self._turned:
                if title and (wrapped or self._row[at] == 0):
                    write(ax.title, title)
            elif title and self._column[at] == self._column.max():
                row_title = ax.annotate(
                    "",
                    (1.03, 0.5),
                    xycoords="axes fraction",
                    rotation=-90,
                    va="center",
                    weight="bold",
                )
                write(row_title, title)

    def _neighbour(self, at: tuple[int, ...], rows: int, columns: int) -> Axes | None:
        row, column = self._row[at] + rows, self._column[at] + columns
        there = (self._row == row) & (self._column == column)
        return next(iter(self.axes[there]), None)

    def label(self, x: Sequence[str], y: Sequence[str]) -> None:
        """Label the axes, by quantity, unless a neighbour that shares the axis is
        labelled."""
        # A row of narrow panels has a single label, below its middle.
        middle = self._column.max() // 2
        for at, ax in np.ndenumerate(self.axes):
            below, left = self._neighbour(at, 1, 0), self._neighbour(at, 0, -1)
            if below is not None and ax.get_shared_x_axes().joined(ax, below):
                ax.tick_params(labelbottom=False)
            elif not self.narrow or self._turned or self._column[at] == middle:
                write(ax.xaxis.label, x[int(at[0])])
            if left is not None and ax.get_shared_y_axes().joined(ax, left):
                ax.tick_params(labelleft=False)
            else:
                write(ax.yaxis.label, y[int(at[0])])
        self.figure.align_labels()

    def finish(
        self, look: Mapping[str, Look], *notes: str, extra: Mapping[str, Line2D] = _NOTHING
    ) -> None:
        """Add a legend above and notes below."""
        lines = legend(self.figure, look, extra) + footnote(self.figure, *notes)
        self.figure.set_figheight(self._height + _LINE * (lines + 1))


def styled():
    """The style context in which figures are made."""
    return matplotlib.style.context(STYLE)


def legend(
    figure: matplotlib.figure.Figure,
    look: Mapping[str, Look],
    extra: Mapping[str, Line2D] = _NOTHING,
) -> int:
    """Add one legend above all panels, in as few lines as the figure's width allows, and
    return their number."""
    labels = [*look, *extra]
    columns = _columns(labels, 72 * figure.get_figwidth())
    # Matplotlib omits labels that begin with an underscore: make the legend with numbers,
    # then replace them.
    made = figure.legend(
        [*(own.handle() for own in look.values()), *extra.values()],
        list(map(str, range(len(labels)))),
        loc="outside upper center",
        ncols=columns,
    )
    for text, label in zip(made.get_texts(), labels):
        write(text, label)
    return math.ceil(len(labels) / columns)


def _columns(labels: Sequence[str], width: float) -> int:
    """The largest number of columns of a legend within a width in points, filled from top
    to bottom."""
    size = STYLE["legend.fontsize"]
    sizes = [text_width(label, size) + _HANDLE for label in labels]
    for rows in range(1, len(labels) + 1):
        columns = [sizes[k : k + rows] for k in range(0, len(sizes), rows)]
        if sum(map(max, columns)) - _SPACE <= width:
            return len(columns)
    return 1


def footnote(figure: matplotlib.figure.Figure, *notes: str) -> int:
    """Add notes below all panels, wrapped at the figure's width, and return their number of
    lines."""
    note = " ".join(note for note in notes if note)
    lines = textwrap.wrap(note, int(72 * figure.get_figwidth() / _LETTER))
    if lines:
        below = figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7)
        below.set_parse_math(False)
    return len(lines)


def chosen_window(window: Any, steps: int, *, parts: int) -> int:
    """The number of steps to smooth over: `window`, or the run over `parts`; at most the
    run."""
    if window is not None:
        check_count("window", window)
    return min(window or max(1, steps // parts), steps)
