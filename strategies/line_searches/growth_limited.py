import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from .._hindsight import first_step_size


class GrowthLimitedState(eqx.Module):
    """The last positive step size (zero before the first), and the inner state."""

    last: Scalar
    inner: PyTree[Array]


class GrowthLimited(curvopt.AbstractLineSearch):
    r"""Limits how fast the step sizes of another rule grow: $\tau_k \leq \gamma \,
    \tau_{k-1}$, and the first step moves the parameters by at most a fraction of their
    norm, $\tau_0 \|u_0\| \leq \rho \|y_0\|$ (of 1, where the parameters are zero).

    It is for rules that divide by a curvature, which may vanish: at the initialisation of
    a network the first step would be far too long, and the run might not recover.

    **Arguments:**

    - `inner`: any line search.
    - `factor`: $\gamma \geq 1$.
    - `first`: $\rho > 0$; `None` does not limit the first step.

    Source: this project.
    """

    inner: curvopt.AbstractLineSearch
    factor: curvopt.Number = curvopt.hyperparameter(1.1, at_least=1)
    first: curvopt.OptionalNumber = curvopt.hyperparameter(1e-3, above=0, optional=True)

    def init(self, y: PyTree[Array]) -> GrowthLimitedState:
        zero = jnp.zeros((), curvopt.scalar_dtype(y))
        return GrowthLimitedState(zero, self.inner.init(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: GrowthLimitedState
    ) -> tuple[Scalar, curvopt.StepInfo, GrowthLimitedState]:
        wanted, info, inner = self.inner.step(line, count, state.inner)
        bound = jnp.where(state.last > 0, self.factor * state.last, self._first(line))
        step_size = jnp.minimum(wanted, bound)
        limited = curvopt.StepInfo(limited=step_size < wanted)
        last = jnp.where(step_size > 0, step_size, state.last)
        return step_size, info.plus(limited), GrowthLimitedState(last, inner)

    def _first(self, line: curvopt.Line) -> Scalar:
        if self.first is None:
            return jnp.array(jnp.inf)
        return first_step_size(line.y, line.u, self.first)
