import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt


class NoisyQuadratic(curvopt.AbstractProblem):
    r"""A quadratic with noise in its gradient: what mini-batches look like near a minimum.

    $$f_k(y) = \tfrac12 \sum_i \lambda_i y_i^2 + \langle \xi_k, y \rangle, \qquad
    \xi_k \sim N(0, \sigma^2 \Lambda),$$

    with new noise $\xi_k$ at every step, and eigenvalues from `1 / condition` to 1, evenly
    spaced by their logarithms. The gradient is noisier where the curvature is larger, as
    it is for a likelihood, whose gradients have the Hessian as covariance at the optimum.
    The Hessian has no noise. The start is random, $y_0 \sim N(0, 2 / \sum_i \lambda_i)$:
    the expected loss there is 1.

    Models of this kind are in Schaul, Zhang & LeCun (2013) and Zhang et al. (2019,
    arXiv 1907.04164); eigenvalues and start are this project's.

    Its metrics are `train_loss`, the loss without noise, and `distance`, to the minimum
    $y = 0$.

    **Arguments:**

    - `dimension`: how many unknowns.
    - `condition`: the largest over the smallest eigenvalue.
    - `noise`: $\sigma$; 0 for a deterministic problem.
    - `white`: with `True`, noise of the same size in all directions,
        $\xi_k \sim N(0, \sigma^2 I)$.

    **Raises:**

    `ValueError` if `dimension` is not a count, `condition` is below 1, or `noise` is
    negative.
    """

    eigenvalues: Float[Array, " n"]
    deviations: Float[Array, " n"]

    def __init__(
        self,
        dimension: int = 100,
        condition: float = 100.0,
        noise: float = 0.0,
        white: bool = False,
    ):
        curvopt.check_count("dimension", dimension)
        curvopt.check_range("condition", condition, at_least=1)
        curvopt.check_range("noise", noise, at_least=0)
        eigenvalues = np.geomspace(1 / condition, 1, dimension)
        scales = np.ones(dimension) if white else np.sqrt(eigenvalues)
        self.eigenvalues = jnp.asarray(eigenvalues, float)
        self.deviations = jnp.asarray(noise * scales, float)

    def init(self, key: PRNGKeyArray) -> tuple[Float[Array, " n"], None]:
        normal = jr.normal(key, self.eigenvalues.shape, self.eigenvalues.dtype)
        return normal * jnp.sqrt(2 / self.eigenvalues.sum()), None

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> Float[Array, " n"]:
        """The noise of a step."""
        scales = self.deviations
        return scales * jr.normal(jr.fold_in(key, count), scales.shape, scales.dtype)

    def _noiseless(self, params: Float[Array, " n"]) -> Scalar:
        return jnp.sum(self.eigenvalues * params**2) / 2

    def loss(
        self,
        params: Float[Array, " n"],
        args: tuple[Float[Array, " n"], PyTree, PRNGKeyArray],
    ) -> tuple[Scalar, tuple[None, curvopt.Metrics]]:
        noise, _, _ = args
        return self._noiseless(params) + noise @ params, (None, {})

    def evaluate(self, params: Float[Array, " n"], model_state: PyTree) -> curvopt.Metrics:
        del model_state
        return {
            "train_loss": self._noiseless(params),
            "distance": jnp.linalg.norm(params),
        }

    @property
    def steps_per_epoch(self) -> int:
        """1: every step has noise of its own."""
        return 1
