"""The cost of each kind of evaluation on a problem, in gradient-equivalents."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree, Scalar

import curvopt


class Prices(NamedTuple):
    """The cost in C of each kind of evaluation; its fields set the order of counts.

    **Attributes:**

    - `gradient`: one value-and-gradient, the unit.
    - `loss`: one value.
    - `curvature`: the additional cost of a curvature after a value-and-gradient.
    - `slope`: one value with its derivative along a direction.
    - `product`: the additional cost of a product with the Hessian.
    """

    gradient: float = 1.0
    loss: float = 1 / 3
    curvature: float = 2 / 3
    slope: float = 2 / 3
    product: float = 2.0


# The prices where XLA gives none: the sweeps of one dominant matrix product.
_BY_SWEEPS = Prices()


class _Deterministic(curvopt.AbstractProblem):
    """`fn(y, args)` as a problem whose batches are all the same."""

    fn: Callable[[PyTree, Any], Scalar] = eqx.field(static=True)
    y: PyTree
    args: Any

    def init(self, key: Any) -> tuple[PyTree, None]:
        return self.y, None

    def batch(self, key: Any, count: Any) -> Any:
        return self.args

    def loss(self, params: PyTree, args: Any) -> tuple[Scalar, tuple[None, dict]]:
        return self.fn(params, args[0]), (None, {})

    def evaluate(self, params: PyTree, model_state: None) -> dict[str, Scalar]:
        return {"value": self.fn(params, self.args)}

    @property
    def steps_per_epoch(self) -> int:
        return 1


class Start(NamedTuple):
    """A problem at the start of its solvers.

    **Attributes:**

    - `value`: the value at the start.
    - `gradient_norm`: the largest absolute element of the gradient.
    - `prices`: the problem's [`Prices`][].
    """

    value: float
    gradient_norm: float
    prices: Prices


def evaluate(fn: Callable, y: PyTree, args: Any) -> Start:
    """Evaluate a problem at its start, and price its evaluations.

    The prices are those of [`curvopt.cost.EvaluationCosts`][]. If XLA's count is not
    positive the price is that of the sweeps: a third of a gradient for a loss, two thirds
    for a slope or a curvature, two for a product. XLA does not count transcendental
    functions.

    **Arguments:**

    - `fn`: `fn(y, args)`.
    - `y`, `args`: the start.
    """
    value, grad = eqx.filter_jit(lambda y, args: jax.value_and_grad(fn)(y, args))(y, args)
    problem = _Deterministic(fn, y, args)
    costs = curvopt.cost.EvaluationCosts(problem, curvopt.AdjointCurvature())

    def price(kind: str) -> float:
        cost = costs[kind]
        return cost if 0 < cost < float("inf") else getattr(_BY_SWEEPS, kind)

    prices = Prices(**{kind: price(kind) for kind in Prices._fields})
    norms = [float(jnp.max(jnp.abs(g))) for g in jtu.tree_leaves(grad) if g.size]
    return Start(float(value), max(norms), prices)
