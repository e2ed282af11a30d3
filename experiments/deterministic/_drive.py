"""One driver for every Optimistix minimiser, which counts its evaluations."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from ._prices import Prices


# A run ends at this absolute size of the gradient, or relative to a small initial gradient.
# Relative to a large one it would stop badly scaled problems long before the target.
_GRADIENT = 1e-9


class History(eqx.Module):
    """The points at which a run evaluated value and gradient.

    **Attributes:**

    - `values`: the value at each point; entries from `points` on are unused.
    - `counts`: the evaluations of each kind up to and including this point, in the order
        of [`Prices`][].
    - `points`: the number of points.
    - `total`: the counts of the whole run.
    """

    values: Float[Array, " point"]
    counts: Int[Array, "point kind"]
    points: Int[Array, ""]
    total: Int[Array, " kind"]


class _Step(eqx.Module):
    """The evaluations of one step.

    `arrived` says whether the step evaluated value and gradient at a point of the history,
    with `value` and `gradient_norm`. `first` counts the evaluations up to that point,
    `then` those after it.
    """

    arrived: Bool[Array, ""]
    value: Scalar
    gradient_norm: Scalar
    first: Int[Array, " kind"]
    then: Int[Array, " kind"]


def _counts(**evaluated: Any) -> Int[Array, " kind"]:
    return jnp.stack(
        [jnp.asarray(evaluated.get(kind, 0), jnp.int32) for kind in Prices._fields]
    )


class _Watched(curvopt.AbstractDirection):
    """A direction that also keeps the norm of the last gradient."""

    direction: curvopt.AbstractDirection

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> tuple[Any, Scalar]:
        norm = jnp.zeros((), curvopt.scalar_dtype(y))
        return self.direction.init(y, key=key), norm

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[curvopt.Descent, tuple[Any, Scalar]]:
        descent, inner = self.direction.step(model, y, state[0])
        return descent, (inner, optx.max_norm(model.grad))


def _our_step(state: Any, moved: Bool[Array, ""]) -> _Step:
    """A step of ours searches from a value and gradient that it evaluates, or that the last
    step has handed on."""
    del moved
    info, (direction, gradient_norm) = state.record.info, state.strategy.direction
    # What a direction evaluates besides the gradient is in its state.
    products = getattr(direction, "products", 0)
    handed_on = state.known is not None
    # Both repeat the sweeps of a gradient that was handed on without them.
    repeated = handed_on & (info.curvatures + products > 0)
    return _Step(
        arrived=jnp.array(True),
        value=state.record.loss,
        gradient_norm=gradient_norm,
        first=_counts(gradient=int(not handed_on)),
        then=_counts(
            gradient=info.gradients + repeated,
            loss=info.losses,
            curvature=info.curvatures,
            product=products,
            slope=info.slopes,
        ),
    )


def _their_step(state: Any, moved: Bool[Array, ""]) -> _Step:
    """A step of Optimistix's evaluates one trial: value, and gradient if accepted."""
    return _Step(
        arrived=moved,
        value=state.f_info.f,
        gradient_norm=optx.max_norm(state.f_info.grad),
        first=_counts(gradient=moved, loss=~moved),
        then=_counts(),
    )


def _differ(a: PyTree[Array], b: PyTree[Array]) -> Bool[Array, ""]:
    leaves = zip(jtu.tree_leaves(a), jtu.tree_leaves(b))
    return jnp.any(jnp.stack([jnp.any(x != y) for x, y in leaves]))


def _with_step(history: History, step: _Step) -> History:
    """The history with the evaluations of one more step."""
    until = history.total + step.first
    recorded = step.arrived & jnp.isfinite(step.value)
    # An index out of range writes nothing, by mode="drop".
    k = jnp.where(recorded, history.points, len(history.values))
    return History(
        values=history.values.at[k].set(step.value, mode="drop"),
        counts=history.counts.at[k].set(until, mode="drop"),
        points=history.points + recorded,
        total=until + step.then,
    )


def drive(
    fn: Callable[[PyTree, Any], Scalar],
    minimiser: optx.AbstractMinimiser,
    y0: PyTree[Array],
    args: Any,
    prices: Float[Array, " kind"],
    *,
    budget: int,
) -> History:
    r"""Run a solver through its own `init` and `step`, as `optimistix.minimise` does.

    A run ends once its cost reaches the budget, no element of the gradient is larger than
    $10^{-9} \min(1, \max |g_0|)$, the value is not finite, a step evaluates nothing, or the
    solver reports a failure.
    The solver's own test of convergence is not used.

    A step of our solvers evaluates value and gradient where it begins, unless the last step
    has handed them on, and then what its record counts. A step of Optimistix's solvers is
    one trial: an accepted one counts as a value-and-gradient, a rejected one as a loss.

    **Arguments:**

    - `fn`: `fn(y, args)`, to be traced.
    - `minimiser`: the solver.
    - `y0`, `args`: the start.
    - `prices`: the cost of each kind of evaluation, in C; that of a gradient is 1.
    - `budget`: the cost at which the run ends, in C.

    **Returns:**

    A [`History`][].
    """
    if isinstance(minimiser, curvopt.LineSearchMinimiser):
        watched = _Watched(minimiser.direction)
        minimiser = eqx.tree_at(lambda m: m.direction, minimiser, watched)
        observe = _our_step
    else:
        observe = _their_step

    # As in `optimistix.minimise`: arrays that `fn` closes over are traced once.
    closed = eqx.filter_closure_convert(lambda y, args: (fn(y, args), None), y0, args)
    value = jax.eval_shape(lambda: closed(y0, args)[0])
    tags: frozenset[object] = frozenset()
    state = minimiser.init(closed, y0, args, {}, value, None, tags)
    dynamic, static = eqx.partition(state, eqx.is_array)

    def unfinished(carry: Any) -> Bool[Array, ""]:
        return carry[-1]

    def advance(carry: Any) -> Any:
        y, dynamic, history, least, _ = carry
        state = eqx.combine(dynamic, static)
        new_y, state, _ = minimiser.step(closed, y, args, {}, state, tags)
        # The first step of Optimistix's solvers evaluates the start, without moving.
        step = observe(state, _differ(y, new_y) | (history.points == 0))
        at_start = _GRADIENT * jnp.minimum(1, step.gradient_norm)
        least = jnp.where(history.points == 0, at_start, least)
        spent = history.total
        history = _with_step(history, step)
        _, result = minimiser.terminate(closed, new_y, args, {}, state, tags)
        goes_on = (
            (step.gradient_norm > least)
            & jnp.isfinite(step.value)
            & (result == optx.RESULTS.successful)
            & (jnp.dot(history.total, prices) < budget)
            & jnp.any(history.total > spent)
        )
        return new_y, eqx.filter(state, eqx.is_array), history, least, goes_on

    # Each point costs at least one gradient, so that a budget bounds their number.
    history = History(
        values=jnp.zeros(budget + 1, value.dtype),
        counts=jnp.zeros((budget + 1, len(Prices._fields)), jnp.int32),
        points=jnp.array(0, jnp.int32),
        # A solver whose steps hand them on has them from `init`.
        total=_counts(gradient=int(getattr(state, "known", None) is not None)),
    )
    start = (y0, dynamic, history, jnp.zeros((), value.dtype), jnp.array(True))
    return jax.lax.while_loop(unfinished, advance, start)[2]
