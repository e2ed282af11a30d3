from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class Scheduled(curvopt.AbstractLineSearch):
    r"""The step sizes of another rule times a schedule, $\tau_k = s(k) \, \tau^{inner}_k$.

    **Arguments:**

    - `inner`: any line search.
    - `schedule`: $s \geq 0$, a function of the step count (any optax schedule) with peak
        1. Static: each schedule is compiled separately.

    Source: this project.
    """

    inner: curvopt.AbstractLineSearch
    schedule: curvopt.Schedule = curvopt.schedule()

    def init(self, y: PyTree[Array]) -> PyTree[Array]:
        return self.inner.init(y)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: PyTree[Array]
    ) -> tuple[Scalar, curvopt.StepInfo, PyTree[Array]]:
        step_size, info, state = self.inner.step(line, count, state)
        return self.schedule(count) * step_size, info, state
