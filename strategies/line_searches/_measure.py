"""What the curvature rules measure along a line."""

from typing import Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Scalar, ScalarLike

import curvopt


Along: TypeAlias = Literal["direction", "fresh"]
Negative: TypeAlias = Literal["absolute", "flat"]
Ascent: TypeAlias = Literal["zero", "signed"]


class Measured(eqx.Module):
    """Slope and curvature along one line, and whether both are finite."""

    slope: Scalar
    curvature: Scalar
    finite: Bool[Array, ""]


class Averages(eqx.Module):
    r"""Exponential averages of the descent, $\max(-\text{slope}, 0)$ (or $-\text{slope}$
    itself, if it keeps its sign), and of the sharpness, $|\kappa|$. Both start at zero;
    only their ratio is used, in which the correction for that start cancels."""

    descent: Scalar
    sharpness: Scalar


def measure(line: curvopt.Line, along: Along) -> Measured:
    measured = line.fresh if along == "fresh" else line
    slope, curvature = measured.slope, measured.curvature()
    return Measured(slope, curvature, jnp.isfinite(slope) & jnp.isfinite(curvature))


def update_averages(
    old: Averages,
    measured: Measured,
    decay: Scalar,
    floor: ScalarLike,
    *,
    negative: Negative,
    ascent: Ascent,
    where: Bool[Array, ""],
) -> Averages:
    """Update the averages by one measurement, with `floor` added to its sharpness; they
    stay the same where `where` is false."""

    def averaged(old: Scalar, new: Scalar) -> Scalar:
        mixed = decay * old + (1 - decay) * new.astype(old.dtype)
        return jnp.where(where, mixed, old)

    descent, sharpness = -measured.slope, measured.curvature
    descent = descent if ascent == "signed" else jnp.maximum(descent, 0)
    sharpness = jnp.abs(sharpness) if negative == "absolute" else jnp.maximum(sharpness, 0)
    return Averages(
        averaged(old.descent, descent), averaged(old.sharpness, sharpness + floor)
    )
