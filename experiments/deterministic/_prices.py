"""What each kind of evaluation costs on a problem, in gradient-equivalents."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree, Scalar

import curvopt


class Prices(NamedTuple):
    """The cost in C of each kind of evaluation, and the order in which they are counted.

    **Attributes:**

    - `gradient`: one value-and-gradient, the unit.
    - `loss`: one value.
    - `curvature`: what a curvature adds to a value-and-gradient.
    - `slope`: one value with its derivative along a direction.
    """

    gradient: float = 1.0
    loss: float = 1 / 3
    curvature: float = 2 / 3
    slope: float = 2 / 3


# Where XLA gives no number: the sweeps of one dominant matrix product.
_BY_SWEEPS = Prices()


def _value_and_gradient(fn: Callable, y: PyTree, args: Any) -> tuple[Scalar, PyTree]:
    return jax.value_and_grad(fn)(y, args)


def _value(fn: Callable, y: PyTree, args: Any) -> Scalar:
    return fn(y, args)


def _with_curvature(fn: Callable, y: PyTree, args: Any) -> tuple[Scalar, PyTree, Scalar]:
    model = curvopt.quadratic_model(fn, y, args)
    u = jtu.tree_map(jnp.negative, model.grad)
    return model.value, model.grad, model.curvature(u)


def _slope(fn: Callable, y: PyTree, args: Any) -> tuple[Scalar, Scalar]:
    return jax.jvp(lambda y: fn(y, args), (y,), (y,))


class Start(NamedTuple):
    """A problem where its solvers start.

    **Attributes:**

    - `value`: the value there.
    - `gradient_norm`: the gradient's largest element, by absolute value.
    - `prices`: the problem's [`Prices`][].
    """

    value: float
    gradient_norm: float
    prices: Prices


def evaluate(fn: Callable, y: PyTree, args: Any) -> Start:
    """A problem's value at its start, and what its evaluations cost.

    The price of an evaluation is its FLOPs by XLA's count over those of one
    value-and-gradient; that of a curvature is the price of value, gradient and curvature
    together, less one. Where XLA's count is no positive number the price is that of its
    sweeps: a loss a third, a slope and a curvature two thirds of a gradient. XLA does not
    count transcendental functions.

    **Arguments:**

    - `fn`: `fn(y, args)`.
    - `y`, `args`: where.
    """
    unit = curvopt.cost.compile_and_analyse(_value_and_gradient, fn, y, args)
    value, grad = unit.run()

    def price(kind: str, program: Callable, paid: float = 0.0) -> float:
        flops = curvopt.cost.compile_and_analyse(program, fn, y, args).flops
        ratio = flops / unit.flops - paid if unit.flops > 0 else 0.0
        return ratio if 0 < ratio < float("inf") else getattr(_BY_SWEEPS, kind)

    prices = Prices(
        loss=price("loss", _value),
        curvature=price("curvature", _with_curvature, 1.0),
        slope=price("slope", _slope),
    )
    norms = [float(jnp.max(jnp.abs(g))) for g in jtu.tree_leaves(grad) if g.size]
    return Start(float(value), max(norms), prices)
