from collections.abc import Iterable, Sequence

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .._names import shown
from ..statistics._samples import numbers
from ._labels import write
from ._panels import footnote, styled
from ._style import inches, text_width, Width


# In inches: a line with a name, and the bar of a group.
_NAME, _BAR = 0.17, 0.075

# In points: the names' size, and the space between them and their lines.
_FONT, _SPACE = 7.5, 5.0

# In inches: a line of the notes.
_LINE = 0.155

_RANKS = "Average ranks; 1 is the best possible."
_BARS = "A bar joins methods between which no difference can be claimed."

# The least fraction of the figure's width for the axis if names are on both sides.
_LEAST = 0.4


def _check(
    names: Sequence[str],
    ranks: np.ndarray,
    distance: float,
    groups: Sequence[Sequence[str]],
) -> None:
    if ranks.shape != (len(names),) or len(names) < 2 or not np.isfinite(ranks).all():
        raise ValueError(
            "average_ranks must be one finite rank for each of at least two names, but "
            f"there are {len(names)} names and they are {ranks}."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"names must be distinct, but are {list(names)}.")
    if not distance > 0:
        raise ValueError(f"critical_difference must be above 0, but it is {distance}.")
    for group in groups:
        for name in group:
            if name not in names:
                raise ValueError(
                    f"groups must be made of names, but {name!r} is not among the names."
                )


def critical_differences(
    names: Sequence[str],
    average_ranks: ArrayLike | Sequence[float],
    critical_difference: float,
    groups: Sequence[Sequence[str]],
    *,
    width: Width = "page",
) -> matplotlib.figure.Figure:
    """A critical-difference diagram: average ranks on an axis, the best on the left.

    A bar joins methods between which no difference can be claimed; the critical difference
    is shown above the axis.

    ```python
    found = curvopt.statistics.critical_difference(scores)
    ranks = found.average_ranks
    curvopt.plots.critical_differences(
        list(ranks), list(ranks.values()), found.critical_difference, found.groups
    )
    ```

    **Arguments:**

    - `names`: the names of the methods.
    - `average_ranks`: one for each method; 1 is the best possible.
    - `critical_difference`: the least distance between average ranks that differ.
    - `groups`: sets of names, each joined by a bar.
    - `width`: as in [`curvopt.plots.learning_curves`][].

    **Returns:**

    A `matplotlib` figure.

    **Raises:**

    `ValueError` if there are fewer than two names, names repeat, there is not one finite
    rank for each, or a group contains another name.

    Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7,
    2006, figure 1, with the best on the left.
    """
    for name, given in (("names", names), ("groups", groups)):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError(f"{name} must be a sequence, but it is {given!r}.")
    ranks = numbers("average_ranks", average_ranks)
    distance = float(numbers("critical_difference", critical_difference).item())
    _check(names, ranks, distance, groups)
    order = np.argsort(ranks, kind="stable")
    names = [str(names[k]) for k in order]
    ranks = ranks[order]
    size = inches(width)
    texts, left, margins = _sides(names, ranks, size)
    bars = _BAR * (len(groups) + 1)
    below = bars + _NAME * max(left, len(names) - left)
    with styled():
        figure = matplotlib.figure.Figure(figsize=(size, 1.0))
        noted = _LINE * footnote(figure, _RANKS, _BARS if len(groups) else "") + 0.06
        # In inches from the axis down, so that the spacing is the same at any size.
        height = 0.64 + below + noted
        figure.set_figheight(height)
        across = (size - sum(margins)) / size
        ax = figure.add_axes((margins[0] / size, noted / height, across, below / height))
        _draw_axis(ax, len(names), below)
        _draw_names(ax, texts, ranks, left, bars)
        for k, group in enumerate(groups):
            own = [ranks[names.index(name)] for name in group]
            y = [_BAR * (k + 1)] * 2
            ax.plot([min(own), max(own)], y, color="black", linewidth=2.6, gid="group")
        _draw_distance(ax, distance)
    return figure


def _sides(
    names: Sequence[str], ranks: np.ndarray, size: float
) -> tuple[list[str], int, tuple[float, float]]:
    """The names with their ranks, the number of names on the left, and the margins that
    they need on both sides, in inches. All names are on the left if the axis would be too
    short between two columns."""
    half = (len(names) + 1) // 2
    for left in (half, len(names)):
        texts = [
            f"{shown(name)}  {rank:.2f}" if k < left else f"{rank:.2f}  {shown(name)}"
            for k, (name, rank) in enumerate(zip(names, ranks))
        ]
        widths = [(text_width(text, _FONT) + 2 * _SPACE) / 72 for text in texts]
        margins = max(widths[:left]), max(widths[left:], default=0.12)
        if size - sum(margins) >= _LEAST * size:
            break
    return texts, left, margins


def _draw_axis(ax: Axes, methods: int, below: float) -> None:
    ax.set_xlim(1, methods)
    ax.set_ylim(below, 0)
    ax.grid(False)
    ax.spines[["left", "right", "bottom"]].set_visible(False)
    ax.spines["top"].set_visible(True)
    ax.xaxis.tick_top()
    ax.set_xticks(range(1, methods + 1))
    ax.set_yticks([])


def _draw_names(
    ax: Axes, texts: Sequence[str], ranks: np.ndarray, left: int, bars: float
) -> None:
    """Draw the names: on the left with the best on top, on the right with the worst on top,
    so that no lines cross."""
    low, high = ax.get_xlim()
    for k, (text, rank) in enumerate(zip(texts, ranks)):
        is_left = k < left
        y = bars + _NAME * ((k if is_left else len(texts) - 1 - k) + 0.5)
        edge = low if is_left else high
        ax.plot(
            [rank, rank, edge], [0, y, y], color="#444444", linewidth=0.7, clip_on=False
        )
        ax.plot(rank, 0, "o", color="black", markersize=3, clip_on=False, gid="rank")
        label = ax.annotate(
            "",
            (edge, y),
            xytext=(-_SPACE if is_left else _SPACE, 0),
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="center",
            fontsize=_FONT,
            annotation_clip=False,
        )
        write(label, text)


def _draw_distance(ax: Axes, distance: float) -> None:
    """Draw a ruler above the axis, as long as the critical difference."""
    low, high = ax.get_xlim()
    shown = min(distance, high - low)
    y = -0.36
    ends = [low, low + shown]
    ax.plot(ends, [y, y], "|-", color="black", linewidth=1, clip_on=False, gid="distance")
    beyond = "" if shown == distance else ", beyond the axis"
    ax.annotate(
        f"critical difference {distance:.2f}{beyond}",
        (low, y),
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=_FONT,
        annotation_clip=False,
    )
