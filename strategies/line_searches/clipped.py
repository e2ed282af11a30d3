import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class Clipped(curvopt.AbstractLineSearch):
    r"""Keeps the steps of another rule within $[\tau_{\min}, \tau_{\max}]$. A step of zero,
    which `inner` refused to take, stays zero.

    **Arguments:**

    - `inner`: any line search.
    - `min_step_size`, `max_step_size`: $0 \leq \tau_{\min} \leq \tau_{\max}$.

    This project's.
    """

    inner: curvopt.AbstractLineSearch
    min_step_size: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=0.0)
    max_step_size: Scalar = eqx.field(
        converter=curvopt.as_hyperparameter, default=float("inf")
    )

    def __check_init__(self) -> None:
        curvopt.check_instance("inner", self.inner, curvopt.AbstractLineSearch)
        curvopt.check_range("min_step_size", self.min_step_size, at_least=0)
        curvopt.check_range(
            "max_step_size", self.max_step_size, above=0, at_least=self.min_step_size
        )

    def init(self, y: PyTree[Array]) -> PyTree[Array]:
        return self.inner.init(y)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: PyTree[Array]
    ) -> tuple[Scalar, curvopt.StepInfo, PyTree[Array]]:
        wanted, info, state = self.inner.step(line, count, state)
        clipped = jnp.clip(wanted, self.min_step_size, self.max_step_size)
        step_size = jnp.where(wanted > 0, clipped, wanted)
        limited = curvopt.Guards(limited=step_size != wanted)
        return step_size, info.plus(guards=limited), state
