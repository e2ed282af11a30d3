"""Intervals for what aggregates many runs on many problems."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._samples import check_fraction, RESAMPLES, run_scores, SEED


# Of a batch of resamples: it bounds the memory, and a statistic that compares every run
# with every other multiplies it by the number of runs.
_VALUES_AT_ONCE = 2**18


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    **Attributes:**

    - `value`: of the data as they are.
    - `low`, `high`: the ends of its interval.
    """

    value: float
    low: float
    high: float


def _resampled(
    rng: np.random.Generator, x: Float[np.ndarray, "run problem"], count: int
) -> Float[np.ndarray, "{count} run problem"]:
    runs, problems = x.shape
    chosen = rng.integers(runs, size=(count, runs, problems))
    return x[chosen, np.arange(problems)]


def stratified_interval(
    statistic: Callable[..., Float[np.ndarray, "resample ..."]],
    *scores: ArrayLike,
    confidence: float = 0.95,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    r"""The percentile interval of a statistic by the stratified bootstrap: each resample
    draws the runs of every problem anew, with replacement, and keeps the problems.

    It says how the statistic would vary with other seeds on the same problems, and
    nothing about other problems.

    **Arguments:**

    - `statistic`: of a batch of resamples: from one array of shape `(resample, run,
        problem)` for each of `scores` to an array of shape `(resample, ...)`.
    - `scores`: each of shape `(run, problem)`; the arrays are resampled independently of
        each other, and may differ in their number of runs.
    - `confidence`: in (0, 1).

    **Returns:**

    `(low, high)`, arrays of the statistic's shape. A single run of a problem says nothing
    about its spread: where one of `scores` has no more, they are $-\infty$ and $\infty$.

    **Raises:**

    `ValueError` if a score is not finite, or has another shape.

    Source: Agarwal et al. 2021, section 4.1, as the code of rliable 1.2 has it (read);
    with 9,999 resamples where rliable draws 50,000.
    """
    check_fraction("confidence", confidence)
    if not callable(statistic) or not scores:
        raise ValueError(
            "there must be a statistic, which is a function, and at least one array of "
            f"scores, but they are {statistic!r} and {len(scores)} arrays."
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
