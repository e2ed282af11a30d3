import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Int, PyTree, Scalar, ScalarLike

from ._checks import check_state
from ._declared import cast_hyperparameters, Declared
from ._line import Line, not_measured, Trial
from ._tree import promotion, scalar_dtype, tree_copy


_COUNTS = ("curvatures", "losses", "slopes", "gradients")
_GUARDS = ("ascent", "flat", "negative", "limited", "nonfinite", "exhausted")


class StepInfo(eqx.Module):
    """What a line search measured, what it evaluated, and which of its guards acted.

    ```python
    curvopt.StepInfo(slope=line.slope, losses=2, ascent=line.slope > 0)
    ```

    **Attributes:**

    - `slope`, `curvature`: as measured, along the line that the rule uses; `nan` if it
        did not measure them (infinity if `jax_debug_nans` forbids nan).
    - `curvatures`, `losses`, `slopes`, `gradients`: how often it evaluated
        `line.curvature()`, `line.at(t)`, `line.slope_at(t)` and `line.grad_at(t)` at
        run time. Every step has the value and gradient at `y`; these are not counted.
    - `ascent`: `u` was not a descent direction (slope above zero).
    - `flat`: the curvature was zero, or too small to divide by.
    - `negative`: the curvature was negative.
    - `limited`: a limit or clip changed the step.
    - `nonfinite`: a slope, curvature or trial was not finite.
    - `exhausted`: a search ended without meeting its condition.

    All are optional.
    """

    slope: Scalar
    curvature: Scalar
    curvatures: Int[Array, ""]
    losses: Int[Array, ""]
    slopes: Int[Array, ""]
    gradients: Int[Array, ""]
    ascent: Bool[Array, ""]
    flat: Bool[Array, ""]
    negative: Bool[Array, ""]
    limited: Bool[Array, ""]
    nonfinite: Bool[Array, ""]
    exhausted: Bool[Array, ""]

    def __init__(
        self,
        *,
        slope: ScalarLike | None = None,
        curvature: ScalarLike | None = None,
        curvatures: Any = 0,
        losses: Any = 0,
        slopes: Any = 0,
        gradients: Any = 0,
        ascent: Any = False,
        flat: Any = False,
        negative: Any = False,
        limited: Any = False,
        nonfinite: Any = False,
        exhausted: Any = False,
    ):
        self.slope = jnp.asarray(not_measured() if slope is None else slope)
        self.curvature = jnp.asarray(not_measured() if curvature is None else curvature)
        self.curvatures = jnp.asarray(curvatures, jnp.int32)
        self.losses = jnp.asarray(losses, jnp.int32)
        self.slopes = jnp.asarray(slopes, jnp.int32)
        self.gradients = jnp.asarray(gradients, jnp.int32)
        self.ascent = jnp.asarray(ascent)
        self.flat = jnp.asarray(flat)
        self.negative = jnp.asarray(negative)
        self.limited = jnp.asarray(limited)
        self.nonfinite = jnp.asarray(nonfinite)
        self.exhausted = jnp.asarray(exhausted)

    @property
    def counts(self) -> dict[str, Int[Array, ""]]:
        """How often each kind of evaluation was made, by name."""
        return {name: getattr(self, name) for name in _COUNTS}

    @property
    def guards(self) -> dict[str, Bool[Array, ""]]:
        """Which guards acted, by name."""
        return {name: getattr(self, name) for name in _GUARDS}

    def plus(self, other: "StepInfo") -> "StepInfo":
        """The combined record of a rule that wraps another: counts are added, a guard acted
        if it acted in either. Slope and curvature are this record's."""
        counts = {name: n + other.counts[name] for name, n in self.counts.items()}
        guards = {name: x | other.guards[name] for name, x in self.guards.items()}
        return StepInfo(slope=self.slope, curvature=self.curvature, **counts, **guards)

    def astype(self, dtype: Any) -> "StepInfo":
        """This record with its floating-point numbers in `dtype`."""
        return jtu.tree_map(
            lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, self
        )


class AbstractLineSearch(Declared):
    """A line search: turns the loss along a line into a step size.

    Declare its fields with [`curvopt.hyperparameter`][], [`curvopt.count`][] and
    [`curvopt.schedule`][]. A rule with memory implements `init` as well.
    """

    @property
    def steps_per_batch(self) -> int:
        """How many consecutive steps it needs on one batch: the maximum over the rules that
        it wraps, else 1."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        inner = [x.steps_per_batch for x in values if isinstance(x, AbstractLineSearch)]
        return max([1, *inner])

    def init(self, y: PyTree[Array]) -> Any:
        """The state before the first step; `None` by default.

        **Arguments:**

        - `y`: the initial parameters. Scalars in the state should have the dtype
            `curvopt.scalar_dtype(y)`.

        **Returns:**

        A pytree of arrays.
        """
        del y

    @abc.abstractmethod
    def step(
        self, line: Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, StepInfo, Any]:
        r"""Choose the step size $\tau$ in $y^+ = y + \tau u$.

        **Arguments:**

        - `line`: the loss along `u`.
        - `count`: how many steps were made before this one. All lanes of a study share
            it, so that a `lax.cond` on it stays a branch under `vmap`.
        - `state`: what `init` or the last `step` returned.

        **Returns:**

        The step size, finite and non-negative for every finite input; a
        [`curvopt.StepInfo`][]; and the new state, of the same structure and shapes.
        """

    def checked_init(self, y: PyTree[Array]) -> Any:
        """`init` as a solver calls it: hyper-parameters take the dtype of the scalars, and
        each array gets its own buffer, so that it can be donated."""
        with promotion():
            state = cast_hyperparameters(self, scalar_dtype(y)).init(y)
        return tree_copy(state)

    def checked_step(
        self, line: Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, StepInfo, Any]:
        """`step` as a solver calls it: hyper-parameters take the dtype of the scalars, and
        the returned values are checked.

        **Raises:**

        `ValueError` naming the class and what it returned.
        """
        dtype = scalar_dtype(line.y)
        with promotion():
            out = cast_hyperparameters(self, dtype).step(line, count, state)
        step_size, info, new_state = _checked_out(self, "step", "step size", out)
        if jnp.shape(step_size) != ():
            raise ValueError(
                f"{type(self).__name__}.step must return one number as the step size, but "
                f"it has shape {jnp.shape(step_size)}."
            )
        new_state = check_state(type(self).__name__, new_state, state)
        return jnp.asarray(step_size, dtype), info.astype(dtype), new_state


class AbstractGradientSearch(AbstractLineSearch):
    """A line search that ends where it has evaluated the gradient.

    `optx.minimise` begins the next step with that loss and that gradient, instead of
    evaluating them once more. (The sweeps are not handed on: a curvature there costs a
    gradient more.) On mini-batches, where the next step has another loss, it is a line
    search like any other, and so it is inside a wrapper.

    It implements `search` instead of `step`.
    """

    @abc.abstractmethod
    def search(
        self, line: Line, count: Int[Array, ""], state: Any
    ) -> tuple[Trial, StepInfo, Any]:
        """Choose the point at which the step ends.

        **Arguments:**

        As for `step`.

        **Returns:**

        The [`curvopt.Trial`][] there, with its gradient, from `line.trial` or `line.start`;
        a [`curvopt.StepInfo`][], in which a trial counts as a gradient, or as a loss if its
        gradient was not wanted; and the new state.
        """

    def step(
        self, line: Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, StepInfo, Any]:
        trial, info, state = self.search(line, count, state)
        return trial.step_size, info, state

    def checked_search(
        self, line: Line, count: Int[Array, ""], state: Any
    ) -> tuple[Trial, StepInfo, Any]:
        """`search` as a solver calls it: see `checked_step`."""
        dtype = scalar_dtype(line.y)
        with promotion():
            out = cast_hyperparameters(self, dtype).search(line, count, state)
        trial, info, new_state = _checked_out(self, "search", "curvopt.Trial", out)
        if not isinstance(trial, Trial):
            raise ValueError(
                f"{type(self).__name__}.search must return a curvopt.Trial, from "
                f"`line.trial(t)` or `line.start`, but it returned {trial!r}."
            )
        return trial, info.astype(dtype), check_state(type(self).__name__, new_state, state)


def _checked_out(rule: AbstractLineSearch, method: str, first: str, out: Any) -> tuple:
    """What a rule returned, checked to be three things."""
    if not (isinstance(out, tuple) and len(out) == 3 and isinstance(out[1], StepInfo)):
        raise ValueError(
            f"{type(rule).__name__}.{method} must return ({first}, curvopt.StepInfo, "
            f"state), but it returned {out!r}."
        )
    return out
