"""A line over seeds with its band, and crosses where seeds diverged."""

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes

from .._names import shown
from ._beyond import Extent
from ._style import Look


# Markers along a line: enough to identify it in greyscale, few enough to see the line.
_MARKERS = 5


def _marked(points: int, number: int) -> list[int]:
    """The points of a line's markers: evenly spaced, and not at those of other lines."""
    if points <= 3 * _MARKERS:
        return list(range(points))
    gap = points / _MARKERS
    # 0.31 is no simple fraction, so that the shifts of neighbouring lines do not coincide.
    shift = (0.5 + 0.31 * number) % 1.0
    return [int((k + shift) * gap) for k in range(_MARKERS)]


def draw_line(ax: Axes, x: np.ndarray, y: np.ndarray, look: Look, label: str) -> None:
    """Draw one line in its look."""
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
    """Draw crosses where runs diverged, whole even at the edge of the panel, unless
    `clip`."""
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
    """Draw the mean over the seeds that are finite, and the band from the smallest to the
    largest, whose extent is returned.

    **Arguments:**

    - `x`: shape `(point,)`, or `(seed, point)` if each seed has its own clock; the line is
        at the mean of the clocks.
    - `y`: not finite where a seed has no value.
    """
    shown = np.where(np.isfinite(y), y, np.nan)
    seen = np.isfinite(shown).any(axis=0)
    shown = shown[:, seen]
    # The clock of a seed that diverged stops, and must not enter the mean.
    clock = np.where(np.isfinite(shown), np.broadcast_to(x, y.shape)[:, seen], np.nan)
    if not seen.any():
        # A strategy without a line keeps its place in the legend.
        draw_line(ax, np.empty(0), np.empty(0), look, label)
        return Extent(np.empty(0), np.empty(0), np.empty(0), look)
    x = np.nanmean(clock, axis=0)
    # Scaled by a power of two, so that sums of values near 1e308 do not overflow.
    exponent = int(np.frexp(np.nanmax(np.abs(shown)))[1])
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
    """Draw the band of the seeds that are finite at the end, and return its extent. Each
    seed that diverged is a thin line, which ends with a cross at its last finite value, or
    where it leaves the panel."""
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
    """The first step after the last finite loss; infinity for runs that did not diverge."""
    loss = loss.transpose(..., "step")
    finite = np.isfinite(loss.values)
    after_last = finite.shape[-1] - np.argmax(finite[..., ::-1], axis=-1)
    first = np.where(finite.any(axis=-1), after_last, 0)
    at = np.where(finite[..., -1], np.inf, first)
    return loss.isel(step=0, drop=True).copy(data=at)


def note_on_seeds(seeds: Iterable[int]) -> str:
    """A note that explains lines and bands, for the numbers of seeds of the strategies."""
    several = max(seeds, default=1) > 1
    return "Means over seeds, bands from the lowest to the highest." if several else ""


def note_on_diverged(ends: Mapping[str, np.ndarray], *, drawn: bool = True) -> str:
    """A note that names the strategies that diverged and the number of these runs; empty if
    none did.

    **Arguments:**

    - `ends`: the final value of each run, shape `(seed,)`; not finite if it diverged.
    - `drawn`: whether the figure has thin lines and crosses for these runs.
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
    return f"Diverged (×, thin lines): {which}." if drawn else f"Diverged: {which}."
