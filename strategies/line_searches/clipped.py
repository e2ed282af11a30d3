import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class Clipped(curvopt.AbstractLineSearch):
    r"""Clips the step sizes of another rule to $[\tau_{\min}, \tau_{\max}]$.

    A step of zero, which `inner` refused to take, stays zero.

    **Arguments:**

    - `inner`: any line search.
    - `min_step_size`, `max_step_size`: $0 \leq \tau_{\min} \leq \tau_{\max}$.

    Source: this project.
    """

    inner: curvopt.AbstractLineSearch
    min_step_size: curvopt.Number = curvopt.hyperparameter(0.0, at_least=0, kw_only=True)
    max_step_size: curvopt.Number = curvopt.hyperparameter(
        float("inf"), above=0, at_least="min_step_size", kw_only=True
    )

    def init(self, y: PyTree[Array]) -> PyTree[Array]:
        return self.inner.init(y)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: PyTree[Array]
    ) -> tuple[Scalar, curvopt.StepInfo, PyTree[Array]]:
        wanted, info, state = self.inner.step(line, count, state)
        clipped = jnp.clip(wanted, self.min_step_size, self.max_step_size)
        step_size = jnp.where(wanted > 0, clipped, wanted)
        limited = curvopt.StepInfo(limited=step_size != wanted)
        return step_size, info.plus(limited), state
