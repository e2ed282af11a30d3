"""Strategies as functions of their one free hyper-parameter, and the values to try."""

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
    """The factor of a learning rate: `None`, or a cosine from 1 to 0."""
    return None if kind == CONSTANT else optax.cosine_decay_schedule(1.0, steps)


def raw(direction: curvopt.AbstractDirection, decay: optax.Schedule | None) -> Family:
    """A direction at `learning_rate` times a schedule."""

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

    - `direction`: the direction.
    - `decay`: the schedule, or `None`.
    - `average`: the decay of the averages; a grid can sweep over it too.
    - `limited`: whether the growth of the step is limited.
    - `curvature`: the curvature method.
    - `options`: further arguments of [`strategies.CurvatureRescaling`][].
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
    """Two values per power of ten: ..., 0.1, 0.316, 1, ..."""
    return [float(f"{10.0 ** (k / 2):.4g}") for k in range(2 * lowest, 2 * highest + 1)]


# Raw learning rates to try for each direction: wide enough for losses of all scales.
RATES: dict[str, list[float]] = {
    "SGD": decades(-4, 1),
    "Momentum": decades(-4, 1),
    "RMSProp": decades(-5, -1),
    "Adam": decades(-5, -1),
}

# Rescaled learning rates to try: 1/16 to 8.
SCALES: list[float] = (2.0 ** np.arange(-4, 4)).tolist()

# Further ones, where theory puts the edge of stability at (1 + 0.9) / (1 - 0.9).
FAR_SCALES: list[float] = [16.0, 32.0]
