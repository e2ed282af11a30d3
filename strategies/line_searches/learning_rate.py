from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class LearningRate(curvopt.AbstractLineSearch):
    r"""A learning rate chosen in advance, $\tau_k = \ell \, s(k)$.

    **Arguments:**

    - `learning_rate`: $\ell \geq 0$.
    - `schedule`: $s$, a function of the step count (any optax schedule) with peak 1;
        `None` is constant. Two rates with one schedule share a compiled program; one
        schedule for each rate would not.
    """

    learning_rate: Scalar = eqx.field(converter=curvopt.as_hyperparameter)
    schedule: Callable[[Int[Array, ""]], Any] | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        curvopt.check_range("learning_rate", self.learning_rate, at_least=0)
        curvopt.check_schedule(self.schedule)

    def init(self, y: PyTree[Array]) -> None:
        del y

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, curvopt.StepInfo, None]:
        del line, state
        factor = 1 if self.schedule is None else self.schedule(count)
        return self.learning_rate * factor, curvopt.StepInfo(), None
