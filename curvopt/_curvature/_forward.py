"""The curvature by second-order forward mode, and the sweeps that carry its tangents."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Scalar

from .. import _sharding
from .._tree import at_least_float32
from ._adjoint import matrix_along
from ._equation import AbstractSweep
from ._model import (
    AbstractCurvatureMethod,
    ClosedLoss,
    CurvatureReport,
    Loss,
    QuadraticModel,
)
from ._primitive import PrimitiveEquation
from ._products import ProductRule, Products
from ._tape import record, Recorded


class FirstOrder(AbstractSweep):
    r"""The tangents $\dot z$ alone."""

    products: ProductRule
    stack: tuple[int, ...] = eqx.field(static=True, default=(), kw_only=True)

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        fn = equation.function.rounded(self.products)
        tangents = jax.jvp(fn, equation.function.primals, tuple(carried))[1]
        return list(tangents), self.zero()

    def instantiate(
        self, carried: PyTree, struct: _sharding.Struct, entering: list[PyTree]
    ) -> PyTree:
        return _sharding.zeros(struct) if carried is None else carried


class SecondOrder(AbstractSweep):
    r"""Tangents and second tangents, $(\dot z, \ddot z)$. `None` is a second tangent known
    to be zero, such as those of the parameters."""

    products: ProductRule
    stack: tuple[int, ...] = eqx.field(static=True, default=(), kw_only=True)

    def through(self, equation: PrimitiveEquation, kept: PyTree, carried: list) -> Any:
        dx, ddx = (tuple(c[k] for c in carried) for k in (0, 1))
        first, second = equation.rule.second(equation.function, dx, ddx, self.products)
        return list(zip(first, second, strict=True)), self.zero()

    def instantiate(
        self, carried: PyTree, struct: _sharding.Struct, entering: list[PyTree]
    ) -> PyTree:
        zeros = lambda x: _sharding.zeros(struct) if x is None else x
        first, second = (None, None) if carried is None else carried
        return zeros(first), zeros(second)


def forward_model(
    fn: ClosedLoss,
    recorded: Recorded,
    sweep: AbstractSweep,
    how: ProductRule,
    cut: bool = False,
) -> QuadraticModel:
    r"""A model whose curvature is the $\ddot z$ of the loss after a sweep of tangents
    $(\dot z, \ddot z)$; `cut` as for `run_backward`."""
    # If the gradient is never read, `jit` removes this sweep as dead code.
    grad, kept = recorded.gradient()
    if cut:
        _, kept = recorded.gradient(cut=True)
    zero = jnp.zeros((), jnp.float32)

    def slope(u: PyTree[Array]) -> Scalar:
        # Nothing is rounded: the slope is exact whatever `product_dtype` is.
        first = FirstOrder(ProductRule())
        _, tangent = recorded.sweep(first, None, jtu.tree_leaves(u))
        return zero if tangent is None else at_least_float32(tangent)

    def curvature(u: PyTree[Array]) -> Scalar:
        start = [(leaf, None) for leaf in jtu.tree_leaves(u)]
        _, tangents = recorded.sweep(sweep, None, start)
        second = None if tangents is None else tangents[1]
        return zero if second is None else at_least_float32(second)

    return QuadraticModel(
        value=recorded.value,
        grad=grad,
        aux=recorded.aux,
        loss=lambda y: fn(y)[0],
        slope=slope,
        curvature=curvature,
        # By adjoints: second tangents would be one for each pair of vectors.
        curvature_matrix=None
        if recorded.tape.splits
        else partial(matrix_along, recorded, kept, how),
        report=lambda: CurvatureReport.of(recorded.tape, how),
    )


class ForwardCurvature(AbstractCurvatureMethod):
    r"""The curvature by second-order forward mode: $\ddot z$ of $t \mapsto f(y + t u)$.

    It is exact. It reuses the values of the forward sweep and keeps nothing else, so its
    memory is that of one gradient. Slope and curvature need no gradient: under `jax.jit`, a
    direction that never reads `model.grad` runs no backward sweep (though the loss must
    have one), and the slope is one forward sweep of tangents.

    **Arguments:**

    - `products`, `product_dtype`: as for [`curvopt.AdjointCurvature`][]; but `"auto"` uses
        two products only where their value is kept for something else, too.

    **Raises:**

    `TypeError` if the loss contains a `jax.custom_vjp`, which has no forward mode (use
    [`curvopt.AdjointCurvature`][]), or if jax cannot differentiate it.
    """

    products: Products = eqx.field(static=True, default="auto")
    product_dtype: Any = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        ProductRule(self.products, self.product_dtype)

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        how = ProductRule(self.products, self.product_dtype, sparing=True)
        closed = lambda y: fn(y, args)
        return forward_model(closed, record(closed, y), SecondOrder(how), how)
