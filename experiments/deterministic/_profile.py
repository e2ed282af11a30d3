"""How solvers compare over many problems."""

import numpy as np
from jaxtyping import Bool, Float


def cost_ratios(costs: Float[np.ndarray, "solver problem"]) -> np.ndarray:
    """Each cost over the lowest that any solver had on the problem; infinite where a
    solver missed the target (an infinite cost)."""
    best = np.min(costs, axis=0)
    solved = np.isfinite(costs)
    return np.where(solved, costs, np.inf) / np.where(np.isfinite(best), best, 1)


def performance_profile(
    costs: Float[np.ndarray, "solver problem"], factors: Float[np.ndarray, " factor"]
) -> Float[np.ndarray, "solver factor"]:
    r"""The fraction of all problems that each solver solves within a factor $\alpha$ of
    the best solver's cost.

    **Arguments:**

    - `costs`: to reach the target; infinite where it was missed.
    - `factors`: the values of $\alpha$, from 1 on.

    Source: Dolan & Moré, Benchmarking optimization software with performance profiles,
    Math. Program. 91, 2002.
    """
    return (cost_ratios(costs)[:, :, None] <= factors).mean(axis=1)


def no_dearer(
    costs: Float[np.ndarray, " problem"], rival: Float[np.ndarray, " problem"]
) -> tuple[Bool[np.ndarray, " problem"], Bool[np.ndarray, " problem"]]:
    """Where a solver solves the problem and needs no more than its rival, and where either
    of them solves it."""
    return np.isfinite(costs) & (costs <= rival), np.isfinite(np.minimum(costs, rival))
