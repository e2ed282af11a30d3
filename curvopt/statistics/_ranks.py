"""Ranks of methods over many problems or seeds."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import scipy
from jaxtyping import Float
from numpy.typing import ArrayLike

from ._samples import by_name, check_flag, check_fraction, matched, samples


@dataclasses.dataclass(frozen=True)
class CriticalDifference:
    """The content of a critical-difference diagram.

    **Attributes:**

    - `average_ranks`: by method, the best first; 1 is the best possible rank.
    - `statistic`, `p_value`: of the Friedman test that all methods have the same rank.
    - `critical_difference`: two methods differ if their average ranks are at least this far
        apart (Nemenyi).
    - `groups`: the largest sets of two or more methods, the best first, within which no
        difference can be claimed; a method in none of them differs from all others.
    - `blocks`: the number of problems or seeds.
    - `level`: the level of the claims.
    """

    average_ranks: dict[str, float]
    statistic: float
    p_value: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    blocks: int
    level: float


def _friedman(ranks: Float[np.ndarray, "block method"]) -> tuple[float, float]:
    """The statistic, corrected for ties, and its p-value. They equal SciPy's, which rejects
    two methods and returns nan where all are tied."""
    methods = ranks.shape[1]
    centred = ranks - (methods + 1) / 2
    spread = np.sum(centred**2)
    if spread == 0:  # all methods are tied in every block
        return 0.0, 1.0
    statistic = (methods - 1) * np.sum(centred.sum(axis=0) ** 2) / spread
    return float(statistic), float(scipy.stats.chi2.sf(statistic, methods - 1))


def _groups(ranks: Mapping[str, float], distance: float) -> tuple[tuple[str, ...], ...]:
    """The largest runs of neighbours in the ranking that stay within the distance."""
    names, values = list(ranks), np.array(list(ranks.values()))
    groups, covered = [], 0
    for first in range(len(names)):
        end = int(np.count_nonzero(values - values[first] < distance))
        # A single method is no group, nor is a part of the previous group.
        if end > max(covered, first + 1):
            groups.append(tuple(names[first:end]))
            covered = end
    return tuple(groups)


def critical_difference(
    scores: Mapping[str, ArrayLike],
    *,
    level: float = 0.05,
    lower_is_better: bool = True,
) -> CriticalDifference:
    r"""Which methods differ in rank: the Friedman test over all of them, then Nemenyi's
    over their pairs.

    $$\mathrm{CD} = q_\alpha \sqrt{\frac{k (k + 1)}{6 N}}$$

    for $k$ methods in $N$ blocks, with $q_\alpha$ the quantile of the studentised range
    over $\sqrt 2$. In a block the best method has rank 1; ties share their average rank.

    **Arguments:**

    - `scores`: by method, one value for each block, shape `(block,)`, in the same order.
        A block is a problem (its mean over seeds) or, on one problem, a seed. Runs of
        several seeds on several problems are not independent blocks: average over seeds
        first.
    - `level`: the level of the claims.
    - `lower_is_better`: whether scores are losses.

    **Returns:**

    A [`curvopt.statistics.CriticalDifference`][]. Where the Friedman test does not reject
    at `level`, all methods are one group. Where all are tied, its statistic is 0 and its
    p-value 1. For two methods it is the normal approximation of the sign test. A single
    block cannot show a difference.

    **Raises:**

    `ValueError` if there are fewer than two methods, a score is not finite, or methods
    differ in their number of blocks.

    Source: Friedman 1937 (as `scipy.stats.friedmanchisquare`: its chi-squared
    approximation needs about ten blocks); Demšar, Statistical comparisons of classifiers
    over multiple data sets, JMLR 7, 2006, section 3.2.2. The tests check its table of
    $q_\alpha$ and its worked example.
    """
    check_fraction("level", level)
    check_flag("lower_is_better", lower_is_better)
    if len(by_name("scores", scores)) < 2:
        raise ValueError(
            f"there must be at least two methods to rank, but scores has {list(scores)}."
        )
    first, *_ = scores
    values = {}
    for name, x in scores.items():
        for axis in ("problem", "run"):
            x = matched(axis, first, scores[first], name, x)
        values[name] = samples(name, x)
    blocks = {name: x.size for name, x in values.items()}
    if len(set(blocks.values())) > 1:
        raise ValueError(f"methods must have the same blocks, but they have {blocks}.")
    table = np.stack(list(values.values()), axis=-1)
    ranks = scipy.stats.rankdata(table if lower_is_better else -table, axis=1)
    average = dict(zip(values, map(float, ranks.mean(axis=0))))
    average = dict(sorted(average.items(), key=lambda item: item[1]))
    n, k = ranks.shape
    statistic, p_value = _friedman(ranks)
    quantile = scipy.stats.studentized_range.ppf(1 - level, k, np.inf) / math.sqrt(2)
    distance = float(quantile * math.sqrt(k * (k + 1) / (6 * n)))
    return CriticalDifference(
        average_ranks=average,
        statistic=statistic,
        p_value=p_value,
        critical_difference=distance,
        groups=_groups(average, distance if p_value < level else math.inf),
        blocks=n,
        level=level,
    )
