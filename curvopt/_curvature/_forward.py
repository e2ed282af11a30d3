import jax
from jaxtyping import Array, PyTree, Scalar

from .._tree import at_least_float32
from ._model import AbstractCurvatureMethod, ClosedLoss, QuadraticModel


class ForwardCurvature(AbstractCurvatureMethod):
    r"""The curvature by second-order forward mode: $\ddot z$ of $t \mapsto f(y + t u)$.

    Exact, and keeps nothing: the memory of the curvature is that of an evaluation.
    Slope and curvature need no gradient: under `jax.jit`, a direction which never reads
    `model.grad` runs no backward sweep (though the loss must have one); the slope is then
    one `jvp`, shared with the curvature where both are asked for.

    **Raises:**

    `TypeError` from jax for a loss that contains a `jax.custom_vjp`, which has no
    forward mode: use [`curvopt.AdjointCurvature`][] there.
    """

    def model(self, fn: ClosedLoss, y: PyTree[Array]) -> QuadraticModel:
        (value, aux), grad = jax.value_and_grad(fn, has_aux=True)(y)

        def slope_at(y: PyTree[Array], u: PyTree[Array]) -> Scalar:
            return jax.jvp(lambda y: fn(y)[0], (y,), (u,))[1]

        def slope(u: PyTree[Array]) -> Scalar:
            return at_least_float32(slope_at(y, u))

        def curvature(u: PyTree[Array]) -> Scalar:
            return at_least_float32(jax.jvp(lambda y: slope_at(y, u), (y,), (u,))[1])

        return QuadraticModel(value, grad, aux, slope, curvature)
