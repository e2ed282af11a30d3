from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._measure import Along
from ._rescale import rescale, RescalingState


class CurvatureRescaling(curvopt.AbstractLineSearch):
    r"""The curvature rescaling of the learning rate,
    $\tau = 2 \ell \max(-\langle g, u \rangle, 0) / |\langle u, H u \rangle|$.

    The learning rate has a natural scale: $\ell = 1/2$ is the minimiser of the parabola
    along $u$ (*convergence*), $\ell = 1$ returns to the loss it came from, the edge of
    stability (*exploration*).

    As it stands it is safe for deterministic problems. For mini-batches see
    `strategies.recipes`.

    **Arguments:**

    - `learning_rate`: $\ell \geq 0$.
    - `schedule`: a function of the step count with peak 1 that multiplies $\ell$.
    - `average`: the decay in $[0, 1)$ of exponential averages of
        $\max(-\text{slope}, 0)$ and of $|\kappa|$, whose ratio is taken; 0 is none.
    - `along`: the line on which slope and curvature are measured: `"direction"`, or
        `"fresh"` for what this gradient alone contributes to it.
    - `growth`: the step is at most this many times the last one.
    - `first`: the first step moves at most this many times the parameters' norm.
    - `min_step_size`, `max_step_size`: clips.

    A negative curvature enters by its absolute value. Where the curvature is zero the
    limits decide, and without limits the last step is repeated. Where the slope is not
    negative the step is zero (with averages: the averaged slope). A slope or curvature
    that is not finite makes the step zero and leaves the averages alone.

    Source: de Gournay & Gossard, arXiv 2210.14520, from its abstract; averages, limits,
    fresh part and guards are this project's.
    """

    learning_rate: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=0.5)
    schedule: Callable[[Int[Array, ""]], Any] | None = eqx.field(static=True, default=None)
    average: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=0.0)
    along: Along = eqx.field(static=True, default="direction")
    growth: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=float("inf"))
    first: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=float("inf"))
    min_step_size: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=0.0)
    max_step_size: Scalar = eqx.field(
        converter=curvopt.as_hyperparameter, default=float("inf")
    )

    def __check_init__(self) -> None:
        if self.along not in ("direction", "fresh"):
            raise ValueError(
                f"along must be 'direction' or 'fresh', but it is {self.along!r}."
            )
        curvopt.check_range("learning_rate", self.learning_rate, at_least=0)
        curvopt.check_schedule(self.schedule)
        curvopt.check_range("average", self.average, at_least=0, below=1)
        curvopt.check_range("growth", self.growth, at_least=1)
        curvopt.check_range("first", self.first, above=0)
        curvopt.check_range("min_step_size", self.min_step_size, at_least=0)
        curvopt.check_range("max_step_size", self.max_step_size, above=0)

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
            growth=self.growth,
            first=self.first,
            min_step_size=self.min_step_size,
            max_step_size=self.max_step_size,
        )
