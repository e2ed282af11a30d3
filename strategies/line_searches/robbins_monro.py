from typing import Any

from jaxtyping import Array, Int, Scalar

import curvopt


class RobbinsMonro(curvopt.AbstractLineSearch):
    r"""Robbins and Monro's steps, whose sum is infinite and whose sum of squares is finite:
    $\tau_k = \tau_0 (k + 1)^{-\alpha}$, $k = 0, 1, \dots$

    **Arguments:**

    - `initial`: $\tau_0 > 0$.
    - `exponent`: $\alpha$ in $(1/2, 1]$.

    Source: Robbins & Monro 1951.
    """

    initial: curvopt.Number = curvopt.hyperparameter(above=0)
    exponent: curvopt.Number = curvopt.hyperparameter(1.0, above=0.5, at_most=1)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, curvopt.StepInfo, None]:
        del line, state
        step_size = self.initial * (count + 1.0) ** -self.exponent
        return step_size, curvopt.StepInfo(), None
