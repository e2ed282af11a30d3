import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._armijo import backtrack


class StochasticArmijo(curvopt.AbstractLineSearch):
    r"""Armijo's search on the mini-batch of the step, started a little above the last step
    size: from $t_0 = \gamma^{1/n} \tau_{k-1}$ with $n$ steps in an epoch, the first of
    $t_0, t_0 \rho, t_0 \rho^2, \dots$ with
    $\varphi(t) \leq \varphi(0) + c \, t \, \varphi'(0)$.

    The step size can grow by a factor of $\gamma$ in an epoch. The theory is for models
    that interpolate, with $u = -g$.

    **Arguments:**

    - `initial`: $t_0$ of the first search, above 0.
    - `backtrack`: $\rho$ in $(0, 1)$.
    - `sufficient`: $c$ in $[0, 1)$.
    - `growth`: $\gamma \geq 1$.
    - `steps_per_epoch`: $n$, an integer of at least 1; static. The default, 1, is for full
        batches; for mini-batches pass `problem.steps_per_epoch`.
    - `fallback`: the step size where no trial is accepted, or the direction does not
        descend, at least 0. (Where a value is not finite the step is zero.)
    - `max_trials`: the largest number of trials; static.

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
        # The first search grows it back to `initial`.
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
        # A step of zero is not kept: every later search would start from it.
        searched = (search.met | search.info.exhausted) & (search.step_size > 0)
        state = jnp.where(searched, search.step_size, state)
        return search.step_size, search.info, state
