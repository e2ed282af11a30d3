import jax
from jaxtyping import Array, PyTree, Scalar

from .._tree import tree_dot
from ._model import AbstractCurvatureMethod, ClosedLoss, QuadraticModel


class HvpCurvature(AbstractCurvatureMethod):
    r"""The curvature by a whole Hessian-vector product, $\langle u, H u \rangle$ with
    $H u$ = `jvp(grad(f))` (Pearlmutter 1994).

    Exact, and what most code does: the baseline that the others are measured against.

    **Raises:**

    `TypeError` from jax for a loss that contains a `jax.custom_vjp`.
    """

    def model(self, fn: ClosedLoss, y: PyTree[Array]) -> QuadraticModel:
        (value, aux), grad = jax.value_and_grad(fn, has_aux=True)(y)

        def curvature(u: PyTree[Array]) -> Scalar:
            product = jax.jvp(jax.grad(lambda y: fn(y)[0]), (y,), (u,))[1]
            return tree_dot(u, product)

        return QuadraticModel(value, grad, aux, lambda u: tree_dot(grad, u), curvature)
