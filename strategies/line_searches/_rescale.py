"""One step of a rule that divides descent by sharpness: what `CurvatureRescaling` and
`CDAT` share."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree, Scalar, ScalarLike

import curvopt

from ._measure import Along, Averages, measure, update_averages


class RescalingState(eqx.Module):
    """What a curvature rule carries: its averages, and the last positive step size (zero
    before there was any)."""

    averages: Averages
    last: Scalar

    @staticmethod
    def start(y: PyTree[Array]) -> "RescalingState":
        zero = jnp.zeros((), curvopt.scalar_dtype(y))
        return RescalingState(Averages(zero, zero), zero)


def _times(limit: ScalarLike, x: Scalar) -> Scalar:
    """`limit * x`, infinite for an infinite limit: the product would be `nan` at zero, and
    so would its derivative anywhere."""
    infinite = jnp.isinf(limit)
    return jnp.where(infinite, jnp.inf, jnp.where(infinite, 1, limit) * x)


def rescale(
    line: curvopt.Line,
    state: RescalingState,
    factor: Scalar,
    *,
    along: Along,
    average: Scalar,
    floor: ScalarLike = 0.0,
    growth: ScalarLike = float("inf"),
    first: ScalarLike = float("inf"),
    min_step_size: ScalarLike = 0.0,
    max_step_size: ScalarLike = float("inf"),
) -> tuple[Scalar, curvopt.StepInfo, RescalingState]:
    r"""One step of a curvature rule: $\tau$ = `factor` times the averaged descent over the
    averaged sharpness, kept within limits.

    - $\tau \leq$ `growth` times the last positive step; the first step moves at most
        `first` times the norm of the parameters (of 1, where that is zero).
    - Where the curvature vanishes the ratio is infinite: the limit is taken, and where
        there is none, the last positive step again (1 before there was any).
    - Where there is no descent, or something measured is not finite, the step is zero.
    - All else is clipped to `[min_step_size, max_step_size]`.
    """
    measured = measure(line, along)
    averages = update_averages(state.averages, measured, average, floor)
    descent, sharpness, last = averages.descent, averages.sharpness, state.last
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
    info = curvopt.StepInfo(
        slope=measured.slope,
        curvature=measured.curvature,
        curvatures=1,
        guards=curvopt.Guards(
            ascent=measured.slope > 0,
            flat=~jnp.isfinite(raw),
            negative=measured.curvature < 0,
            limited=(step_size > 0) & (step_size != raw),
            nonfinite=~measured.finite,
        ),
    )
    last = jnp.where(step_size > 0, step_size, last)
    return step_size, info, RescalingState(averages, last)
