"""One run, step by step, to look at its parameters and its states."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PyTree

import curvopt

from ._bench import Bench


def observed(
    bench: Bench,
    solver: curvopt.LineSearchMinimiser,
    observe: Callable[[PyTree[Array], Any], PyTree[Array]],
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

    @eqx.filter_jit
    def step(problem: Any, running: Any, count: Array) -> Any:
        params, model_state, state = running
        args = problem.batch(keys[1], count), model_state, jr.fold_in(keys[2], count)
        params, state, _, (model_state, _) = solver.update(
            problem.loss, params, args, count, state
        )
        return (params, model_state, state), observe(params, state)

    params, model_state = eqx.filter_jit(bench.problem.init)(keys[0])
    running, rows = (params, model_state, solver.init_strategy(params, keys[3])), []
    for count in range(bench.steps):
        running, row = step(bench.problem, running, jnp.array(count))
        rows.append(row)
    metrics = eqx.filter_jit(bench.problem.evaluate)(*running[:2])
    stacked = jax.tree.map(lambda *xs: np.array(xs, np.float32), *rows)
    return stacked, {name: float(x) for name, x in metrics.items()}
