"""Profiles: the performance of methods over many problems, as curves."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ._bootstrap import stratified_interval
from ._samples import check_flag, matched, numbers, run_scores


def _check_costs(name: str, costs: Float[np.ndarray, "..."]) -> None:
    wrong = np.argwhere(~(costs >= 0))
    if len(wrong):
        at = tuple(int(k) for k in wrong[0])
        raise ValueError(
            f"{name} must be numbers of at least 0, but {costs[at]} is at {list(at)}. A "
            "target that was missed costs `numpy.inf`."
        )


def cost_ratios(costs: ArrayLike) -> Float[np.ndarray, "solver problem"]:
    """Each cost over the lowest cost of any solver on the problem; infinite where a solver
    missed the target (an infinite cost).

    **Arguments:**

    - `costs`: shape `(solver, problem)`, at least 0; infinite where the target was missed.

    **Returns:**

    The ratios, at least 1. Where the lowest cost is 0 (the target is met at the start) its
    ratio is 1, and larger costs have an infinite ratio.

    **Raises:**

    `ValueError` if a cost is negative or nan, or `costs` has another shape.
    """
    costs = numbers("costs", costs, "solver", "problem")
    if costs.ndim != 2 or costs.size == 0:
        raise ValueError(
            f"costs must have the shape (solver, problem), but it has shape {costs.shape}."
        )
    _check_costs("costs", costs)
    best = np.broadcast_to(np.min(costs, axis=0), costs.shape)
    ratios = np.full(costs.shape, np.inf)
    solved = np.isfinite(costs)
    counted = solved & (best > 0)
    with np.errstate(over="ignore"):
        np.divide(costs, best, out=ratios, where=counted)
    # Only a missed target is infinite, not a ratio that overflows.
    ratios = np.where(counted, np.fmin(ratios, np.finfo(float).max), ratios)
    return np.where((costs == best) & solved, 1.0, ratios)


def performance_profile(
    costs: ArrayLike, factors: ArrayLike
) -> Float[np.ndarray, "solver factor"]:
    r"""The fraction of all problems that each solver solves within a factor $\alpha$ of
    the best solver's cost.

    **Arguments:**

    - `costs`: to reach the target, shape `(solver, problem)`; infinite where it was missed.
    - `factors`: the values of $\alpha$, at least 1, shape `(factor,)`.

    **Returns:**

    The fractions, shape `(solver, factor)`. A problem that no solver solves counts as
    missed by all.

    **Raises:**

    `ValueError` as in [`curvopt.statistics.cost_ratios`][].

    Source: Dolan & Moré, Benchmarking optimization software with performance profiles,
    Math. Program. 91, 2002.
    """
    ratios, factors = cost_ratios(costs), numbers("factors", factors)
    if factors.ndim != 1 or np.isnan(factors).any():
        raise ValueError(f"factors must be numbers, shape (factor,), but are {factors}.")
    # A missed problem is within no factor, not even an infinite one.
    within = (ratios[:, :, None] <= factors) & np.isfinite(ratios)[:, :, None]
    return within.mean(axis=1)


def solved_at_no_more_cost(
    costs: ArrayLike, rival: ArrayLike
) -> tuple[Bool[np.ndarray, " problem"], Bool[np.ndarray, " problem"]]:
    """Where a solver solves the problem at no more than its rival's cost, and where either
    of them solves it.

    **Arguments:**

    - `costs`, `rival`: the costs of the two, shape `(problem,)`; infinite where the target
        was missed.

    **Raises:**

    `ValueError` if a cost is negative or nan, or the two are not for the same problems.
    """
    rival = numbers("rival", matched("problem", "costs", costs, "rival", rival), "problem")
    costs = numbers("costs", costs, "problem")
    if costs.ndim != 1 or costs.shape != rival.shape:
        raise ValueError(
            "costs and rival must be one number for each problem, the same ones, but they "
            f"have the shapes {costs.shape} and {rival.shape}."
        )
    _check_costs("costs", costs)
    _check_costs("rival", rival)
    return np.isfinite(costs) & (costs <= rival), np.isfinite(np.minimum(costs, rival))


@dataclasses.dataclass(frozen=True)
class ScoreProfile:
    """The fraction of runs that are as good as a threshold, for many thresholds.

    **Attributes:**

    - `thresholds`: the thresholds, shape `(threshold,)`.
    - `fractions`: of all runs on all problems.
    - `low`, `high`: the band around `fractions`, point by point.
    """

    thresholds: Float[np.ndarray, " threshold"]
    fractions: Float[np.ndarray, " threshold"]
    low: Float[np.ndarray, " threshold"]
    high: Float[np.ndarray, " threshold"]


def score_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    confidence: float = 0.95,
    lower_is_better: bool = True,
) -> ScoreProfile:
    r"""The fraction of runs, over all problems, whose score is at most $\tau$, with the
    band of the stratified bootstrap.

    $$\hat F(\tau) = \frac1M \sum_{m=1}^M \frac1N \sum_{n=1}^N 1[x_{nm} \leq \tau]$$

    **Arguments:**

    - `scores`: shape `(run, problem)`.
    - `thresholds`: the values of $\tau$, shape `(threshold,)`.
    - `confidence`: of the band, at each threshold separately, in (0, 1).
    - `lower_is_better`: whether scores are losses; if not, $\leq$ is $\geq$.

    **Returns:**

    A [`curvopt.statistics.ScoreProfile`][], within 0 and 1. With a single run of each
    problem the band is from 0 to 1; where all runs are on one side of $\tau$ it has zero
    width.

    **Raises:**

    `ValueError` if a score is not finite, or an array has another shape.

    Source: Agarwal et al. 2021, section 4.2, and the code of rliable 1.2, which counts
    scores above $\tau$: for losses that is one minus this.
    """
    check_flag("lower_is_better", lower_is_better)
    x, tau = run_scores("scores", scores), numbers("thresholds", thresholds)
    if tau.ndim != 1:
        raise ValueError(
            f"thresholds must have the shape (threshold,), but it has shape {tau.shape}."
        )

    def fractions(x: Float[np.ndarray, "resample run problem"]) -> np.ndarray:
        good = x[..., None] <= tau if lower_is_better else x[..., None] >= tau
        return np.count_nonzero(good, axis=(1, 2)) / x[0].size

    low, high = stratified_interval(fractions, x, confidence=confidence)
    return ScoreProfile(
        thresholds=tau,
        fractions=fractions(x[None])[0],
        low=np.maximum(low, 0.0),
        high=np.minimum(high, 1.0),
    )
