"""The rivals of the sweeps: the curvature of a loss as a whole, by jax's own derivatives or
by finite differences."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Scalar

from .._declared import hyperparameter, OptionalNumber
from .._tree import (
    at_least_float32,
    scalar_dtype,
    tree_cast,
    tree_dot,
    tree_fill,
    tree_norm,
)
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel


class HvpCurvature(AbstractCurvatureMethod):
    r"""The curvature by a full Hessian-vector product, $\langle u, H u \rangle$ with
    $H u$ = `jvp(grad(f))` (Pearlmutter 1994).

    It is exact, and what most code uses: the baseline for the other methods.

    **Raises:**

    `TypeError` from jax for a loss that contains a `jax.custom_vjp`.
    """

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        def product(u: PyTree[Array]) -> PyTree[Array]:
            return jax.jvp(jax.grad(lambda y: fn(y, args)[0]), (y,), (u,))[1]

        def matrix(us: Sequence[PyTree[Array | None]]) -> Array:
            us = [tree_fill(u, y) for u in us]
            products = [product(u) for u in us]
            return jnp.stack([jnp.stack([tree_dot(u, p) for p in products]) for u in us])

        curvature = lambda u: tree_dot(u, product(u))
        return QuadraticModel.of_loss(
            fn, y, args, curvature=curvature, curvature_matrix=matrix, product=product
        )


class JvpCurvature(AbstractCurvatureMethod):
    r"""Gradient and curvature by forward mode of the whole loss: the gradient by one `jvp`
    per parameter, the curvature by a `jvp` of a `jvp`.

    For losses without a reverse mode: Optimistix's `options=dict(autodiff_mode="fwd")`.
    """

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        loss = lambda y: fn(y, args)[0]
        value, aux = fn(y, args)

        def slope_at(y: PyTree[Array], u: PyTree[Array]) -> Scalar:
            return jax.jvp(loss, (y,), (u,))[1]

        def curvature(u: PyTree[Array]) -> Scalar:
            second = jax.jvp(lambda y: slope_at(y, u), (y,), (u,))[1]
            return at_least_float32(jnp.asarray(second))

        return QuadraticModel(
            value=value,
            grad=jax.jacfwd(loss)(y),
            aux=aux,
            loss=loss,
            loss_and_gradient=lambda y: (loss(y), lambda: jax.jacfwd(loss)(y)),
            slope=lambda u: at_least_float32(slope_at(y, u)),
            curvature=curvature,
        )


class FiniteDifferenceCurvature(AbstractCurvatureMethod):
    r"""The curvature by two more evaluations of the loss,
    $\big(f(y + h u) - 2 f(y) + f(y - h u)\big) / h^2$.

    It is not exact: the error is about $h^2 f'''' / 12 + 4 \epsilon |f| / h^2$. In float32
    a small curvature is lost in rounding, and may come out as zero or with the wrong sign.
    It is provided for comparison, and for losses that have only a gradient.

    **Arguments:**

    - `relative_step`: $\rho$ in $h = \rho \max(\|y\|, 1) / \|u\|$. `None` (the
      default) is $\epsilon^{1/4}$ of the scalars' dtype, which balances the two errors
      where $f$ and $f''''$ are of order one (this project's choice).
    """

    relative_step: OptionalNumber = hyperparameter(None, above=0)

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        def curvature(u: PyTree[Array]) -> Scalar:
            dtype = scalar_dtype(y)
            rho = self.relative_step
            rho = jnp.finfo(dtype).eps ** 0.25 if rho is None else rho.astype(dtype)
            norm = tree_norm(u)
            # A zero `u` has zero curvature; without this it would be 0 / 0.
            h = rho * jnp.maximum(tree_norm(y), 1) / jnp.where(norm > 0, norm, 1)

            def loss(t: Scalar) -> Scalar:
                moved = jtu.tree_map(
                    lambda y, u: at_least_float32(y) + t * at_least_float32(u), y, u
                )
                # `model` is bound below, before anyone can call this.
                return at_least_float32(model.loss(tree_cast(moved, y)))

            return (loss(h) - 2 * at_least_float32(model.value) + loss(-h)) / h**2

        model = QuadraticModel.of_loss(fn, y, args, curvature=curvature)
        return model
