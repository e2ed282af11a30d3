"""How often a run of one method beats a run of another."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._bootstrap import Estimate, stratified_interval
from ._samples import check_flag, matched, run_scores


def _fraction_below(
    x: Float[np.ndarray, "resample run_x problem"],
    y: Float[np.ndarray, "resample run_y problem"],
) -> Float[np.ndarray, " resample"]:
    """The fraction of pairs of runs on a problem where x is below y; ties count half. All
    problems have the same number of pairs, so that the mean over pairs is the mean over
    problems."""
    mine, other = x[:, :, None, :], y[:, None, :, :]
    pairs = x[0].size * len(y[0])
    below = np.count_nonzero(mine < other, axis=(1, 2, 3))
    tied = np.count_nonzero(mine == other, axis=(1, 2, 3))
    return (below + 0.5 * tied) / pairs


def probability_of_improvement(
    x: ArrayLike,
    y: ArrayLike,
    *,
    confidence: float = 0.95,
    lower_is_better: bool = True,
) -> Estimate:
    r"""The probability that a run of x is better than a run of y, on a random problem.

    $$\frac1M \sum_{m=1}^M \Bigl( P(X_m < Y_m) + \tfrac12 P(X_m = Y_m) \Bigr)$$

    over all pairs of a run of x and one of y. On each problem it is the Mann-Whitney U
    statistic over the number of pairs. It does not pair the runs of one seed, as
    [`curvopt.statistics.compare_paired`][] does.

    **Arguments:**

    - `x`, `y`: shapes `(run_x, problem)` and `(run_y, problem)`.
    - `confidence`: of the interval, in (0, 1).
    - `lower_is_better`: whether scores are losses; if not, $<$ is $>$.

    **Returns:**

    A [`curvopt.statistics.Estimate`][], within 0 and 1. Identical scores and scores that
    are all tied give 1/2. With a single run of x or of y the interval is `(0, 1)`.

    **Raises:**

    `ValueError` if a score is not finite, or x and y differ in their problems.

    Source: Agarwal et al. 2021, section 4.3, and the code of rliable 1.2, where higher
    scores are better; the interval is that of
    [`curvopt.statistics.stratified_interval`][], x and y resampled independently.
    """
    check_flag("lower_is_better", lower_is_better)
    a, b = run_scores("x", x), run_scores("y", matched("problem", "x", x, "y", y))
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            "x and y must have the same problems, but they have the shapes "
            f"{a.shape} and {b.shape}, which should be (run, problem)."
        )
    if not lower_is_better:
        a, b = b, a
    low, high = stratified_interval(_fraction_below, a, b, confidence=confidence)
    value = _fraction_below(a[None], b[None])[0]
    return Estimate(float(value), max(float(low), 0.0), min(float(high), 1.0))
