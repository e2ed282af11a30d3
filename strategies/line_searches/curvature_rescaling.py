import equinox as eqx
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._measure import Along, Ascent, Negative
from ._rescale import rescale, RescalingState


class CurvatureRescaling(curvopt.AbstractLineSearch):
    r"""The curvature rescaling of the learning rate,
    $\tau = 2 \ell \max(-\langle g, u \rangle, 0) / |\langle u, H u \rangle|$.

    The learning rate has a natural scale: $\ell = 1/2$ is the minimiser of the parabola
    along $u$ (*convergence*), $\ell = 1$ is the edge of stability, where the parabola
    returns to its value at the start (*exploration*).

    The defaults are for deterministic problems; where these are not convex, wrap the rule
    in [`strategies.Backtracking`][]. For mini-batches see `strategies.recipes`.

    **Arguments:**

    - `learning_rate`: $\ell \geq 0$.
    - `schedule`: a function of the step count with peak 1 that multiplies $\ell$.
    - `average`: the decay in $[0, 1)$ of exponential averages of
        $\max(-\text{slope}, 0)$ and $|\kappa|$, whose ratio is taken; 0 does not average.
    - `along`: the line on which slope and curvature are measured: `"direction"`, or
        `"fresh"` for the fresh part of the direction.
    - `negative`: a negative curvature enters by its absolute value (`"absolute"`), or as
        zero (`"flat"`).
    - `ascent`: a positive slope enters as zero, so that without averages the step is zero
        (`"zero"`), or with its sign, so that the step is zero where the average ascends
        (`"signed"`).
    - `initial`: where the curvature is zero the last positive step size is repeated; this
        one is used before the first. (The first step of a network can be as long as this:
        see [`strategies.GrowthLimited`][].)

    A slope or curvature that is not finite makes the step zero and does not change the
    averages.

    Source: de Gournay & Gossard, arXiv 2210.14520, from its abstract; averages, fresh
    part and guards are this project's.
    """

    learning_rate: curvopt.Number = curvopt.hyperparameter(0.5, at_least=0)
    schedule: curvopt.Schedule | None = curvopt.schedule(None)
    average: curvopt.Number = curvopt.hyperparameter(0.0, at_least=0, below=1)
    along: Along = eqx.field(static=True, default="direction")
    negative: Negative = eqx.field(static=True, default="absolute")
    ascent: Ascent = eqx.field(static=True, default="zero")
    initial: curvopt.Number = curvopt.hyperparameter(1.0, above=0)

    def init(self, y: PyTree[Array]) -> RescalingState:
        return RescalingState.start(y)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: RescalingState
    ) -> tuple[Scalar, curvopt.StepInfo, RescalingState]:
        factor = 1 if self.schedule is None else self.schedule(count)
        return rescale(
            line,
            state,
            2 * self.learning_rate * factor,
            along=self.along,
            average=self.average,
            negative=self.negative,
            ascent=self.ascent,
            initial=self.initial,
        )
