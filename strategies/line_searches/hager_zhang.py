import enum
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._trials import Point, search, select


class _Stage(enum.IntEnum):
    """What the next trial is."""

    EXPAND = 0  # farther, until an interval is known (B0-B3)
    BISECT = 1  # the middle, until the slope rises at the right end (U3)
    SECANT = 2  # the root of the secant (S1)
    SECOND_SECANT = 3  # the root of the secant from the end that moved (S2-S4)
    MIDDLE = 4  # the middle, where the interval did not shrink enough (L2)


class _Interval(eqx.Module):
    """The ends, those at the last first secant, and what the next trial is."""

    left: Point
    right: Point
    left_before: Point
    right_before: Point
    stage: Int[Array, ""]


class HagerZhang(curvopt.AbstractGradientSearch):
    r"""Hager & Zhang's search for the Wolfe conditions, or for approximate ones that still
    mean something where losses differ by rounding errors only.

    A trial is accepted where it meets Wolfe's conditions,

    $$\varphi(t) \leq \varphi(0) + \delta \, t \, \varphi'(0), \qquad
    \varphi'(t) \geq \sigma \varphi'(0),$$

    or, with $\varphi(t) \leq \varphi(0) + \epsilon |\varphi(0)|$, the approximate ones,
    which compare slopes:

    $$(2 \delta - 1) \varphi'(0) \geq \varphi'(t) \geq \sigma \varphi'(0).$$

    An interval with falling slope at the left and rising slope at the right is found by
    going $\rho$ times farther, and shrinks by two steps of the secant method (secant²), or
    by its middle where they did not shrink it by $\gamma$. Each trial costs one gradient.

    **Arguments:**

    - `inner`: any line search, whose step size is the first trial.
    - `sufficient`: $\delta$ in $(0, 1/2)$.
    - `slope`: $\sigma$ in $[\delta, 1)$.
    - `tolerance`: $\epsilon \geq 0$.
    - `growth`: $\rho > 1$.
    - `shrink`: $\gamma$ in $(0, 1)$.
    - `max_trials`: the largest number of trials, after which the lowest one is taken;
        static.

    Source: Hager & Zhang, *A new conjugate gradient method with guaranteed descent and an
    efficient line search*, SIAM J. Optim. 16(1), 2005, and *Algorithm 851: CG_DESCENT*, ACM
    TOMS 32(1), 2006. Its interval is bisected ($\theta = 1/2$); where an expansion meets a
    value that is too high, from the last good trial, not from zero; a trial that is not
    finite counts as too far.
    """

    inner: curvopt.AbstractLineSearch
    sufficient: curvopt.Number = curvopt.hyperparameter(0.1, above=0, below=0.5)
    slope: curvopt.Number = curvopt.hyperparameter(0.9, at_least="sufficient", below=1)
    tolerance: curvopt.Number = curvopt.hyperparameter(1e-6, at_least=0)
    growth: curvopt.Number = curvopt.hyperparameter(5.0, above=1)
    shrink: curvopt.Number = curvopt.hyperparameter(0.66, above=0, below=1)
    max_trials: int = curvopt.count(50)

    def init(self, y: PyTree[Array]) -> PyTree[Array]:
        return self.inner.init(y)

    def search(
        self, line: curvopt.Line, count: Int[Array, ""], state: PyTree[Array]
    ) -> tuple[curvopt.Trial, curvopt.StepInfo, PyTree[Array]]:
        proposed, info, state = self.inner.step(line, count, state)
        start = Point.of(line.start)
        equal = start.value + self.tolerance * jnp.abs(start.value)

        def met(point: Point) -> Array:
            t, value, slope = point.step_size, point.value, point.slope
            enough = value <= start.value + self.sufficient * t * start.slope
            approximate = (value <= equal) & (
                slope <= (2 * self.sufficient - 1) * start.slope
            )
            return (
                point.finite & (slope >= self.slope * start.slope) & (enough | approximate)
            )

        def advance(interval: _Interval, point: Point) -> Any:
            rises = point.finite & (point.slope >= 0)
            falls = point.finite & ~rises & (point.value <= equal)
            shrunk = eqx.tree_at(
                lambda i: (i.left, i.right),
                interval,
                (
                    select(falls, point, interval.left),
                    select(falls, interval.right, point),
                ),
            )
            new, t = self._next(shrunk, point, rises, falls)
            return met(point), new, t

        expand = jnp.array(_Stage.EXPAND, jnp.int32)
        interval = _Interval(start, start, start, start, expand)
        trial, found = search(line, proposed, interval, advance, max_trials=self.max_trials)
        return trial, info.plus(found), state

    def _next(
        self, interval: _Interval, point: Point, rises: Array, falls: Array
    ) -> tuple[_Interval, Scalar]:
        """What the next trial is, and its step size."""
        left, right, stage = interval.left, interval.right, interval.stage
        middle = (left.step_size + right.step_size) / 2
        inside = lambda t: (left.step_size < t) & (t < right.step_size)
        # From the end that the first secant moved.
        moved = select(rises, interval.right_before, interval.left_before)
        second = _secant(moved, point)
        first = _secant(left, right)

        width = right.step_size - left.step_size
        before = interval.right_before.step_size - interval.left_before.step_size
        is_wide = width > self.shrink * before
        after_secants = jnp.where(is_wide, _Stage.MIDDLE, _Stage.SECANT)
        followed = jnp.select(
            [
                ~rises & ~falls,
                falls & (stage <= _Stage.BISECT),
                (stage == _Stage.SECANT) & inside(second),
                (stage == _Stage.SECANT) | (stage == _Stage.SECOND_SECANT),
            ],
            [_Stage.BISECT, stage, _Stage.SECOND_SECANT, after_secants],
            _Stage.SECANT,
        ).astype(jnp.int32)
        t = jnp.select(
            [
                followed == _Stage.EXPAND,
                followed == _Stage.SECOND_SECANT,
                (followed == _Stage.SECANT) & inside(first),
            ],
            [self.growth * point.step_size, second, first],
            middle,
        )
        renewed = followed == _Stage.SECANT
        new = _Interval(
            left,
            right,
            select(renewed, left, interval.left_before),
            select(renewed, right, interval.right_before),
            followed,
        )
        return new, t


def _secant(a: Point, b: Point) -> Scalar:
    """The root of the line through two slopes; infinity where they are equal."""
    rise = b.slope - a.slope
    root = a.step_size * b.slope - b.step_size * a.slope
    return jnp.where(rise == 0, jnp.inf, root / jnp.where(rise == 0, 1, rise))
