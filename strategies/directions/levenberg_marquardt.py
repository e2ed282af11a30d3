import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from ._conjugate_gradients import solve


class LevenbergMarquardtState(eqx.Module):
    r"""$\lambda$ and the factor of its next growth; where the last step began, with what
    the model along its direction needs; and how many products it took."""

    count: Int[Array, ""]
    damping: Scalar
    growth: Scalar
    y: PyTree[Array]
    u: PyTree[Array]
    value: Scalar
    slope: Scalar
    curvature: Scalar
    products: Int[Array, ""]


class LevenbergMarquardt(curvopt.AbstractDirection):
    r"""The damped Gauss-Newton direction, $(G + \lambda I) u = -g$.

    $\lambda$ follows the ratio $\rho$ of the decrease that the last step made to the one
    that the quadratic model promised:
    $\lambda^+ = \lambda \max(1/3,\, 1 - (2 \rho - 1)^3)$ where $\rho > 0$, and otherwise
    $\lambda^+ = \nu \lambda$ with $\nu = 2, 4, 8, \dots$ while it lasts. It also shrinks
    steps that a line search would have to shorten.

    $G$ is that of the curvature method: with `curvature=curvopt.GaussNewtonCurvature()`,
    for a loss that tags its output, $G = J^\top \nabla^2 L \, J$, which for a sum of
    squares is Levenberg & Marquardt's; with another method it is the Hessian, and the
    direction a damped Newton's. The equations are solved by conjugate gradients, so that
    $G$ is never formed. The natural step is 1: use it with
    `Backtracking(LearningRate(1.0))`, which keeps it from climbing. Its memory is
    $\lambda$ only: the fresh part is the direction.

    **Arguments:**

    - `iterations`: the largest number of products in a step; static. See
        [`strategies.TruncatedNewton`][] for their cost.
    - `damping`: the first $\lambda$, above 0.
    - `precision`: the relative size of the residual at which the iterations end, in
        $(0, 1)$.

    Source: Nielsen, *Damping parameter in Marquardt's method*, IMM-REP-1999-05, 1999, for
    $\lambda$; Nocedal & Wright, Numerical Optimization, section 10.3.
    """

    iterations: int = curvopt.count(50)
    damping: curvopt.Number = curvopt.hyperparameter(1e-3, above=0)
    precision: curvopt.Number = curvopt.hyperparameter(1e-3, above=0, below=1)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> LevenbergMarquardtState:
        del key
        zeros, zero = curvopt.tree_zeros(y), jnp.zeros((), curvopt.scalar_dtype(y))
        none = jnp.array(0, jnp.int32)
        return LevenbergMarquardtState(
            none, zero + self.damping, zero + 2, zeros, zeros, zero, zero, zero, none
        )

    def step(
        self,
        model: curvopt.QuadraticModel,
        y: PyTree[Array],
        state: LevenbergMarquardtState,
    ) -> tuple[curvopt.Descent, LevenbergMarquardtState]:
        wide = lambda x: jax.tree.map(lambda x, w: x.astype(w.dtype), x, state.y)
        y, grad, dtype = wide(y), wide(model.grad), state.value.dtype
        value = model.value.astype(dtype)
        damping, growth = self._damping(y, value, state)
        product = lambda u: jax.tree.map(
            lambda image, u: image + damping.astype(u.dtype) * u, wide(model.product(u)), u
        )
        solved = solve(product, grad, self.precision, self.iterations)
        u = solved.u
        new = LevenbergMarquardtState(
            count=state.count + 1,
            damping=damping,
            growth=growth,
            y=y,
            u=u,
            value=value,
            slope=curvopt.tree_dot(grad, u).astype(dtype),
            # Without the damping: what the loss is expected to do.
            curvature=(solved.curvature - damping * curvopt.tree_dot(u, u)).astype(dtype),
            products=solved.products,
        )
        return curvopt.Descent(u), new

    def _damping(
        self,
        y: PyTree[Array],
        value: Scalar,
        state: LevenbergMarquardtState,
    ) -> tuple[Scalar, Scalar]:
        """The damping for this step, and the factor of its next growth."""
        dtype = state.damping.dtype
        moved = jax.tree.map(jnp.subtract, y, state.y)
        t = curvopt.safe_divide(curvopt.tree_norm(moved), curvopt.tree_norm(state.u))
        promised = -(t * state.slope + t**2 / 2 * state.curvature)
        ratio = curvopt.safe_divide(state.value - value, promised)
        good = (ratio > 0) & (promised > 0) & jnp.isfinite(ratio)
        shrunk = jnp.maximum(1 / 3, 1 - (2 * jnp.clip(ratio, 0, 1) - 1) ** 3)
        factor = jnp.where(good, shrunk, state.growth)
        grown = jnp.where(good, 2, 2 * state.growth).astype(dtype)
        # Neither may overflow, or vanish, in a run that stands still.
        limits = jnp.finfo(dtype)
        damping = jnp.clip(state.damping * factor, limits.tiny, 1 / limits.tiny)
        is_first = state.count == 0
        return (
            jnp.where(is_first, state.damping, damping).astype(dtype),
            jnp.where(is_first, state.growth, jnp.minimum(grown, 1 / limits.eps)),
        )
