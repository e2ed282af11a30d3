from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class RobbinsMonro(curvopt.AbstractLineSearch):
    r"""Steps that sum to infinity while their squares do not,
    $\tau_k = \tau_0 (k + 1)^{-\alpha}$, $k = 0, 1, \dots$

    **Arguments:**

    - `initial`: $\tau_0 > 0$.
    - `exponent`: $\alpha$ in $(1/2, 1]$.

    Source: Robbins & Monro 1951 (recalled).
    """

    initial: Scalar = eqx.field(converter=curvopt.as_hyperparameter)
    exponent: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=1.0)

    def __check_init__(self) -> None:
        curvopt.check_range("initial", self.initial, above=0)
        curvopt.check_range("exponent", self.exponent, above=0.5, at_most=1)

    def init(self, y: PyTree[Array]) -> None:
        del y

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, curvopt.StepInfo, None]:
        del line, state
        step_size = self.initial * (count + 1.0) ** -self.exponent
        return step_size, curvopt.StepInfo(), None
