import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._armijo import backtrack


class StochasticArmijo(curvopt.AbstractLineSearch):
    r"""Armijo's search on the mini-batch of the step, which starts a little above the last
    step: from $t_0 = \gamma^{1/n} \tau_{k-1}$ with $n$ steps in an epoch, the first of
    $t_0, t_0 \rho, t_0 \rho^2, \dots$ with
    $\varphi(t) \leq \varphi(0) + c \, t \, \varphi'(0)$.

    So the step can grow by $\gamma$ in an epoch. Its theory is for models that
    interpolate, with $u = -g$.

    **Arguments:**

    - `initial`: where the first search starts, above 0.
    - `backtrack`: $\rho$ in $(0, 1)$.
    - `sufficient`: $c$ in $[0, 1)$.
    - `growth`: $\gamma \geq 1$.
    - `steps_per_epoch`: $n$, an integer of at least 1; static. The default, 1, is for a
        full batch: hand over that of the problem.
    - `fallback`: the step where no trial is accepted, or the direction is not one of
        descent, at least 0. (Where something is not finite the step is zero.)
    - `max_trials`: how many trials at most; static.

    Source: Vaswani et al., *Painless Stochastic Gradient* (2019), `sls` (read in its
    code).
    """

    initial: curvopt.Number = curvopt.hyperparameter(1.0, above=0)
    backtrack: curvopt.Number = curvopt.hyperparameter(0.9, above=0, below=1)
    sufficient: curvopt.Number = curvopt.hyperparameter(0.1, at_least=0, below=1)
    growth: curvopt.Number = curvopt.hyperparameter(2.0, at_least=1, below=float("inf"))
    steps_per_epoch: int = curvopt.count(1)
    fallback: curvopt.Number = curvopt.hyperparameter(1e-6, at_least=0)
    max_trials: int = curvopt.count(100)

    def init(self, y: PyTree[Array]) -> Scalar:
        # What makes the first search start at `initial`.
        start = self.initial / self.growth ** (1 / self.steps_per_epoch)
        return start.astype(curvopt.scalar_dtype(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Scalar
    ) -> tuple[Scalar, curvopt.StepInfo, Scalar]:
        del count
        search = backtrack(
            line,
            state * self.growth ** (1 / self.steps_per_epoch),
            factor=self.backtrack,
            sufficient=self.sufficient,
            fallback=self.fallback,
            max_trials=self.max_trials,
        )
        # A step of zero would be the start of all searches to come.
        searched = (search.met | search.info.exhausted) & (search.step_size > 0)
        state = jnp.where(searched, search.step_size, state)
        return search.step_size, search.info, state
