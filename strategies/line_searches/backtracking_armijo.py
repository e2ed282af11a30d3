from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._armijo import backtrack


class BacktrackingArmijo(curvopt.AbstractLineSearch):
    r"""The first of $t_0, t_0 \rho, t_0 \rho^2, \dots$ with sufficient decrease,
    $\varphi(t) \leq \varphi(0) + c \, t \, \varphi'(0)$.

    A trial whose loss is not finite is a rejected one.

    **Arguments:**

    - `initial`: $t_0 > 0$.
    - `backtrack`: $\rho$ in $(0, 1)$.
    - `sufficient`: $c$ in $[0, 1)$.
    - `fallback`: the step where no trial is accepted, or the direction is not one of
        descent, at least 0. (Where something is not finite the step is zero.)
    - `max_trials`: how many trials at most; static.

    Source: Nocedal & Wright, Numerical Optimization, section 3.1, algorithm 3.1
    (recalled).
    """

    initial: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=1.0)
    backtrack: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=0.5)
    sufficient: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=1e-4)
    fallback: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=0.0)
    max_trials: int = eqx.field(static=True, default=50)

    def __check_init__(self) -> None:
        curvopt.check_range("initial", self.initial, above=0)
        curvopt.check_range("backtrack", self.backtrack, above=0, below=1)
        curvopt.check_range("sufficient", self.sufficient, at_least=0, below=1)
        curvopt.check_range("fallback", self.fallback, at_least=0)
        curvopt.check_count("max_trials", self.max_trials)

    def init(self, y: PyTree[Array]) -> None:
        del y

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
        info = curvopt.StepInfo(
            slope=line.slope, losses=search.trials, guards=search.guards
        )
        return search.step_size, info, None
