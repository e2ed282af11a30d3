"""Strategies as functions of the one number that is left to choose, and the values that
are tried."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import optax
from jaxtyping import Scalar

import curvopt
from strategies import (
    Adam,
    CurvatureRescaling,
    GrowthLimited,
    LearningRate,
    Momentum,
    RMSProp,
    SGD,
)


Family = Callable[..., curvopt.LineSearchMinimiser]

DIRECTIONS: dict[str, curvopt.AbstractDirection] = {
    "SGD": SGD(),
    "Momentum": Momentum(),
    "RMSProp": RMSProp(),
    "Adam": Adam(),
}

CONSTANT, COSINE = "constant", "cosine"

KINDS = (CONSTANT, COSINE)


@functools.cache
def schedule(kind: str, steps: int) -> optax.Schedule | None:
    """What a learning rate is multiplied by: nothing, or a cosine from 1 to 0."""
    return None if kind == CONSTANT else optax.cosine_decay_schedule(1.0, steps)


def raw(direction: curvopt.AbstractDirection, decay: optax.Schedule | None) -> Family:
    """`learning_rate` times a schedule."""

    def solver(learning_rate: Scalar) -> curvopt.LineSearchMinimiser:
        return curvopt.LineSearchMinimiser(direction, LearningRate(learning_rate, decay))

    return solver


def rescaled(
    direction: curvopt.AbstractDirection,
    decay: optax.Schedule | None,
    *,
    average: float = 0.0,
    limited: bool = True,
    curvature: curvopt.AbstractCurvatureMethod = curvopt.AdjointCurvature(),
    **options: Any,
) -> Family:
    r"""The rescaling at $\ell$ = `ell` times a schedule, as in `strategies.recipes`.

    **Arguments:**

    - `direction`: which way.
    - `decay`: the schedule, or `None`.
    - `average`: the decay of the averages; a grid can have it as a second number.
    - `limited`: whether its growth is limited.
    - `curvature`: the curvature method.
    - `options`: more of [`strategies.CurvatureRescaling`][].
    """

    def solver(
        ell: Scalar, average: Scalar | float = average
    ) -> curvopt.LineSearchMinimiser:
        rule = CurvatureRescaling(ell, decay, average=average, **options)
        return curvopt.LineSearchMinimiser(
            direction, GrowthLimited(rule) if limited else rule, curvature=curvature
        )

    return solver


def decades(lowest: int, highest: int) -> list[float]:
    """Two values in every power of ten: ..., 0.1, 0.316, 1, ..."""
    return [float(f"{10.0 ** (k / 2):.4g}") for k in range(2 * lowest, 2 * highest + 1)]


# Of raw learning rates, for each direction: wide enough for losses of all scales.
RATES: dict[str, list[float]] = {
    "SGD": decades(-4, 1),
    "Momentum": decades(-4, 1),
    "RMSProp": decades(-5, -1),
    "Adam": decades(-5, -1),
}

# Of the rescaled learning rate: 1/16 to 8.
SCALES: list[float] = (2.0 ** np.arange(-4, 4)).tolist()

# Beyond them, where the theory has the edge of stability at (1 + 0.9) / (1 - 0.9).
FAR_SCALES: list[float] = [16.0, 32.0]
