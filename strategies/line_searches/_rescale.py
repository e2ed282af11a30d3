"""One step of a rule that divides descent by sharpness, shared by `CurvatureRescaling` and
`CDAT`."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree, Scalar, ScalarLike

import curvopt

from ._measure import Along, Ascent, Averages, measure, Negative, update_averages


class RescalingState(eqx.Module):
    """The averages of a curvature rule, and its last positive step size (zero before the
    first)."""

    averages: Averages
    last: Scalar

    @staticmethod
    def start(y: PyTree[Array]) -> "RescalingState":
        zero = jnp.zeros((), curvopt.scalar_dtype(y))
        return RescalingState(Averages(zero, zero), zero)


def rescale(
    line: curvopt.Line,
    state: RescalingState,
    factor: Scalar,
    *,
    along: Along = "direction",
    average: Scalar,
    floor: ScalarLike = 0.0,
    negative: Negative = "absolute",
    ascent: Ascent = "zero",
    initial: ScalarLike = 1.0,
) -> tuple[Scalar, curvopt.StepInfo, RescalingState]:
    r"""One step of a curvature rule: $\tau$ = `factor` times the averaged descent over the
    averaged sharpness.

    - Where the averaged sharpness is zero, or too small to divide by, the last positive
      step size is repeated; before the first, it is `initial`.
    - Where the averaged descent is zero, or a measurement is not finite, the step is zero.
      `ascent` and `negative` choose what enters the averages where the slope or the
      curvature has the wrong sign.
    """
    measured = measure(line, along)
    averages = update_averages(
        state.averages,
        measured,
        average,
        floor,
        negative=negative,
        ascent=ascent,
        where=measured.finite,
    )
    descent, sharpness = averages.descent, averages.sharpness
    kept = jnp.where(state.last > 0, state.last, initial)
    # Divides by 1 where the sharpness is zero, so that derivatives stay finite.
    raw = factor * descent / jnp.where(sharpness > 0, sharpness, 1)
    # The division may overflow.
    flat = (sharpness <= 0) | ~jnp.isfinite(raw)
    usable = measured.finite & (descent > 0)
    step_size = jnp.where(usable, jnp.where(flat, kept, raw), 0)
    info = curvopt.StepInfo(
        slope=measured.slope,
        curvature=measured.curvature,
        curvatures=1,
        ascent=measured.slope > 0,
        flat=flat,
        negative=measured.curvature < 0,
        nonfinite=~measured.finite,
    )
    last = jnp.where(step_size > 0, step_size, state.last)
    return step_size, info, RescalingState(averages, last)
