"""Strategies that are evaluated at another point than where they take the gradient."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

import curvopt
from strategies import FromOptax, LearningRate

from ._bench import Bench


# Weights 9 / (k + 9): about the last tenth of the steps, as DoG has it (Ivgi, Hinder &
# Carmon 2023, read in its code).
_WINDOW = 1 / 9


def averaging(bench: Bench) -> Bench:
    """The setting with averaged parameters."""
    problem = curvopt.AveragedParameters(bench.problem, window=_WINDOW)
    return dataclasses.replace(bench, problem=problem)


def averaged(name: str) -> str:
    """The name of a strategy whose averaged parameters are evaluated."""
    return f"{name}, averaged"


def own_and_average(data: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Runs with averaged parameters, as if they were evaluated at their own parameters
    only, or at the average only, under a name of its own."""
    own = [str(name) for name in data if f"averaged_{name}" in data]
    average = {f"averaged_{name}": name for name in own}
    names = [averaged(str(name)) for name in data.strategy.values]
    of_average = data.drop_vars(own).rename(average).assign_coords(strategy=names)
    return data.drop_vars(list(average)), of_average


class Points(NamedTuple):
    """The point where gradients are taken, and the one where metrics are evaluated."""

    trained: PyTree[Array]
    evaluated: PyTree[Array]


class EvaluatedElsewhere(curvopt.AbstractProblem):
    """A problem whose parameters are two points, one for the loss and one for the metrics.
    Both start at the problem's initial parameters, and the batches are the same.

    **Arguments:**

    - `problem`: the problem, otherwise unchanged.
    """

    problem: curvopt.AbstractProblem

    def init(self, key: PRNGKeyArray) -> tuple[Points, PyTree]:
        params, state = self.problem.init(key)
        return Points(params, params), state

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> PyTree[Array]:
        return self.problem.batch(key, count)

    @property
    def host_data(self) -> curvopt.HostData | None:
        return self.problem.host_data

    def loss(
        self, params: Points, args: tuple[PyTree, Any, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, curvopt.Metrics]]:
        return self.problem.loss(params.trained, args)

    def evaluate(self, params: Points, model_state: Any) -> curvopt.Metrics:
        return self.problem.evaluate(params.evaluated, model_state)

    @property
    def steps_per_epoch(self) -> int:
        return self.problem.steps_per_epoch


# Maps the state of a transformation, the trained point, the last evaluated point and the
# number of the step (from 1) to the new evaluated point.
Where = Callable[[Any, PyTree, PyTree, Int[Array, ""]], PyTree]


def elsewhere(
    tx: optax.GradientTransformation, where: Where
) -> curvopt.LineSearchMinimiser:
    """An optax optimiser on [`EvaluatedElsewhere`][], at its own learning rate.

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
