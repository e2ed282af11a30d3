import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class SmoothedState(eqx.Module):
    """The average of the step sizes and its weight, both zero at the start, and the inner
    state."""

    average: Scalar
    weight: Scalar
    inner: PyTree[Array]


class Smoothed(curvopt.AbstractLineSearch):
    r"""The exponential average of the step sizes of another rule,
    $a^+ = \beta a + (1 - \beta) \tau$, corrected for its start at zero.

    It averages the *step sizes*; the field `average` of the curvature rules averages slope
    and curvature separately, which a single small curvature disturbs less. A step of zero,
    which `inner` refused to take, stays zero and does not enter the average.

    **Arguments:**

    - `inner`: any line search.
    - `decay`: $\beta$ in $[0, 1)$.

    Source: this project.
    """

    inner: curvopt.AbstractLineSearch
    decay: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)

    def init(self, y: PyTree[Array]) -> SmoothedState:
        zero = jnp.zeros((), curvopt.scalar_dtype(y))
        return SmoothedState(zero, zero, self.inner.init(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: SmoothedState
    ) -> tuple[Scalar, curvopt.StepInfo, SmoothedState]:
        wanted, info, inner = self.inner.step(line, count, state.inner)
        taken = wanted > 0
        add = lambda old, new: jnp.where(
            taken, self.decay * old + (1 - self.decay) * new, old
        )
        average, weight = add(state.average, wanted), add(state.weight, 1)
        step_size = jnp.where(taken, average / jnp.where(taken, weight, 1), 0)
        return step_size, info, SmoothedState(average, weight, inner)
