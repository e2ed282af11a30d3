import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import curvopt

from ._conjugate_gradients import solve


class TruncatedNewtonState(eqx.Module):
    """How many products the last step took."""

    products: Int[Array, ""]


class TruncatedNewton(curvopt.AbstractDirection):
    r"""Newton's direction by conjugate gradients, as precisely as it pays: $u$ with
    $\|H u + g\| \leq \eta \|g\|$, $\eta = \min(\eta_0, \sqrt{\|g\|})$.

    Far from a minimum a few products $H u$ suffice, near it the steps become Newton's. The
    iterations end at a vector of negative curvature. Along it $u$ takes the exact step of
    the parabola with the absolute curvature, which leads away from a saddle point; $u$
    always descends.

    The products are those of the curvature method:
    `curvature=curvopt.GaussNewtonCurvature()` makes it the Gauss-Newton method for a loss
    that tags its output, [`curvopt.AdjointCurvature`][] Newton's. The natural step is 1:
    use it with `Backtracking(LearningRate(1.0))`, or `StrongWolfe(LearningRate(1.0))`. It
    has no memory.

    **Arguments:**

    - `iterations`: the largest number of products in a step; static. The cost of a study
        counts as many; where the iterations end sooner the others are not run, except
        under `jax.vmap`.
    - `forcing`: $\eta_0$ in $(0, 1)$. Nocedal & Wright's is 0.5, with which a narrow valley
        takes twice the steps.

    Source: Nocedal & Wright, Numerical Optimization, algorithm 7.1, after Steihaug 1983. It
    does not follow a vector of negative curvature; the absolute curvature is this
    project's.
    """

    iterations: int = curvopt.count(20)
    forcing: curvopt.Number = curvopt.hyperparameter(0.1, above=0, below=1)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> TruncatedNewtonState:
        del y, key
        return TruncatedNewtonState(jnp.array(0, jnp.int32))

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: TruncatedNewtonState
    ) -> tuple[curvopt.Descent, TruncatedNewtonState]:
        del state
        zeros = curvopt.tree_zeros(y)
        wide = lambda x: jax.tree.map(lambda x, w: x.astype(w.dtype), x, zeros)
        grad = wide(model.grad)
        tolerance = jnp.minimum(self.forcing, jnp.sqrt(curvopt.tree_norm(grad)))
        product = lambda u: wide(model.product(u))
        solved = solve(product, grad, tolerance, self.iterations)
        return curvopt.Descent(solved.u), TruncatedNewtonState(solved.products)
