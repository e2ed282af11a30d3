from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .._tree import tree_dot
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel
from ._refs import value_and_grad
from ._report import CurvatureReport


class HvpCurvature(AbstractCurvatureMethod):
    r"""The curvature by a whole Hessian-vector product, $\langle u, H u \rangle$ with
    $H u$ = `jvp(grad(f))` (Pearlmutter 1994).

    Exact, and what most code does: the baseline that the others are measured against.

    **Raises:**

    `TypeError` from jax for a loss that contains a `jax.custom_vjp`.
    """

    def model(self, fn: Loss, y: PyTree[Array], args: PyTree) -> QuadraticModel:
        (value, aux), grad = value_and_grad(fn, y, args)

        def product(u: PyTree[Array]) -> PyTree[Array]:
            return jax.jvp(jax.grad(lambda y: fn(y, args)[0]), (y,), (u,))[1]

        def matrix(us: Sequence[PyTree[Array]]) -> Array:
            products = [product(u) for u in us]
            return jnp.stack([jnp.stack([tree_dot(u, p) for p in products]) for u in us])

        return QuadraticModel(
            value=value,
            grad=grad,
            aux=aux,
            _loss=lambda y: fn(y, args)[0],
            _slope=lambda u: tree_dot(grad, u),
            _curvature=lambda u: tree_dot(u, product(u)),
            _matrix=matrix,
            _report=lambda: CurvatureReport((), type(self).__name__),
        )
