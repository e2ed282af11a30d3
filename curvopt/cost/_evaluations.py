"""The costs of a problem's evaluations."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Scalar

from .._curvature import AbstractCurvatureMethod, close_loss, quadratic_model
from .._direction import AbstractDirection
from .._problem import AbstractProblem
from ._compiled import compile_and_analyse, on_host


def _gradient(problem: AbstractProblem, y: Any, args: Any) -> Any:
    return jax.value_and_grad(close_loss(problem.loss, args, True), has_aux=True)(y)


def _loss(problem: AbstractProblem, y: Any, args: Any) -> Scalar:
    return close_loss(problem.loss, args, True)(y)[0]


def _slope(problem: AbstractProblem, y: Any, args: Any) -> Any:
    # `y` as the tangent: any of its shapes will do, because only operations are counted.
    return jax.jvp(lambda y: _loss(problem, y, args), (y,), (y,))


def _model(
    curvature: AbstractCurvatureMethod, problem: AbstractProblem, y: Any, args: Any
) -> Any:
    model = quadratic_model(problem.loss, y, args, curvature, has_aux=True)
    return model.value, model.aux, model.grad


def _curvature(
    curvature: AbstractCurvatureMethod, problem: AbstractProblem, y: Any, args: Any
) -> Any:
    # As in real use, `u` depends on the gradient: XLA cannot reorder the sweeps.
    model = quadratic_model(problem.loss, y, args, curvature, has_aux=True)
    u = jtu.tree_map(jnp.negative, model.grad)
    return model.value, model.aux, model.grad, model.curvature(u)


def _product(
    curvature: AbstractCurvatureMethod, problem: AbstractProblem, y: Any, args: Any
) -> Any:
    model = quadratic_model(problem.loss, y, args, curvature, has_aux=True)
    u = jtu.tree_map(jnp.negative, model.grad)
    return model.value, model.aux, model.grad, model.product(u)


def _descent(
    direction: AbstractDirection,
    curvature: AbstractCurvatureMethod,
    problem: AbstractProblem,
    y: Any,
    args: Any,
) -> Any:
    model = quadratic_model(problem.loss, y, args, curvature, has_aux=True)
    state = direction.checked_init(y, jr.key(0))
    descent, state = direction.checked_step(model, y, state)
    return model.value, model.aux, descent.u, state


class EvaluationCosts:
    r"""The cost of each kind of evaluation on a problem, in gradient-equivalents.

    A gradient-equivalent is the FLOPs of one value-and-gradient, by XLA's count. Each kind
    is compiled on first use.

    **Arguments:**

    - `problem`: the problem whose loss is evaluated, on one of its batches.
    - `curvature`: the curvature method. The cost of a curvature is the cost of value,
        gradient and curvature together, minus that of value and gradient by the same
        method; a product likewise.
    """

    def __init__(self, problem: AbstractProblem, curvature: AbstractCurvatureMethod):
        # Shapes are enough: nothing is run, and the data need not stay in memory.
        self._problem = jtu.tree_map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if eqx.is_array(x) else x,
            problem,
        )
        self._curvature = curvature
        self._functions = {
            "gradient": _gradient,
            "loss": _loss,
            "slope": _slope,
            "model": eqx.Partial(_model, curvature),
            "curvature": eqx.Partial(_curvature, curvature),
            "product": eqx.Partial(_product, curvature),
        }
        self._known: dict[str, float] = {}

    @functools.cached_property
    def _point(self) -> tuple[Any, Any]:
        """The parameters and the arguments of the loss, as shapes."""
        key = eqx.filter_eval_shape(jr.key, 0)
        params, model_state = eqx.filter_eval_shape(self._problem.init, key)
        data = eqx.filter_eval_shape(self._problem.example_batch, key)
        return params, (data, model_state, key)

    def _counted(self, fn: Callable) -> float:
        with on_host():
            return compile_and_analyse(fn, self._problem, *self._point).flops

    def _flops(self, kind: str, fn: Callable) -> float:
        if kind not in self._known:
            self._known[kind] = self._counted(fn)
        return self._known[kind]

    def of_direction(self, direction: AbstractDirection) -> float:
        """The cost in C of a step before its line search: the value, and whatever the
        direction computes. About 1 for a direction that follows the gradient."""
        fn = eqx.Partial(_descent, direction, self._curvature)
        # Not cached here: directions that compare equal may differ, and jax's cache knows.
        return self._counted(fn) / self._flops("gradient", _gradient)

    def __getitem__(self, kind: str) -> float:
        """The cost of `"gradient"`, `"curvature"`, `"product"`, `"loss"` or `"slope"`, in
        C."""
        flops = self._flops(kind, self._functions[kind])
        if kind in ("curvature", "product"):
            flops -= self._flops("model", self._functions["model"])
        return flops / self._flops("gradient", _gradient)
