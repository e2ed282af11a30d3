"""Statistics of runs that are compared in pairs: the same seed, two strategies.

All functions take plain NumPy arrays, or what converts to one.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import scipy.stats
from jaxtyping import Float
from numpy.typing import ArrayLike


_RESAMPLES = 9999
_SEED = 0  # of the resampling: the same data give the same interval


def _samples(name: str, x: ArrayLike) -> Float[np.ndarray, " n"]:
    x = np.asarray(x, dtype=float)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(
            f"{name} must be one value for each seed, but it has shape {x.shape}."
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"{name} must be finite, but {np.sum(~np.isfinite(x))} of its {x.size} "
            "values are not. A run that diverged counts as a finite worst value, the "
            "loss at initialisation: see `curvopt.final_metric`."
        )
    return x


def bca_interval(x: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The BCa bootstrap interval of a mean (bias-corrected and accelerated).

    **Arguments:**

    - `x`: one value for each seed, shape `(n,)`.
    - `confidence`: in (0, 1).

    **Returns:**

    `(low, high)`. Where all values are the same (to rounding) it is the smallest and the
    largest of them; a single value says nothing about its spread, and gives
    `(-inf, inf)`.

    **Raises:**

    `ValueError` if a value is not finite.

    Source: Efron 1987, as `scipy.stats.bootstrap` has it, with 9,999 resamples.
    """
    x = _samples("x", x)
    if x.size == 1:
        return -math.inf, math.inf
    if np.ptp(x) <= 1e-12 * np.abs(x).max():  # BCa would divide by zero
        return float(x.min()), float(x.max())
    interval = scipy.stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def sign_flip_test(differences: ArrayLike) -> float:
    r"""The two-sided sign-flip permutation test that paired differences have mean zero.

    Exact for up to 13 pairs, where its smallest value is $2 / 2^n$; else from 9,999
    random flips.

    **Arguments:**

    - `differences`: one for each pair, shape `(n,)`.

    **Returns:**

    The p-value; 1 where all differences are zero.

    **Raises:**

    `ValueError` if a difference is not finite.

    Source: Fisher 1935, as `scipy.stats.permutation_test` has it.
    """
    differences = _samples("differences", differences)
    if differences.size == 1:
        return 1.0  # both flips are as extreme as the one observed
    return float(
        scipy.stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            n_resamples=_RESAMPLES,
            rng=np.random.default_rng(_SEED),
        ).pvalue
    )


def holm(p_values: ArrayLike) -> Float[np.ndarray, " m"]:
    r"""Holm's step-down adjustment of a family of p-values.

    Sorted, the $i$-th smallest of $m$ is multiplied by $m - i$ (from $i = 0$), and made
    no smaller than those before it and no larger than 1.

    **Arguments:**

    - `p_values`: shape `(m,)`, each in [0, 1].

    **Returns:**

    The adjusted values, in the order given.

    **Raises:**

    `ValueError` if one is outside [0, 1].

    Source: Holm 1979. (SciPy has no Holm.)
    """
    p = _samples("p_values", p_values)
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"p-values must lie between 0 and 1, but they are {p}.")
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def seeds_needed(family: int, level: float = 0.05) -> int:
    r"""How many seeds a family of comparisons needs: below it no difference, however
    large, can be claimed.

    The sign-flip test over $n$ pairs cannot go below $2 / 2^n$, and Holm multiplies the
    smallest by $m$: $n \geq \log_2 (2 m / \alpha)$, and never below 8.
    """
    return max(8, math.ceil(math.log2(2 * family / level)))


def interquartile_mean(x: ArrayLike) -> float:
    """The mean of the middle half of the values.

    Source: Agarwal et al. 2021 (rliable), as `scipy.stats.trim_mean`.
    """
    return float(scipy.stats.trim_mean(_samples("x", x), 0.25))


def time_to_target(
    curves: ArrayLike, target: float, times: ArrayLike | None = None
) -> Float[np.ndarray, "..."]:
    """When a curve first reaches a target from above.

    **Arguments:**

    - `curves`: losses, time along the last axis; non-finite values never reach it.
    - `target`: the loss to reach.
    - `times`: what the clock says, shape of the last axis or of `curves`; default
        `0, 1, 2, ...`.

    **Returns:**

    The times, without the last axis; infinite where the target is missed.
    """
    curves = np.asarray(curves, dtype=float)
    clock = np.arange(curves.shape[-1]) if times is None else np.asarray(times)
    clock = np.broadcast_to(clock, curves.shape).astype(float)
    reached = np.isfinite(curves) & (curves <= target)
    return np.where(reached, clock, np.inf).min(axis=-1)


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """A treatment against its baseline, over the same seeds.

    **Attributes:**

    - `mean_difference`: treatment minus baseline.
    - `low`, `high`: its BCa interval.
    - `p_value`, `p_adjusted`: of the sign-flip test, and Holm's over the family.
    - `seeds`, `family`: the number of pairs, and of comparisons.
    - `level`: the level of the claim.
    """

    mean_difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    seeds: int
    family: int
    level: float

    @property
    def enough_seeds(self) -> bool:
        """Whether this many seeds could show any difference at all."""
        return self.seeds >= seeds_needed(self.family, self.level)

    @property
    def holds(self) -> bool:
        """Whether a difference may be claimed: the interval leaves out zero, the
        adjusted p-value is below the level, and there are enough seeds."""
        return (
            self.enough_seeds
            and not self.low <= 0 <= self.high
            and self.p_adjusted < self.level
        )


def compare_paired(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], level: float = 0.05
) -> dict[str, PairedComparison]:
    """A family of paired comparisons.

    **Arguments:**

    - `pairs`: by name, `(treatment, baseline)`: one finite value for each seed, shape
        `(n,)`, in the same order of seeds.
    - `level`: of the family; the intervals have confidence `1 - level`.

    **Returns:**

    A [`curvopt.statistics.PairedComparison`][] for each name.

    **Raises:**

    `ValueError` if a value is not finite, or treatment and baseline differ in length.
    """
    differences = {}
    for name, (treatment, baseline) in pairs.items():
        a, b = _samples(f"{name}: treatment", treatment), _samples(name, baseline)
        if a.shape != b.shape:
            raise ValueError(
                f"{name}: treatment and baseline must have the same seeds, but they "
                f"have {a.size} and {b.size} values."
            )
        differences[name] = a - b
    if not differences:
        return {}
    p_values = [sign_flip_test(d) for d in differences.values()]
    out = {}
    for (name, d), p, adjusted in zip(differences.items(), p_values, holm(p_values)):
        low, high = bca_interval(d, 1 - level)
        out[name] = PairedComparison(
            mean_difference=float(d.mean()),
            low=low,
            high=high,
            p_value=p,
            p_adjusted=float(adjusted),
            seeds=d.size,
            family=len(differences),
            level=level,
        )
    return out
