"""The loop of a search that evaluates gradients, shared by `StrongWolfe` and
`HagerZhang`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Scalar

import curvopt


class Point(eqx.Module):
    """A trial without its gradient: the end of an interval. It is one array, because the
    number of arrays sets the time of a search on a small problem."""

    numbers: Float[Array, "3"]

    @staticmethod
    def of(trial: curvopt.Trial) -> "Point":
        return Point(jnp.stack([trial.step_size, trial.value, trial.slope]))

    @property
    def step_size(self) -> Scalar:
        return self.numbers[0]

    @property
    def value(self) -> Scalar:
        return self.numbers[1]

    @property
    def slope(self) -> Scalar:
        return self.numbers[2]

    @property
    def finite(self) -> Bool[Array, ""]:
        return jnp.isfinite(self.value) & jnp.isfinite(self.slope)


def select(condition: Bool[Array, ""], a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`, leaf by leaf."""
    return jtu.tree_map(lambda a, b: jnp.where(condition, a, b), a, b)


def _always(t: Scalar, value: Scalar) -> Bool[Array, ""]:
    del t, value
    return jnp.array(True)


# Whether a search is over, else its new interval and the next trial.
Advance = Callable[[Any, Point], tuple[Bool[Array, ""], Any, Scalar]]


def search(
    line: curvopt.Line,
    proposed: Scalar,
    interval: Any,
    advance: Advance,
    *,
    wanted: Callable[[Scalar, Scalar], Bool[Array, ""]] = _always,
    max_trials: int,
) -> tuple[curvopt.Trial, curvopt.StepInfo]:
    r"""Trials until one meets the condition.

    Where none does it ends at the lowest trial, which may be the start of the line. Nothing
    is tried where the direction does not descend, a value is not finite, or the first trial
    is at zero.

    **Arguments:**

    - `line`: the line to search.
    - `proposed`: the step size of the first trial.
    - `interval`: what `advance` knows at the start.
    - `advance`: `advance(interval, point)`, from a trial to whether it meets the condition,
        the new interval, and the step size of the next trial.
    - `wanted`: `wanted(t, value)`, whether the gradient is wanted at a trial; always by
        default.
    - `max_trials`: the largest number of trials.
    """
    start = line.start
    proposed = jnp.asarray(proposed, start.step_size.dtype)
    finite = Point.of(start).finite & jnp.isfinite(proposed)
    searches = finite & (start.slope < 0) & (proposed > 0)

    def unmet(carry: Any) -> Bool[Array, ""]:
        *_, counts, met = carry
        return searches & ~met & (counts[0] < max_trials)

    def try_next(carry: Any) -> Any:
        t, interval, best, grad, counts, _ = carry
        trial = line.trial(t, lambda value: wanted(t, value))
        point = Point.of(trial)
        met, interval, t = advance(interval, point)
        lower = point.finite & (point.value < best.value)
        counts += jnp.stack([1, wanted(point.step_size, point.value)])
        # A trial that meets the condition ends the search, even if another was lower.
        best, grad = select(met | lower, (point, trial.grad), (best, grad))
        return t, interval, best, grad, counts, met

    counts, met = jnp.zeros(2, jnp.int32), jnp.array(False)
    carry = (proposed, interval, Point.of(start), start.grad, counts, met)
    _, _, best, grad, counts, met = jax.lax.while_loop(unmet, try_next, carry)
    trials, gradients = counts
    info = curvopt.StepInfo(
        slope=start.slope,
        losses=trials - gradients,
        gradients=gradients,
        ascent=start.slope > 0,
        limited=met & (trials > 1),
        nonfinite=~finite,
        exhausted=searches & ~met,
    )
    return curvopt.Trial(best.step_size, best.value, best.slope, grad), info
