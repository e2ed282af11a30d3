import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Scalar

from ._curvature import QuadraticModel
from ._tree import at_least_float32, tree_cast


class Line(eqx.Module):
    r"""The loss along one vector $u$, $\varphi(t) = f(y + t u)$: all a line search sees.

    Under `jax.jit` a search pays only for what it reads. All evaluations use the same data
    and the same randomness.

    **Attributes:**

    - `y`: the start of the line, a pytree of floating-point arrays.
    - `u`: the vector along the line, a pytree like `y`.
    """

    y: PyTree[Array]
    u: PyTree[Array]
    _fresh: PyTree[Array]
    _model: QuadraticModel

    @property
    def value(self) -> Scalar:
        r"""$\varphi(0)$, the loss at `y`, in float32 or wider. Already paid for."""
        return at_least_float32(self._model.value)

    @property
    def grad(self) -> PyTree[Array]:
        """The gradient at `y`, a pytree like `y`. Paid for once."""
        return self._model.grad

    @property
    def slope(self) -> Scalar:
        r"""$\varphi'(0) = \langle g, u \rangle$; negative for descent. One inner product
        (one `jvp` with [`curvopt.ForwardCurvature`][])."""
        return self._model.slope(self.u)

    def curvature(self) -> Scalar:
        r"""$\varphi''(0) = \langle u, H u \rangle$. One sweep of the curvature method."""
        return self._model.curvature(self.u)

    @property
    def fresh(self) -> "Line":
        """The line along the fresh part of `u`, which this gradient alone contributes (see
        [`curvopt.Descent`][])."""
        return self.along(self._fresh)

    def along(self, u: PyTree[Array]) -> "Line":
        """The line from `y` along another vector, a pytree like `y`."""
        return Line(self.y, u, u, self._model)

    def point(self, t: Scalar) -> PyTree[Array]:
        """$y + t u$, computed in float32 or wider and cast back to the dtypes of `y`; at
        $t = 0$ it is `y` itself, even if `u` is not finite."""
        moved = jtu.tree_map(
            lambda y, u: (
                at_least_float32(y) + jnp.where(t == 0, 0, t * at_least_float32(u))
            ),
            self.y,
            self.u,
        )
        return tree_cast(moved, self.y)

    def at(self, t: Scalar) -> Scalar:
        r"""$\varphi(t)$. One evaluation of the loss."""
        return at_least_float32(self._model.loss(self.point(t)))

    def slope_at(self, t: Scalar) -> Scalar:
        r"""$\varphi'(t)$. One `jvp` of the loss."""
        u = tree_cast(self.u, self.y)
        return at_least_float32(jax.jvp(self._model.loss, (self.point(t),), (u,))[1])

    def grad_at(self, t: Scalar) -> PyTree[Array]:
        """The gradient at `point(t)`. One gradient of the loss."""
        return jax.grad(self._model.loss)(self.point(t))
