"""A line over seeds with its band, and crosses where seeds diverged."""

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes

from .._names import shown
from ._beyond import Extent
from ._style import Look


# Markers along a line: enough to tell it in greyscale, few enough to see it.
_MARKERS = 5


def _marked(points: int, number: int) -> list[int]:
    """Where a line has its markers: evenly, and not where other lines have theirs."""
    if points <= 3 * _MARKERS:
        return list(range(points))
    gap = points / _MARKERS
    shift = (0.5 + 0.31 * number) % 1.0
    return [int((k + shift) * gap) for k in range(_MARKERS)]


def draw_line(ax: Axes, x: np.ndarray, y: np.ndarray, look: Look, label: str) -> None:
    """One line in its look."""
    ax.plot(
        x,
        y,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markersize=look.size,
        markevery=_marked(len(x), look.number),
        markeredgecolor="white",
        label=label,
    )


def draw_crosses(
    ax: Axes, x: np.ndarray, y: np.ndarray, look: Look, *, clip: bool = False
) -> None:
    """Where runs diverged; whole even at the edge of the panel, unless `clip`."""
    ax.plot(
        x,
        y,
        linestyle="",
        marker="x",
        color=look.colour,
        markersize=5,
        markeredgewidth=1.4,
        clip_on=clip,
        zorder=4,
    )


def draw_band(
    ax: Axes,
    x: np.ndarray,
    y: Float[np.ndarray, "seed point"],
    look: Look,
    label: str,
) -> Extent:
    """The mean over the seeds that are finite, and from the smallest to the largest, which
    is returned.

    **Arguments:**

    - `x`: shape `(point,)`, or `(seed, point)` where seeds have clocks of their own; the
        line is at their mean.
    - `y`: not finite where a seed has no value.
    """
    shown = np.where(np.isfinite(y), y, np.nan)
    seen = np.isfinite(shown).any(axis=0)
    shown = shown[:, seen]
    # The clock of a seed that diverged stands still.
    clock = np.where(np.isfinite(shown), np.broadcast_to(x, y.shape)[:, seen], np.nan)
    if not seen.any():
        # A strategy without a line keeps its place in the legend.
        draw_line(ax, np.empty(0), np.empty(0), look, label)
        return Extent(np.empty(0), np.empty(0), np.empty(0), look)
    x = np.nanmean(clock, axis=0)
    exponent = int(np.frexp(np.nanmax(np.abs(shown)))[1])  # no sum of 1e308 overflows
    mean = np.ldexp(np.nanmean(np.ldexp(shown, -exponent), axis=0), exponent)
    draw_line(ax, x, mean, look, label)
    low, high = np.nanmin(shown, axis=0), np.nanmax(shown, axis=0)
    ax.fill_between(x, low, high, color=look.colour, alpha=0.18, linewidth=0)
    return Extent(x, low, high, look)


def draw_runs(
    ax: Axes,
    x: np.ndarray,
    y: Float[np.ndarray, "seed point"],
    look: Look,
    label: str,
    lowest: float = -np.inf,
    highest: float = np.inf,
) -> Extent:
    """The band of the seeds that are finite at the end; each that diverged is a thin line
    of its own, up to a cross at its last finite value, or where it leaves the panel. The
    extent of the band is returned."""
    finite, clock = np.isfinite(y), np.broadcast_to(x, y.shape)
    alive = finite[:, -1]
    extent = draw_band(ax, clock[alive], y[alive], look, label)
    for seed in np.flatnonzero(~alive & finite.any(axis=1)):
        own, value = clock[seed, finite[seed]], y[seed, finite[seed]]
        out = np.flatnonzero((value > highest) | (value < lowest))
        end = out[0] if len(out) else len(value) - 1
        own, value = own[: end + 1], np.clip(value[: end + 1], lowest, highest)
        ax.plot(own, value, color=look.colour, linestyle=look.line, linewidth=0.6)
        draw_crosses(ax, own[-1:], value[-1:], look)
    return extent


def diverged_from(loss: xr.DataArray) -> xr.DataArray:
    """The first step from which on no loss is finite, and infinity where there is none."""
    loss = loss.transpose(..., "step")
    finite = np.isfinite(loss.values)
    after_last = finite.shape[-1] - np.argmax(finite[..., ::-1], axis=-1)
    first = np.where(finite.any(axis=-1), after_last, 0)
    at = np.where(finite[..., -1], np.inf, first)
    return loss.isel(step=0, drop=True).copy(data=at)


def note_on_seeds(seeds: Iterable[int]) -> str:
    """What lines and bands are, in words, if strategies were run from so many seeds."""
    several = max(seeds, default=1) > 1
    return "Means over seeds, bands from the lowest to the highest." if several else ""


def note_on_diverged(ends: Mapping[str, np.ndarray], *, drawn: bool = True) -> str:
    """Which strategies diverged, and how many of their runs, in words; empty if none did.

    **Arguments:**

    - `ends`: what each run ended with, shape `(seed,)`; not finite if it diverged.
    - `drawn`: whether the figure has thin lines and crosses for them.
    """
    found = []
    for name, end in ends.items():
        lost, runs = int(np.sum(~np.isfinite(end))), len(end)
        if lost:
            share = "all" if lost == runs else f"{lost} of {runs}"
            found.append(f"{shown(name)} ({share} runs)")
    if not found:
        return ""
    which = "; ".join(found)
    return (
        f"Diverged (×): {which}. Thin lines are theirs." if drawn else f"Diverged: {which}."
    )
