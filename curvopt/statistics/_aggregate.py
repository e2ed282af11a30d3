"""One number for many runs."""

import numpy as np
import scipy
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._bootstrap import Estimate, stratified_interval
from ._samples import run_scores, samples, unit_scale


def interquartile_mean(x: ArrayLike) -> float:
    """The mean of the middle half of the values.

    **Arguments:**

    - `x`: one value for each seed, shape `(n,)`. A quarter of them, rounded down, is left
        out at either end; with fewer than four, none is.

    **Raises:**

    `ValueError` if a value is not finite.

    Source: Agarwal et al. 2021 (rliable), as `scipy.stats.trim_mean`.
    """
    scaled, exponent = unit_scale(samples("x", x))
    return float(np.ldexp(scipy.stats.trim_mean(scaled, 0.25), exponent))


def _middle_half(x: Float[np.ndarray, "resample run problem"]) -> np.ndarray:
    return scipy.stats.trim_mean(x.reshape(len(x), -1), 0.25, axis=1)


def stratified_interquartile_mean(scores: ArrayLike, confidence: float = 0.95) -> Estimate:
    """The mean of the middle half of all runs on all problems, with the interval of the
    stratified bootstrap over problems.

    The scores of all problems are pooled: normalise them first, for example by the loss at
    the start.

    **Arguments:**

    - `scores`: shape `(run, problem)`.
    - `confidence`: of the interval, in (0, 1).

    **Returns:**

    A [`curvopt.statistics.Estimate`][]. Its interval is `(-inf, inf)` for a single run of
    each problem, and has zero width where all runs of each problem are the same.

    **Raises:**

    `ValueError` if a score is not finite, or `scores` has another shape.

    Source: Agarwal et al. 2021; the interval is that of
    [`curvopt.statistics.stratified_interval`][].
    """
    x, exponent = unit_scale(run_scores("scores", scores))
    low, high = stratified_interval(_middle_half, x, confidence=confidence)
    ends = (_middle_half(x[None])[0], low, high)
    return Estimate(*(float(np.ldexp(end, exponent)) for end in ends))
