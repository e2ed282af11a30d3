import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Scalar

from .._declared import hyperparameter, OptionalNumber
from .._tree import (
    at_least_float32,
    scalar_dtype,
    tree_cast,
    tree_norm,
)
from ._model import AbstractCurvatureMethod, Loss, QuadraticModel


class FiniteDifferenceCurvature(AbstractCurvatureMethod):
    r"""The curvature by two more losses,
    $\big(f(y + h u) - 2 f(y) + f(y - h u)\big) / h^2$.

    Not exact: the error is about $h^2 f'''' / 12 + 4 \epsilon |f| / h^2$, so that in
    float32 a small curvature drowns in rounding, and may come out as zero or with the
    wrong sign. It is here as a rival.

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
            # A zero direction has zero curvature; without this it would be 0 / 0.
            h = rho * jnp.maximum(tree_norm(y), 1) / jnp.where(norm > 0, norm, 1)

            def loss(t: Scalar) -> Scalar:
                moved = jtu.tree_map(
                    lambda y, u: at_least_float32(y) + t * at_least_float32(u), y, u
                )
                return at_least_float32(model.loss(tree_cast(moved, y)))

            return (loss(h) - 2 * at_least_float32(model.value) + loss(-h)) / h**2

        model = QuadraticModel.of_loss(fn, y, args, curvature=curvature)
        return model
