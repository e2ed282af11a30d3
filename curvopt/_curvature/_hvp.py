from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._tree import tree_dot
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel


class HvpCurvature(AbstractCurvatureMethod):
    r"""The curvature by a whole Hessian-vector product, $\langle u, H u \rangle$ with
    $H u$ = `jvp(grad(f))` (Pearlmutter 1994).

    Exact, and what most code does: the baseline that the others are measured against.

    **Raises:**

    `TypeError` from jax for a loss that contains a `jax.custom_vjp`.
    """

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        def product(u: PyTree[Array]) -> PyTree[Array]:
            return jax.jvp(jax.grad(lambda y: fn(y, args)[0]), (y,), (u,))[1]

        def matrix(us: Sequence[PyTree[Array]]) -> Array:
            products = [product(u) for u in us]
            return jnp.stack([jnp.stack([tree_dot(u, p) for p in products]) for u in us])

        curvature = lambda u: tree_dot(u, product(u))
        return QuadraticModel.of_loss(
            fn, y, args, curvature=curvature, curvature_matrix=matrix
        )
