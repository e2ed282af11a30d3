"""One run of one strategy from one seed: a lane. `train` runs one, a study many."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from ._checks import check_parameters
from ._line_search import steps_per_batch
from ._problem import AbstractProblem, Metrics
from ._solver import LineSearchMinimiser, StepRecord, StrategyState


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


def start(problem: AbstractProblem, key: PRNGKeyArray) -> Start:
    """The same initial parameters, batches and randomness for all strategies."""
    init_key, batch_key, loss_key, direction_key = jr.split(key, 4)
    params, model_state = problem.init(init_key)
    check_parameters(params)
    # What `init` made from Python numbers may be weakly typed, and would change its type
    # within the loop.
    strong = lambda x: jax.lax.convert_element_type(x, x.dtype)
    params = jtu.tree_map(strong, params)
    return Start(params, model_state, batch_key, loss_key, direction_key)


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


def mapped(axes: tuple[bool, ...]) -> Any:
    """`step` over the axes of its lanes, outermost first; `True` marks an axis that
    the solver's hyper-parameters have as well. The count is shared by all."""
    fn = step
    for solver_too in reversed(axes):
        solver_axis = eqx.if_array(0) if solver_too else None
        fn = eqx.filter_vmap(fn, in_axes=(None, solver_axis, eqx.if_array(0), None))
    return fn


@eqx.filter_jit(donate="all-except-first")
def advance(
    fixed: tuple[AbstractProblem, LineSearchMinimiser, tuple[bool, ...], int],
    lanes: Lane,
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> tuple[Lane, PyTree[Array]]:
    """Make steps `first .. last - 1` of every lane, in one compiled program.

    The bounds are data: chunks of any length up to the longest, none included, run the
    same program.

    **Arguments:**

    - `fixed`: the problem, the solver, the vmapped axes, and the longest chunk.
    - `lanes`: where they are.
    - `first`, `last`: step counts.

    **Returns:**

    The lanes, and the history: a leading axis as long as the longest chunk, of which the
    first `last - first` rows are filled.
    """
    problem, solver, axes, longest = fixed
    # Traced once, for the shapes of a row and for the loop.
    stepper = eqx.filter_closure_convert(mapped(axes), problem, solver, lanes, first)
    _, row_struct = stepper.out_struct  # pyright: ignore[reportFunctionMemberAccess]
    history = jtu.tree_map(lambda s: jnp.zeros((longest, *s.shape), s.dtype), row_struct)
    dynamic, static = eqx.partition(lanes, eqx.is_array)

    def body(count: Int[Array, ""], carry: Any) -> Any:
        dynamic, history = carry
        lanes = eqx.combine(dynamic, static)
        lanes, row = stepper(problem, solver, lanes, count)
        history = jtu.tree_map(lambda h, x: h.at[count - first].set(x), history, row)
        return eqx.filter(lanes, eqx.is_array), history

    dynamic, history = jax.lax.fori_loop(first, last, body, (dynamic, history))
    return eqx.combine(dynamic, static), history
