from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, PyTree, Scalar

from ._curvature import QuadraticModel
from ._tree import at_least_float32, scalar_dtype, tree_cast, tree_dot


def not_measured() -> float:
    """The placeholder for a number that was not measured: nan, or infinity if
    `jax_debug_nans` is on, which raises on any nan."""
    forbidden = jax.config.jax_debug_nans  # pyright: ignore[reportAttributeAccessIssue]
    return jnp.inf if forbidden else jnp.nan


class Trial(eqx.Module):
    r"""What is known at one point of a line.

    **Attributes:**

    - `step_size`: $t$.
    - `value`: $\varphi(t)$, in float32 or wider.
    - `slope`: $\varphi'(t)$; `nan` where the gradient was not wanted (infinity if
        `jax_debug_nans` forbids nan).
    - `grad`: the gradient at $y + t u$, a pytree like `y`; zero where it was not wanted.
    """

    step_size: Scalar
    value: Scalar
    slope: Scalar
    grad: PyTree[Array]


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
        _, gradient = self._model.loss_and_gradient(self.point(t))
        return gradient()

    @property
    def start(self) -> Trial:
        """What is known at $t = 0$. Already paid for."""
        zero = jnp.zeros((), scalar_dtype(self.y))
        return Trial(zero, self.value.astype(zero.dtype), self.slope, self.grad)

    def trial(
        self, t: Scalar, wanted: Callable[[Scalar], Bool[Array, ""]] | None = None
    ) -> Trial:
        r"""The loss at `point(t)`, and its gradient there if the loss is a good one. One
        gradient of the loss where it is wanted, else one loss.

        Under `jax.vmap` of the line both sweeps always run.

        **Arguments:**

        - `t`: the step size.
        - `wanted`: from $\varphi(t)$ to whether the gradient is wanted; `None`: always.
        """
        start = self.start
        t = jnp.asarray(t, start.step_size.dtype)
        loss, gradient = self._model.loss_and_gradient(self.point(t))
        value = at_least_float32(loss).astype(start.value.dtype)

        def onward() -> tuple[PyTree[Array], Scalar]:
            grad = tree_cast(gradient(), start.grad)
            return grad, tree_dot(grad, self.u).astype(start.slope.dtype)

        def no_further() -> tuple[PyTree[Array], Scalar]:
            zeros = jtu.tree_map(jnp.zeros_like, start.grad)
            return zeros, jnp.full_like(start.slope, not_measured())

        if wanted is None:
            grad, slope = onward()
        else:
            grad, slope = jax.lax.cond(wanted(value), onward, no_further)
        return Trial(t, value, slope, grad)

    @property
    def rounding(self) -> Scalar:
        r"""The size of a rounding error in $\varphi(0)$: the machine epsilon of the loss's
        dtype times $|\varphi(0)|$. Smaller differences of losses mean nothing."""
        return jnp.finfo(self._model.value.dtype).eps * jnp.abs(self.value)
