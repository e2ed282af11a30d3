from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._armijo import decreased
from ._trials import Point, search, select


class _Interval(eqx.Module):
    """The lowest trial, and the other end of an interval that holds a good step: infinity
    before one is known."""

    low: Point
    high: Point


class StrongWolfe(curvopt.AbstractGradientSearch):
    r"""A search for the strong Wolfe conditions: sufficient decrease and a small slope,

    $$\varphi(t) \leq \varphi(0) + c_1 \, t \, \varphi'(0), \qquad
    |\varphi'(t)| \leq c_2 \, |\varphi'(0)|.$$

    The first trial is the step size of `inner`: `StrongWolfe(LearningRate(1.0))` begins
    with the natural step of a quasi-Newton direction,
    `StrongWolfe(CurvatureRescaling())` with the exact step of the parabola. Trials grow
    until an interval must hold a good step, and then divide it at the minimiser of the
    cubic through both ends, or of the parabola where only one slope is known.

    A trial costs one gradient, or one loss if it lacks sufficient decrease: its slope is
    then not needed. With the second condition the change $z$ of the gradient along the
    step $s$ has $\langle s, z \rangle > 0$, which quasi-Newton directions need.

    **Arguments:**

    - `inner`: any line search.
    - `sufficient`: $c_1$ in $(0, 1)$.
    - `slope`: $c_2$ in $(c_1, 1)$: 0.9 for quasi-Newton directions, 0.1 for conjugate
        gradients.
    - `max_trials`: the largest number of trials, after which the lowest one is taken;
        static.

    Source: Nocedal & Wright, Numerical Optimization, algorithms 3.5 and 3.6, and equation
    3.59 for the cubic. That both algorithms are one with an end at infinity, and the
    tolerance for rounding errors, are this project's.
    """

    inner: curvopt.AbstractLineSearch
    sufficient: curvopt.Number = curvopt.hyperparameter(1e-4, above=0, below=1)
    slope: curvopt.Number = curvopt.hyperparameter(0.9, above="sufficient", below=1)
    max_trials: int = curvopt.count(30)

    def init(self, y: PyTree[Array]) -> PyTree[Array]:
        return self.inner.init(y)

    def search(
        self, line: curvopt.Line, count: Int[Array, ""], state: PyTree[Array]
    ) -> tuple[curvopt.Trial, curvopt.StepInfo, PyTree[Array]]:
        proposed, info, state = self.inner.step(line, count, state)
        start = Point.of(line.start)
        far = Point(jnp.full_like(start.numbers, jnp.inf))
        enough = lambda t, value: decreased(line, t, value, self.sufficient)

        def advance(interval: _Interval, point: Point) -> Any:
            low, high = interval.low, interval.high
            good = point.finite & enough(point.step_size, point.value)
            met = good & (jnp.abs(point.slope) <= -self.slope * start.slope)
            too_far = ~good | (point.value > low.value)
            # Beyond its minimiser, seen from the other end.
            passed = (point.slope > 0) == (high.step_size > low.step_size)
            new = _Interval(
                low=select(too_far, low, point),
                high=select(too_far, point, select(passed, low, high)),
            )
            farther = _extrapolated(low, point)
            t = jnp.where(jnp.isinf(new.high.step_size), farther, _interpolated(new))
            return met, new, t

        trial, found = search(
            line,
            proposed,
            _Interval(start, far),
            advance,
            wanted=enough,
            max_trials=self.max_trials,
        )
        return trial, info.plus(found), state


def _extrapolated(low: Point, point: Point) -> Scalar:
    """Where the slope would vanish if it went on rising as from the lowest trial before,
    two to ten times as far."""
    rise = point.slope - low.slope
    ratio = -point.slope / jnp.where(rise > 0, rise, 1)
    grown = jnp.where(rise > 0, jnp.clip(ratio, 1, 9), 9)
    return point.step_size + grown * (point.step_size - low.step_size)


def _interpolated(interval: _Interval) -> Scalar:
    """The minimiser of the cubic through values and slopes of both ends, or of the parabola
    where the slope is known at one; away from both ends."""
    low, high = interval.low, interval.high
    width = high.step_size - low.step_size
    # In units of the interval, from its lower end.
    rise, here, there = high.value - low.value, width * low.slope, width * high.slope
    parabola = _ratio(-here, 2 * (rise - here))
    middle = here + there - 3 * rise
    root = jnp.sqrt(jnp.maximum(middle**2 - here * there, 0))
    cubic = 1 - _ratio(there + root - middle, there - here + 2 * root)
    knows_both = jnp.isfinite(there)
    fraction = jnp.where(knows_both, cubic, parabola)
    # The value at the other end may be infinite, and both formulas may divide by zero.
    fraction = jnp.where(jnp.isfinite(fraction), fraction, 0.5)
    least = jnp.where(knows_both, 0.01, 0.1)
    fraction = jnp.clip(fraction, least, 1 - least)
    fraction = jnp.where(jnp.isfinite(rise), fraction, 0.1)
    return low.step_size + fraction * width


def _ratio(a: Scalar, b: Scalar) -> Scalar:
    """`a / b`, and not finite where `b` is zero, without an error under
    `jax_debug_nans`."""
    return jnp.where(b == 0, jnp.inf, a / jnp.where(b == 0, 1, b))
