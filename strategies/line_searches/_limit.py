"""What a curvature rule does with a step that is too long, or that is none."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Scalar

import curvopt

from ._measure import Averages, Measured


class Limited(eqx.Module):
    """A step size, the last positive one, and the guards that acted."""

    step_size: Scalar
    last: Scalar
    guards: curvopt.Guards


def _times(limit: Scalar, x: Scalar) -> Scalar:
    """`limit * x`, infinite for an infinite limit: the product would be `nan` at zero, and
    so would its derivative anywhere."""
    infinite = jnp.isinf(limit)
    return jnp.where(infinite, jnp.inf, jnp.where(infinite, 1, limit) * x)


def limit_step(
    line: curvopt.Line,
    measured: Measured,
    averages: Averages,
    factor: Scalar,
    last: Scalar,
    *,
    growth: Scalar,
    first: Scalar,
    min_step_size: Scalar,
    max_step_size: Scalar,
) -> Limited:
    r"""The step $\tau$ = `factor` times descent over sharpness, kept within limits.

    - $\tau \leq$ `growth` times the last positive step; the first step moves at most
        `first` times the norm of the parameters (of 1, where that is zero).
    - Where the curvature vanishes the ratio is infinite: the limit is taken, and where
        there is none, the last positive step again (1 before there was any).
    - Where there is no descent, or something measured is not finite, the step is zero.
    - All else is clipped to `[min_step_size, max_step_size]`.
    """
    descent, sharpness = averages.descent, averages.sharpness
    flat = sharpness <= 0
    raw = factor * descent / jnp.where(flat, 1, sharpness)
    # The division may overflow as well: both cases propose an infinite step.
    raw = jnp.where(flat, jnp.inf, raw)

    size = curvopt.tree_norm(line.y)
    length = curvopt.tree_norm(line.direction)
    room = jnp.where(size > 0, size, 1) / jnp.where(length > 0, length, 1)
    bound = jnp.where(last > 0, _times(growth, last), _times(first, room))
    wanted = jnp.minimum(raw, bound)
    wanted = jnp.where(jnp.isfinite(wanted), wanted, jnp.where(last > 0, last, 1))
    clipped = jnp.clip(wanted, min_step_size, max_step_size)
    step_size = jnp.where(measured.finite & (descent > 0), clipped, 0)
    return Limited(
        step_size=step_size,
        last=jnp.where(step_size > 0, step_size, last),
        guards=curvopt.Guards(
            ascent=measured.slope > 0,
            flat=~jnp.isfinite(raw),
            negative=measured.curvature < 0,
            limited=(step_size > 0) & (step_size != raw),
            nonfinite=~measured.finite,
        ),
    )
