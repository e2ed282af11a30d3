from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

import curvopt


class Tracked(curvopt.AbstractProblem):
    """A problem with one more metric, `distance`: the Euclidean distance of the parameters
    from their initial values.

    **Arguments:**

    - `problem`: the problem, otherwise unchanged.
    """

    problem: curvopt.AbstractProblem

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree]:
        params, state = self.problem.init(key)
        return params, (state, params)

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> PyTree[Array]:
        return self.problem.batch(key, count)

    @property
    def host_data(self) -> curvopt.HostData | None:
        return self.problem.host_data

    def loss(
        self, params: PyTree[Array], args: tuple[PyTree, Any, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[PyTree, curvopt.Metrics]]:
        data, (state, start), key = args
        loss, (state, metrics) = self.problem.loss(params, (data, state, key))
        return loss, ((state, start), metrics)

    def evaluate(self, params: PyTree[Array], model_state: Any) -> curvopt.Metrics:
        state, start = model_state
        distance = curvopt.tree_norm(jax.tree.map(jnp.subtract, params, start))
        return {**self.problem.evaluate(params, state), "distance": distance}

    @property
    def steps_per_epoch(self) -> int:
        return self.problem.steps_per_epoch
