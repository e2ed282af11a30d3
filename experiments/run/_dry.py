"""One step of a strategy on shapes alone: what only the problem and the strategy together
can get wrong, before anything is compiled."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree

import curvopt

from .._catalogue import UsageError


def check_step(
    problem: curvopt.AbstractProblem, solver: curvopt.LineSearchMinimiser, path: str
) -> None:
    """Refuse a strategy that cannot make a step on a problem, such as a curvature that the
    loss does not allow.

    **Arguments:**

    - `problem`: what would be trained.
    - `solver`: the strategy.
    - `path`: of the strategy in the file.

    **Raises:**

    `UsageError` naming the strategy.
    """

    def step(key: PyTree, count: PyTree) -> PyTree:
        params, model_state = problem.init(key)
        state = solver.init_strategy(params, key)
        args = problem.batch(key, count), model_state, key
        return solver.update(problem.loss, params, args, count, state)[0]

    try:
        eqx.filter_eval_shape(step, jr.key(0), jnp.array(0, jnp.int32))
    except ValueError as error:
        raise UsageError(f"{path} cannot make a step on the problem: {error}") from error
