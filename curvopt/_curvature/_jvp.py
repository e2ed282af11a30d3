import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, Scalar

from .._tree import at_least_float32
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel


class JvpCurvature(AbstractCurvatureMethod):
    r"""Everything by forward mode of the whole loss: the gradient by one `jvp` for each
    parameter, the curvature by a `jvp` of a `jvp`.

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
            slope=lambda u: at_least_float32(slope_at(y, u)),
            curvature=curvature,
        )
