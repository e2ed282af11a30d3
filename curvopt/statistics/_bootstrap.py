"""Intervals for aggregates of many runs on many problems."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._samples import check_fraction, RESAMPLES, run_scores, SEED


# In a batch of resamples. It bounds the memory; a statistic that compares all pairs of runs
# needs that many times more.
_VALUES_AT_ONCE = 2**18


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A statistic with its interval.

    **Attributes:**

    - `value`: the statistic of the data, without resampling.
    - `low`, `high`: the ends of its interval.
    """

    value: float
    low: float
    high: float


def _resampled(
    rng: np.random.Generator, x: Float[np.ndarray, "run problem"], count: int
) -> Float[np.ndarray, "{count} run problem"]:
    runs, problems = x.shape
    # Each problem draws its own runs: that is what stratifies.
    chosen = rng.integers(runs, size=(count, runs, problems))
    return x[chosen, np.arange(problems)]


def stratified_interval(
    statistic: Callable[..., Float[np.ndarray, "resample ..."]],
    *scores: ArrayLike,
    confidence: float = 0.95,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    r"""The percentile interval of a statistic by the stratified bootstrap: each resample
    draws the runs of every problem with replacement, and keeps the problems.

    It estimates how the statistic would vary with other seeds on the same problems; it says
    nothing about other problems.

    **Arguments:**

    - `statistic`: a function of a batch of resamples: it takes one array of shape
        `(resample, run, problem)` for each of `scores`, and returns one of shape
        `(resample, ...)`.
    - `scores`: each of shape `(run, problem)`; the arrays are resampled independently of
        each other, and may differ in their number of runs.
    - `confidence`: in (0, 1).

    **Returns:**

    `(low, high)`, arrays of the statistic's shape. A single run of a problem says nothing
    about its spread: if one of `scores` has only one run, they are $-\infty$ and $\infty$.

    **Raises:**

    `ValueError` if a score is not finite, or has another shape.

    Source: Agarwal et al. 2021, section 4.1, and the code of rliable 1.2; with 9,999
    resamples instead of rliable's 50,000.
    """
    check_fraction("confidence", confidence)
    if not callable(statistic) or not scores:
        raise ValueError(
            "statistic must be a function, with at least one array of scores, but they are "
            f"{statistic!r} and {len(scores)} arrays."
        )
    checked = [run_scores("scores", x) for x in scores]
    if min(len(x) for x in checked) == 1:
        shape = statistic(*(x[None] for x in checked)).shape[1:]
        return np.full(shape, -np.inf), np.full(shape, np.inf)
    rng = np.random.default_rng(SEED)
    at_once = max(1, _VALUES_AT_ONCE // sum(x.size for x in checked))
    batches = []
    for done in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - done)
        batches.append(statistic(*(_resampled(rng, x, count) for x in checked)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(batches), [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)
