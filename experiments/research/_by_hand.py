"""One run, step by step, to look at its parameters and its states."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt

from ._bench import Bench


# Reads the parameters and the state of the solver.
Observe = Callable[[PyTree[Array], Any], PyTree[Array]]


def observed(
    bench: Bench,
    solver: curvopt.LineSearchMinimiser,
    observe: Observe,
    seed: int,
) -> tuple[PyTree[np.ndarray], dict[str, float]]:
    """Make one run.

    **Arguments:**

    - `bench`: the setting.
    - `solver`: the solver.
    - `observe`: what to read after each step, from the parameters and the
        state of the solver.
    - `seed`: the seed of the run.

    **Returns:**

    What was read, its arrays stacked over the steps, and the final metrics.
    """
    keys = jr.split(jr.key(seed), 4)
    params, model_state = eqx.filter_jit(bench.problem.init)(keys[0])
    running, rows = (params, model_state, solver.init_strategy(params, keys[3])), []
    for count in range(bench.steps):
        running, row = _step(
            bench.problem, solver, observe, keys[1], keys[2], running, jnp.array(count)
        )
        rows.append(row)
    metrics = eqx.filter_jit(bench.problem.evaluate)(*running[:2])
    stacked = jax.tree.map(lambda *xs: np.array(xs, np.float32), *rows)
    return stacked, {name: float(x) for name, x in metrics.items()}


# Outside of `observed`: runs that differ in their seeds share it.
@eqx.filter_jit
def _step(
    problem: curvopt.AbstractProblem,
    solver: curvopt.LineSearchMinimiser,
    observe: Observe,
    batch_key: PRNGKeyArray,
    key: PRNGKeyArray,
    running: tuple[PyTree[Array], PyTree, Any],
    count: Array,
) -> tuple[tuple[PyTree[Array], PyTree, Any], PyTree[Array]]:
    """One step of a run, and what is read after it."""
    params, model_state, state = running
    args = problem.batch(batch_key, count), model_state, jr.fold_in(key, count)
    params, state, _, (model_state, _) = solver.update(
        problem.loss, params, args, count, state
    )
    return (params, model_state, state), observe(params, state)
