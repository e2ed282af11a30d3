"""One run of one strategy from one seed: a lane. `train` runs one, a study many."""

from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .._checks import check_model_state, check_parameters
from .._line_search import steps_per_batch
from .._problem import AbstractProblem, Metrics
from .._solver import LineSearchMinimiser, StepRecord, StrategyState


class Lane(eqx.Module):
    """What a run carries from step to step. Lanes are vmapped: no count is in here."""

    params: PyTree[Array]
    model_state: PyTree
    strategy: StrategyState
    batch_key: PRNGKeyArray
    loss_key: PRNGKeyArray


class Start(eqx.Module):
    """What a seed gives to every strategy: common random numbers."""

    params: PyTree[Array]
    model_state: PyTree
    batch_key: PRNGKeyArray
    loss_key: PRNGKeyArray
    direction_key: PRNGKeyArray


# Compiled once for all strategies and all seeds, and never vmapped: a seed has the same
# start, bit for bit, however its lane is run.
@eqx.filter_jit
def start(problem: AbstractProblem, key: PRNGKeyArray) -> Start:
    """The same initial parameters, batches and randomness for all strategies."""
    init_key, batch_key, loss_key, direction_key = jr.split(key, 4)
    params, model_state = problem.init(init_key)
    check_parameters(params)
    check_model_state(model_state)
    # What `init` made from Python numbers may be weakly typed, and would change its type
    # within the loop.
    strong = lambda x: jax.lax.convert_element_type(x, x.dtype)
    params = jtu.tree_map(strong, params)
    return Start(params, model_state, batch_key, loss_key, direction_key)


@eqx.filter_jit
def lane(solver: LineSearchMinimiser, start: Start) -> Lane:
    """A strategy at its start."""
    strategy = solver.init_strategy(start.params, start.direction_key)
    return Lane(start.params, start.model_state, strategy, start.batch_key, start.loss_key)


def step(
    problem: AbstractProblem,
    solver: LineSearchMinimiser,
    lane: Lane,
    count: Int[Array, ""],
) -> tuple[Lane, tuple[StepRecord, Metrics]]:
    """One step of one lane, and its record."""
    batch = count // steps_per_batch(solver.line_search)
    args = (
        problem.batch(lane.batch_key, batch),
        lane.model_state,
        jr.fold_in(lane.loss_key, batch),
    )
    params, strategy, record, (model_state, metrics) = solver.update(
        problem.loss, lane.params, args, count, lane.strategy
    )
    new = Lane(params, model_state, strategy, lane.batch_key, lane.loss_key)
    return new, (record, metrics)


def metrics(problem: AbstractProblem) -> Any:
    """What the problem's evaluation returns, in shapes."""

    def evaluate(key: PRNGKeyArray) -> Any:
        begun = start(problem, key)
        return problem.evaluate(begun.params, begun.model_state)

    return eqx.filter_eval_shape(evaluate, jr.key(0))
