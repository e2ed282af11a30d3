from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

import curvopt


class SGD(curvopt.AbstractDirection):
    """Steepest descent, $u = -g$."""

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[curvopt.Descent, None]:
        del y, state
        return curvopt.Descent(jax.tree.map(jnp.negative, model.grad)), None
