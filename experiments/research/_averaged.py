"""Optimisers that are evaluated at another point than the one whose gradient they take."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

import curvopt
from strategies import FromOptax, LearningRate


class Points(NamedTuple):
    """Where gradients are taken, and where the problem's metrics are evaluated."""

    trained: PyTree[Array]
    evaluated: PyTree[Array]


class EvaluatedElsewhere(curvopt.AbstractProblem):
    """A problem whose parameters are two points: the loss is that of the one, the metrics
    are those of the other. Both begin where the problem does, and batches are the same.

    **Arguments:**

    - `problem`: the problem, which is not changed otherwise.
    """

    problem: curvopt.AbstractProblem

    def init(self, key: PRNGKeyArray) -> tuple[Points, PyTree]:
        params, state = self.problem.init(key)
        return Points(params, params), state

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> PyTree[Array]:
        return self.problem.batch(key, count)

    def loss(
        self, params: Points, args: tuple[PyTree, Any, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, curvopt.Metrics]]:
        return self.problem.loss(params.trained, args)

    def evaluate(self, params: Points, model_state: Any) -> curvopt.Metrics:
        return self.problem.evaluate(params.evaluated, model_state)

    @property
    def steps_per_epoch(self) -> int:
        return self.problem.steps_per_epoch


# From the state of a transformation, where it trains, where it was evaluated, and the
# number of the step, the first being 1: where it is evaluated.
Where = Callable[[Any, PyTree, PyTree, Int[Array, ""]], PyTree]


def elsewhere(
    tx: optax.GradientTransformation, where: Where
) -> curvopt.LineSearchMinimiser:
    """An optimiser of optax on [`EvaluatedElsewhere`][], at its own learning rate.

    **Arguments:**

    - `tx`: the optimiser.
    - `where`: the point at which it is evaluated after each step.
    """

    def init(params: Points) -> tuple[Any, Array]:
        return tx.init(params.trained), jnp.array(0, jnp.int32)

    def update(
        gradient: Points, state: tuple[Any, Array], params: Points | None = None
    ) -> tuple[Points, tuple[Any, Array]]:
        assert params is not None
        inner, count = state
        updates, inner = tx.update(gradient.trained, inner, params.trained)
        trained = optax.apply_updates(params.trained, updates)
        evaluated = where(inner, trained, params.evaluated, count + 1)
        moved = jax.tree.map(jnp.subtract, evaluated, params.evaluated)
        return Points(updates, moved), (inner, count + 1)

    # optax types the parameters of a transformation as a tree of its own kind.
    both: Any = optax.GradientTransformation(init, update)  # pyright: ignore
    return curvopt.LineSearchMinimiser(FromOptax(both), LearningRate(1.0))


def schedule_free_point(
    state: Any, trained: PyTree, evaluated: PyTree, count: Int[Array, ""]
) -> PyTree:
    """The averaged point of `optax.contrib.schedule_free`."""
    del evaluated, count
    return optax.contrib.schedule_free_eval_params(state, trained)


def polynomial_average(
    state: Any, trained: PyTree, evaluated: PyTree, count: Int[Array, ""]
) -> PyTree:
    r"""The average $\bar y_t = (1 - w_t) \bar y_{t-1} + w_t y_t$ with
    $w_t = (1 + \gamma) / (t + \gamma)$, $\gamma = 8$, which nearly forgets how it began.

    Source: Shamir & Zhang, *Stochastic Gradient Descent for Non-smooth Optimization*
    (2013); that DoG is averaged so, with this $\gamma$: recalled.
    """
    del state
    weight = 9 / (count + 8)
    return jax.tree.map(lambda a, y: a + weight * (y - a), evaluated, trained)
