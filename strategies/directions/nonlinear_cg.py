import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt


class NonlinearCGState(eqx.Module):
    """The last gradient and the last direction; both zero at the start."""

    grad: PyTree[Array]
    direction: PyTree[Array]


class NonlinearCG(curvopt.AbstractDirection):
    r"""Nonlinear conjugate gradients, Polak-Ribière+ with restarts:
    $u = -g + \beta u_{prev}$, $\beta = \max(\langle g, g - g_{prev} \rangle, 0) /
    \|g_{prev}\|^2$.

    It restarts with $u = -g$ where $u$ would not descend, and where two consecutive
    gradients are far from orthogonal, $|\langle g, g_{prev} \rangle| \geq \nu \|g\|^2$. On
    a quadratic with exact steps it is the method of conjugate gradients. Its memory *is*
    the direction: the fresh part is the direction.

    **Arguments:**

    - `restart`: $\nu > 0$; infinity (the default) leaves only the first kind of restart.
        Powell's choice is 0.1 to 0.2; it did not lower the median cost on the problems of
        `python -m experiments deterministic`.

    Source: Nocedal & Wright, Numerical Optimization, section 5.2.
    """

    restart: curvopt.Number = curvopt.hyperparameter(float("inf"), above=0)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> NonlinearCGState:
        del key
        zeros = curvopt.tree_zeros(y)
        return NonlinearCGState(zeros, zeros)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: NonlinearCGState
    ) -> tuple[curvopt.Descent, NonlinearCGState]:
        del y
        grad = jax.tree.map(lambda g, old: g.astype(old.dtype), model.grad, state.grad)
        squared, previous = (curvopt.tree_dot(g, g) for g in (grad, state.grad))
        overlap = curvopt.tree_dot(grad, state.grad)
        # The last gradient is zero at the start, and may be at convergence.
        beta = curvopt.safe_divide(jnp.maximum(squared - overlap, 0), previous)
        far = jnp.abs(overlap) >= self.restart * squared
        slope = -squared + beta * curvopt.tree_dot(grad, state.direction)
        # An overflow restarts as well.
        usable = jnp.isfinite(slope) & jnp.isfinite(beta)
        keep = usable & (slope < 0) & ~(far & (squared > 0))
        direction = jax.tree.map(
            lambda g, u: -g + jnp.where(keep, beta * u, 0).astype(g.dtype),
            grad,
            state.direction,
        )
        return curvopt.Descent(direction), NonlinearCGState(grad, direction)
