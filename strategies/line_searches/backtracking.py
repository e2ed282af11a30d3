from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._armijo import backtrack


class Backtracking(curvopt.AbstractLineSearch):
    r"""Armijo's search, started from the step size of another rule: the first of
    $t_0, t_0 \rho, t_0 \rho^2, \dots$ with $\varphi(t) \leq \varphi(0) + c \, t \,
    \varphi'(0)$, where $t_0$ is the step size of `inner`.

    With [`strategies.CurvatureRescaling`][] it makes the exact step of the parabola safe:
    where the parabola is a good model, as near a minimum, the first trial is accepted and
    costs one loss. A trial whose loss is not finite is rejected. A step of zero, which
    `inner` refused to take, stays zero.

    **Arguments:**

    - `inner`: any line search.
    - `backtrack`: $\rho$ in $(0, 1)$.
    - `sufficient`: $c$ in $[0, 1)$.
    - `fallback`: the step size where no trial is accepted, or the direction does not
        descend, at least 0. (Where a value is not finite the step is zero.)
    - `max_trials`: the largest number of trials; static.

    Source: Nocedal & Wright, Numerical Optimization, section 3.1; the composition is this
    project's.
    """

    inner: curvopt.AbstractLineSearch
    backtrack: curvopt.Number = curvopt.hyperparameter(0.5, above=0, below=1)
    sufficient: curvopt.Number = curvopt.hyperparameter(1e-4, at_least=0, below=1)
    fallback: curvopt.Number = curvopt.hyperparameter(0.0, at_least=0)
    max_trials: int = curvopt.count(50)

    def init(self, y: PyTree[Array]) -> PyTree[Array]:
        return self.inner.init(y)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: PyTree[Array]
    ) -> tuple[Scalar, curvopt.StepInfo, PyTree[Array]]:
        proposed, info, state = self.inner.step(line, count, state)
        search = backtrack(
            line,
            proposed,
            factor=self.backtrack,
            sufficient=self.sufficient,
            fallback=self.fallback,
            max_trials=self.max_trials,
        )
        return search.step_size, info.plus(search.info), state
