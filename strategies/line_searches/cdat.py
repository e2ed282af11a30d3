from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._rescale import rescale, RescalingState


class CDAT(curvopt.AbstractLineSearch):
    r"""Curvature dynamics aware tuning: $\tau = \sigma \, n / d$, with $n$ the
    exponential average of $\max(-\text{slope}, 0)$ and $d$ that of $|\kappa| + \epsilon$.

    $\sigma = 2$ is *on edge*, $\sigma = 1$ *greedy*. With $\epsilon = 0$ and no averages
    it is [`strategies.CurvatureRescaling`][] at $\ell = \sigma / 2$.

    **Arguments:**

    - `sigma`: $\sigma \geq 0$.
    - `average`: the decay in $[0, 1)$ of both averages; 0 does not average.
    - `epsilon`: $\epsilon \geq 0$.

    Where curvature and `epsilon` are both zero, the last step size is repeated (1 before
    the first). Where the direction does not descend, or a value is not finite, the step is
    zero. A curvature far below `epsilon` counts as `epsilon`: lower it where losses are
    small.

    Source: Roulet et al., *Stepping on the Edge*, arXiv 2407.06183 (NeurIPS 2024)
    (restated; the summary does not say that $n$ and $d$ are averaged separately). The
    default decay and $\epsilon$ are this project's choice.
    """

    sigma: curvopt.Number = curvopt.hyperparameter(2.0, at_least=0)
    average: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)
    epsilon: curvopt.Number = curvopt.hyperparameter(1e-6, at_least=0)

    def init(self, y: PyTree[Array]) -> RescalingState:
        return RescalingState.start(y)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: RescalingState
    ) -> tuple[Scalar, curvopt.StepInfo, RescalingState]:
        del count
        return rescale(
            line,
            state,
            self.sigma,
            average=self.average,
            floor=self.epsilon,
        )
