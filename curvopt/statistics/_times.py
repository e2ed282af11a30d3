"""Times to a target."""

import dataclasses
import math

import numpy as np
import scipy
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._samples import check_fraction, numbers


def time_to_target(
    curves: ArrayLike, target: float, times: ArrayLike | None = None
) -> Float[np.ndarray, "..."]:
    """The time when a curve first reaches a target from above.

    **Arguments:**

    - `curves`: losses, time along the last axis (or along `step` or `evaluation_step`, if
        axes have names); non-finite values never reach it.
    - `target`: the loss to reach.
    - `times`: the time of each value, with the shape of the last axis or of `curves`;
        default `0, 1, 2, ...`.

    **Returns:**

    The times, without the last axis; infinite where the target is missed.
    """
    if isinstance(curves, xr.DataArray) and isinstance(times, xr.DataArray):
        curves, times = xr.align(curves, times, join="exact")
        times = times.broadcast_like(curves).transpose(*curves.dims)
    curves = numbers("curves", curves, ..., "time")
    if curves.ndim == 0 or curves.shape[-1] == 0:
        raise ValueError(
            "curves must have time as their last axis, of at least one step, but they have "
            f"shape {curves.shape}."
        )
    if np.isnan(numbers("target", target)).any():
        raise ValueError("target must be a number, but it is nan.")
    try:
        np.broadcast_to(target, curves.shape)
    except ValueError:
        raise ValueError(
            f"target must be one number, or one for each of the curves, of shape "
            f"{curves.shape}, but it has shape {np.shape(target)}."
        ) from None
    clock = np.arange(curves.shape[-1], dtype=float)
    if times is not None:
        clock = numbers("times", times, ..., "time")
    try:
        clock = np.broadcast_to(clock, curves.shape)
    except ValueError:
        raise ValueError(
            f"times must have the shape {curves.shape[-1:]} or {curves.shape}, as curves "
            f"have, but they have {clock.shape}."
        ) from None
    reached = np.isfinite(curves) & (curves <= target)
    return np.where(reached, clock, np.inf).min(axis=-1)


@dataclasses.dataclass(frozen=True)
class TimeSummary:
    """Times to a target over many runs, some of which may have missed it.

    **Attributes:**

    - `median`: of all runs; infinite where half of them or more missed the target.
    - `low`, `high`: the ends of its interval.
    - `reached`: how many runs reached the target.
    - `runs`: the number of runs.
    """

    median: float
    low: float
    high: float
    reached: int
    runs: int


def summarise_times(times: ArrayLike, confidence: float = 0.95) -> TimeSummary:
    r"""The median time to a target, with an interval between two order statistics, and the
    number of runs that reached it.

    The interval is from the $k$-th smallest time to the $k$-th largest, with the largest
    $k$ for which $1 - 2 P(\mathrm{Bin}(n, 1/2) < k)$ is at least the confidence. It does
    not assume a distribution of times, and a missed target is an infinite time.

    **Arguments:**

    - `times`: one for each run, shape `(n,)`, as [`curvopt.statistics.time_to_target`][]
        returns them: infinite where the target was missed.
    - `confidence`: in (0, 1).

    **Returns:**

    A [`curvopt.statistics.TimeSummary`][]. With too few runs there is no such $k$ (at 0.95
    fewer than 6): the interval is then `(-inf, inf)`.

    **Raises:**

    `ValueError` if there is no run, or a time is nan or $-\infty$.

    Source: David & Nagaraja, Order Statistics, 2003, section 7.1.
    """
    check_fraction("confidence", confidence)
    times = numbers("times", times, "run")
    if times.ndim != 1 or times.size == 0:
        raise ValueError(
            f"times must be one for each run, but they have shape {times.shape}."
        )
    wrong = np.flatnonzero(~(times > -np.inf))
    if len(wrong):
        raise ValueError(
            f"times must be numbers, but {times[wrong[0]]} is at {wrong[0]}. A target that "
            "was missed has the time `numpy.inf`."
        )
    n, ordered = times.size, np.sort(times)
    # The smallest k with P(Bin <= k) at least the tail is the largest with P(Bin < k)
    # below it.
    k = int(scipy.stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    low, high = (ordered[k - 1], ordered[n - k]) if k > 0 else (-math.inf, math.inf)
    return TimeSummary(
        # The sum of halves: the middle times may be huge, or both infinite.
        median=float(ordered[(n - 1) // 2] / 2 + ordered[n // 2] / 2),
        low=float(low),
        high=float(high),
        reached=int(np.isfinite(times).sum()),
        runs=n,
    )
