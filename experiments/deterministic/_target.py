"""The test of whether a solver has solved a problem, by Moré & Wild 2009."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float


def lowest_value(histories: Iterable[np.ndarray], minimum: float | None = None) -> float:
    r"""$f_L$: the lowest value in any history, or the minimum if it is known and lower;
    infinite if there is neither."""
    known = np.inf if minimum is None else minimum
    return float(min([known, *(np.min(h, initial=np.inf) for h in histories)]))


def target_value(start: float, lowest: float, tolerance: float) -> float:
    r"""The value at which a problem is solved, $f_L + \text{tolerance} (f(y_0) - f_L)$.

    Source: Moré & Wild, Benchmarking derivative-free optimization algorithms, SIAM J.
    Optim. 20(1), 2009, equation 2.2.
    """
    return lowest + tolerance * (start - lowest)


def first_reaching(history: Float[np.ndarray, " point"], target: float) -> int | None:
    """The first point whose value is at most the target, if any."""
    reached = np.flatnonzero(history <= target)
    return int(reached[0]) if reached.size else None
