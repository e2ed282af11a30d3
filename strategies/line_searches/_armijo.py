"""Armijo's search, shared by all rules that search for sufficient decrease."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Scalar

import curvopt


class Search(eqx.Module):
    """How a search ended.

    **Attributes:**

    - `step_size`: the trial that was accepted, else the fallback or zero.
    - `met`: whether it has sufficient decrease.
    - `info`: the slope, the losses that were evaluated and the guards that acted.
    """

    step_size: Scalar
    met: Bool[Array, ""]
    info: curvopt.StepInfo


# Two losses that differ by less than this many rounding errors are taken to be equal: near
# a minimum, sufficient decrease is smaller, and no trial would show it.
_EQUAL = 10


def decreased(
    line: curvopt.Line, t: Scalar, value: Scalar, sufficient: Scalar
) -> Bool[Array, ""]:
    r"""Armijo's condition on a loss, $\varphi(t) \leq \varphi(0) + c \, t \, \varphi'(0)$,
    up to rounding. A loss that is not finite does not meet it."""
    most = line.value + sufficient * t * line.slope + _EQUAL * line.rounding
    return jnp.isfinite(value) & (value <= most)


def sufficient_decrease(
    line: curvopt.Line, t: Scalar, sufficient: Scalar
) -> Bool[Array, ""]:
    """Armijo's condition at a trial. One loss."""
    return decreased(line, t, line.at(t), sufficient)


def with_derivative_of(formula: Scalar, value: Scalar) -> Scalar:
    """The value that a loop found, with the derivative of its formula: reverse mode cannot
    differentiate a loop of unknown length."""
    return value + (formula - jax.lax.stop_gradient(formula))


def backtrack(
    line: curvopt.Line,
    initial: Scalar,
    *,
    factor: Scalar,
    sufficient: Scalar,
    fallback: Scalar,
    max_trials: int,
) -> Search:
    r"""The first of $t_0, t_0 \rho, t_0 \rho^2, \dots$ that has sufficient decrease.

    Nothing is tried where the direction does not descend, a value is not finite, or $t_0$
    is zero.

    **Arguments:**

    - `line`: the line to search.
    - `initial`, `factor`, `sufficient`: $t_0$, $\rho$ and $c$.
    - `fallback`: the step size where no trial is accepted, or the direction does not
        descend. Where a value is not finite, or $t_0$ is zero, the step is zero.
    - `max_trials`: the largest number of trials.
    """
    value, slope = line.value, line.slope
    initial = jnp.asarray(initial, jnp.result_type(value, slope))
    finite = jnp.isfinite(slope) & jnp.isfinite(value) & jnp.isfinite(initial)
    search = finite & (slope < 0) & (initial > 0)

    def unmet(carry: Any) -> Array:
        _, trials, met = carry
        return search & ~met & (trials < max_trials)

    def try_next(carry: Any) -> Any:
        t, trials, _ = carry
        t = jnp.where(trials == 0, t, t * jax.lax.stop_gradient(factor))
        return t, trials + 1, sufficient_decrease(line, t, sufficient)

    start = jax.lax.stop_gradient(initial), jnp.array(0, jnp.int32), jnp.array(False)
    t, trials, met = jax.lax.while_loop(unmet, try_next, start)
    # A derivative only where a trial was accepted: `initial` may be nan elsewhere.
    first = jnp.where(met, initial, 0)
    t = with_derivative_of(first * factor ** jnp.where(met, trials - 1, 0), t)
    info = curvopt.StepInfo(
        slope=slope,
        losses=trials,
        ascent=slope > 0,
        limited=met & (trials > 1),
        nonfinite=~finite,
        exhausted=search & ~met,
    )
    usable = finite & (initial > 0)
    step_size = jnp.where(met, t, jnp.where(usable, fallback, 0))
    return Search(step_size, met, info)
