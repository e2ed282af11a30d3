from typing import Any

from jaxtyping import Array, Int, Scalar

import curvopt


class LearningRate(curvopt.AbstractLineSearch):
    r"""A learning rate chosen in advance, $\tau_k = \ell \, s(k)$.

    **Arguments:**

    - `learning_rate`: $\ell \geq 0$.
    - `schedule`: $s$, a function of the step count (any optax schedule) with peak 1;
        `None` is constant. Rates that share a schedule share a compiled program; a schedule
        for each rate would be compiled for each.
    """

    learning_rate: curvopt.Number = curvopt.hyperparameter(at_least=0)
    schedule: curvopt.Schedule | None = curvopt.schedule(None)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, curvopt.StepInfo, None]:
        del line, state
        factor = 1 if self.schedule is None else self.schedule(count)
        return self.learning_rate * factor, curvopt.StepInfo(), None
