from typing import Any

from jaxtyping import Array, Int, Scalar

import curvopt

from ._armijo import backtrack


class BacktrackingArmijo(curvopt.AbstractLineSearch):
    r"""Armijo's search: the first of $t_0, t_0 \rho, t_0 \rho^2, \dots$ with sufficient
    decrease, $\varphi(t) \leq \varphi(0) + c \, t \, \varphi'(0)$.

    A trial whose loss is not finite is rejected.

    **Arguments:**

    - `initial`: $t_0 > 0$.
    - `backtrack`: $\rho$ in $(0, 1)$.
    - `sufficient`: $c$ in $[0, 1)$.
    - `fallback`: the step size where no trial is accepted, or the direction does not
        descend, at least 0. (Where a value is not finite the step is zero.)
    - `max_trials`: the largest number of trials; static.

    Source: Nocedal & Wright, Numerical Optimization, section 3.1, algorithm 3.1.
    """

    initial: curvopt.Number = curvopt.hyperparameter(1.0, above=0)
    backtrack: curvopt.Number = curvopt.hyperparameter(0.5, above=0, below=1)
    sufficient: curvopt.Number = curvopt.hyperparameter(1e-4, at_least=0, below=1)
    fallback: curvopt.Number = curvopt.hyperparameter(0.0, at_least=0)
    max_trials: int = curvopt.count(50)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, curvopt.StepInfo, None]:
        del count, state
        search = backtrack(
            line,
            self.initial,
            factor=self.backtrack,
            sufficient=self.sufficient,
            fallback=self.fallback,
            max_trials=self.max_trials,
        )
        return search.step_size, search.info, None
