import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt


class LastStep(curvopt.AbstractDirection):
    r"""The last step, $u_k = y_k - y_{k-1}$; zero at the first step.

    By itself it never starts to move: it is a part of other directions. Together with the
    gradient in [`strategies.HyperplaneSearch`][] it is heavy-ball momentum, whose
    coefficient the plane's Newton system chooses.

    Source: Polyak 1964.
    """

    @property
    def reads_gradient(self) -> bool:
        return False

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> PyTree[Array]:
        del key
        return jax.tree.map(jnp.asarray, y)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: PyTree[Array]
    ) -> tuple[curvopt.Descent, PyTree[Array]]:
        del model
        return curvopt.Descent(jax.tree.map(jnp.subtract, y, state)), y
