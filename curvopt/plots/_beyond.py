"""Marks at the edge of a panel where a line or band leaves it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from ._style import Look


# The panel's width is divided into so many parts, with at most one mark in each.
_PARTS = 24

NOTE = "▲, ▼: continues beyond the panel."


class Extent(NamedTuple):
    """The extent of a line with its band.

    **Attributes:**

    - `x`: shape `(point,)`.
    - `low`, `high`: shape `(point,)`; not finite where there is no band.
    - `look`: the look of the line.
    """

    x: Float[np.ndarray, " point"]
    low: Float[np.ndarray, " point"]
    high: Float[np.ndarray, " point"]
    look: Look


def mark_beyond(ax: Axes, extents: list[Extent]) -> bool:
    """Mark where the extents leave the panel, whose limits must be final. Returns whether
    any of them does."""
    bottom, top = sorted(ax.get_ylim())
    any_marks = False
    for x, low, high, look in extents:
        for edge, marker, out in ((1.0, "^", high > top), (0.0, "v", low < bottom)):
            if not out.any():
                continue
            any_marks, at = True, _middles(ax, x[out])
            (marks,) = ax.plot(
                at,
                np.full(len(at), edge),
                linestyle="",
                marker=marker,
                color=look.colour,
                markersize=4.5,
                markeredgecolor="white",
                clip_on=False,
                transform=ax.get_xaxis_transform(),
                zorder=5,
                gid="beyond",
            )
            # Otherwise the constrained layout would shrink the panel to make room.
            marks.set_in_layout(False)
    return any_marks


def _middles(ax: Axes, x: np.ndarray) -> np.ndarray:
    """One place for all points in the same part of the panel."""
    points = np.stack([x, np.full(len(x), max(ax.get_ylim()))], axis=-1)
    part = np.floor(_PARTS * (ax.transScale + ax.transLimits).transform(points)[:, 0])
    return np.array([np.median(x[part == k]) for k in np.unique(part)])
