"""Runs compared in pairs: the same seed, two strategies."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import scipy
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._samples import (
    by_name,
    check_fraction,
    matched,
    mean,
    RESAMPLES,
    samples,
    SEED,
    unit_scale,
)


def bca_interval(x: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The BCa bootstrap interval of a mean (bias-corrected and accelerated).

    **Arguments:**

    - `x`: one value for each seed, shape `(n,)`.
    - `confidence`: in (0, 1).

    **Returns:**

    `(low, high)`. Where all values are the same (up to rounding) it is the smallest and the
    largest of them. A single value says nothing about its spread, and gives `(-inf, inf)`.

    **Raises:**

    `ValueError` if a value is not finite, or the confidence is not in (0, 1).

    Source: Efron 1987; computed by `scipy.stats.bootstrap` with 9,999 resamples.
    """
    check_fraction("confidence", confidence)
    x = samples("x", x)
    if x.size == 1:
        return -math.inf, math.inf
    # BCa cubes its values: 1e-200 would underflow and 1e200 overflow.
    scaled, exponent = unit_scale(x)
    if np.ptp(scaled) <= 1e-12 * np.abs(scaled).max():  # BCa would divide by zero
        return float(x.min()), float(x.max())
    interval = scipy.stats.bootstrap(
        (scaled,),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(np.ldexp(interval.low, exponent)), float(np.ldexp(interval.high, exponent))


def sign_flip_test(differences: ArrayLike) -> float:
    r"""The two-sided sign-flip permutation test that paired differences have mean zero.

    It is exact for up to 13 pairs, where the smallest p-value is $2 / 2^n$; for more pairs
    it uses 9,999 random flips.

    **Arguments:**

    - `differences`: one for each pair, shape `(n,)`.

    **Returns:**

    The p-value; 1 where all differences are zero.

    **Raises:**

    `ValueError` if a difference is not finite.

    Source: Fisher 1935; computed by `scipy.stats.permutation_test`.
    """
    differences = samples("differences", differences)
    if differences.size == 1:
        return 1.0  # both flips are as extreme as the one observed
    return float(
        scipy.stats.permutation_test(
            (unit_scale(differences)[0],),
            np.mean,
            permutation_type="samples",
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(SEED),
        ).pvalue
    )


def holm(p_values: ArrayLike) -> Float[np.ndarray, " m"]:
    r"""Holm's step-down adjustment of a family of p-values.

    The $i$-th smallest of $m$ is multiplied by $m - i$ (from $i = 0$), then raised to the
    largest before it and limited to 1.

    **Arguments:**

    - `p_values`: shape `(m,)`, each in [0, 1].

    **Returns:**

    The adjusted values, in the order given.

    **Raises:**

    `ValueError` if one is outside [0, 1].

    Source: Holm 1979. (SciPy has no Holm.)
    """
    p = samples("p_values", p_values)
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"p-values must lie between 0 and 1, but they are {p}.")
    order = np.argsort(p)
    # A larger p-value must not become significant after a smaller one is not.
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def seeds_needed(family: int, level: float = 0.05) -> int:
    r"""The number of seeds that a family of comparisons needs: with fewer no difference,
    however large, can be claimed.

    The p-value of the sign-flip test over $n$ pairs is at least $2 / 2^n$, and Holm
    multiplies the smallest by $m$: $n \geq \log_2 (2 m / \alpha)$, and never below 8.

    **Raises:**

    `ValueError` if there is no comparison, or the level is not in (0, 1).
    """
    check_fraction("level", level)
    if not isinstance(family, (int, np.integer)) or family < 1:
        raise ValueError(f"family must be at least 1 comparison, but it is {family!r}.")
    return max(8, math.ceil(math.log2(2 * family / level)))


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """The comparison of a treatment with its baseline, over the same seeds.

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
        """Whether a difference may be claimed: the interval excludes zero, the adjusted
        p-value is below the level, and there are enough seeds."""
        return (
            self.enough_seeds
            and (self.low > 0 or self.high < 0)
            and self.p_adjusted < self.level
        )


def compare_paired(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], level: float = 0.05
) -> dict[str, PairedComparison]:
    """A family of paired comparisons.

    **Arguments:**

    - `pairs`: by name, `(treatment, baseline)`: one finite value for each seed, shape
        `(n,)`, in the same order of seeds, or with their labels.
    - `level`: of the family; the intervals have confidence `1 - level`.

    **Returns:**

    A [`curvopt.statistics.PairedComparison`][] for each name.

    **Raises:**

    `ValueError` if a value is not finite, treatment and baseline differ in their seeds,
    seeds repeat, or the level is not in (0, 1).
    """
    check_fraction("level", level)
    differences = {}
    for name, pair in by_name("pairs", pairs).items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(
                f"{name}: must be a pair (treatment, baseline), but it is "
                f"{type(pair).__name__}."
            )
        treatment, baseline = pair
        names = f"{name}: treatment", f"{name}: baseline"
        baseline = matched("run", names[0], treatment, names[1], baseline)
        a, b = samples(names[0], treatment), samples(names[1], baseline)
        if a.shape != b.shape:
            raise ValueError(
                f"{name}: treatment and baseline must have the same seeds, but they "
                f"have {a.size} and {b.size} values."
            )
        with np.errstate(over="ignore"):
            differences[name] = samples(f"{name}: treatment minus baseline", a - b)
    if not differences:
        return {}
    p_values = [sign_flip_test(d) for d in differences.values()]
    out = {}
    for (name, d), p, adjusted in zip(differences.items(), p_values, holm(p_values)):
        low, high = bca_interval(d, 1 - level)
        out[name] = PairedComparison(
            mean_difference=mean(d),
            low=low,
            high=high,
            p_value=p,
            p_adjusted=float(adjusted),
            seeds=d.size,
            family=len(differences),
            level=level,
        )
    return out
