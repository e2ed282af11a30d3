"""Slope and curvature along a line, as the curvature rules use them."""

from typing import Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Scalar, ScalarLike

import curvopt


Along: TypeAlias = Literal["direction", "fresh"]


class Measured(eqx.Module):
    """Slope and curvature along one line, and whether both are finite."""

    slope: Scalar
    curvature: Scalar
    finite: Bool[Array, ""]


class Averages(eqx.Module):
    r"""Exponential averages of $\max(-\text{slope}, 0)$ and $|\kappa|$, from zero. Only
    their ratio is used, in which the correction for that start cancels."""

    descent: Scalar
    sharpness: Scalar


def measure(line: curvopt.Line, along: Along) -> Measured:
    measured = line.fresh if along == "fresh" else line
    slope, curvature = measured.slope, measured.curvature()
    return Measured(slope, curvature, jnp.isfinite(slope) & jnp.isfinite(curvature))


def update_averages(
    old: Averages, measured: Measured, decay: Scalar, floor: ScalarLike
) -> Averages:
    r"""The averages with one more measurement, of which $|\kappa|$ is raised by `floor`;
    one that is not finite leaves them as they are."""

    def averaged(old: Scalar, new: Scalar) -> Scalar:
        mixed = decay * old + (1 - decay) * new.astype(old.dtype)
        return jnp.where(measured.finite, mixed, old)

    return Averages(
        averaged(old.descent, jnp.maximum(-measured.slope, 0)),
        averaged(old.sharpness, jnp.abs(measured.curvature) + floor),
    )
