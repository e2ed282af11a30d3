import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt


def rosenbrock(y: Float[Array, " n"], args: None) -> Scalar:
    """Rosenbrock's curved valley, chained: `Σ_i 100 (y_{i+1} - y_i²)² + (1 - y_i)²`. It is
    0 at `(1, ..., 1)`. For two unknowns it is function 1 of Moré, Garbow & Hillstrom, ACM
    Trans. Math. Softw. 7(1), 1981."""
    del args
    return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


class Rosenbrock(curvopt.AbstractProblem):
    r"""Rosenbrock's function (1960), and its chain for more than two unknowns: a curved
    valley, along which the way is long. Deterministic.

    It starts at the classical $(-1.2, 1, -1.2, 1, \dots)$ plus
    $N(0, \mathrm{perturbation}^2)$, by which seeds differ.

    Its metrics are `train_loss` and `distance`, to the minimum $(1, \dots, 1)$. The chain
    of four or more unknowns has a second one, near $(-1, 1, \dots, 1)$.

    **Arguments:**

    - `dimension`: how many unknowns.
    - `perturbation`: the deviation of the start; 0 for the classical one, at which all
        seeds are alike.

    **Raises:**

    `ValueError` if `dimension` is not an integer of at least 2, or `perturbation` is
    negative.
    """

    dimension: int = curvopt.count(2)
    perturbation: curvopt.Number = curvopt.hyperparameter(0.1, at_least=0)

    def __check_init__(self) -> None:
        if self.dimension < 2:
            raise ValueError(f"dimension must be at least 2, but it is {self.dimension}.")

    def init(self, key: PRNGKeyArray) -> tuple[Float[Array, " n"], None]:
        start = jnp.where(jnp.arange(self.dimension) % 2 == 0, -1.2, 1.0)
        return start + self.perturbation * jr.normal(key, start.shape, start.dtype), None

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> None:
        return None

    def loss(
        self, params: Float[Array, " n"], args: tuple[None, PyTree, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[None, curvopt.Metrics]]:
        del args
        return rosenbrock(params, None), (None, {})

    def evaluate(self, params: Float[Array, " n"], model_state: PyTree) -> curvopt.Metrics:
        del model_state
        return {
            "train_loss": rosenbrock(params, None),
            "distance": jnp.linalg.norm(params - 1),
        }

    @property
    def steps_per_epoch(self) -> int:
        """1: every step sees all there is."""
        return 1
