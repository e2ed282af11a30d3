import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Int, PyTree, Scalar, ScalarLike

from ._checks import check_state
from ._declared import cast_hyperparameters, Declared
from ._line import Line
from ._tree import promotion, scalar_dtype, tree_copy


def not_measured() -> float:
    """What stands in a record for a number that was not asked for: nan; infinity where
    `jax_debug_nans` is on, which stops at any nan."""
    forbidden = jax.config.jax_debug_nans  # pyright: ignore[reportAttributeAccessIssue]
    return jnp.inf if forbidden else jnp.nan


_COUNTS = ("curvatures", "losses", "slopes", "gradients")
_GUARDS = ("ascent", "flat", "negative", "limited", "nonfinite", "exhausted")


class StepInfo(eqx.Module):
    """What a line search measured, what it cost and which of its guards acted; for the
    record and for the cost.

    ```python
    curvopt.StepInfo(slope=line.slope, losses=2, ascent=line.slope > 0)
    ```

    **Attributes:**

    - `slope`, `curvature`: as measured, along whichever line the rule looks; `nan`
        where it did not ask (infinite where `jax_debug_nans` forbids a nan).
    - `curvatures`, `losses`, `slopes`, `gradients`: how often it asked for
        `line.curvature()`, `line.at(t)`, `line.slope_at(t)` and `line.grad_at(t)` at
        run time. The value and gradient at `y` are every step's and not counted.
    - `ascent`: the direction was not one of descent (slope above zero).
    - `flat`: the curvature was zero, or too small to divide by.
    - `negative`: the curvature was negative.
    - `limited`: a limit or clip changed the step.
    - `nonfinite`: a slope, curvature or trial was not finite.
    - `exhausted`: a search ended without meeting its condition.

    All may be left out.
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
        """What was asked for and how often, by name."""
        return {name: getattr(self, name) for name in _COUNTS}

    @property
    def guards(self) -> dict[str, Bool[Array, ""]]:
        """Which guards acted, by name."""
        return {name: getattr(self, name) for name in _GUARDS}

    def plus(self, other: "StepInfo") -> "StepInfo":
        """What a rule that wraps another one adds to its record: the counts are added, and
        the guards are those that acted in either."""
        counts = {name: n + other.counts[name] for name, n in self.counts.items()}
        guards = {name: x | other.guards[name] for name, x in self.guards.items()}
        return StepInfo(slope=self.slope, curvature=self.curvature, **counts, **guards)

    def astype(self, dtype: Any) -> "StepInfo":
        """The same with its floating-point numbers in `dtype`."""
        return jtu.tree_map(
            lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, self
        )


class AbstractLineSearch(Declared):
    """How far: turns a line into a step size.

    Its fields are declared by [`curvopt.hyperparameter`][] and its relatives. A rule with
    memory writes `init` as well.
    """

    @property
    def steps_per_batch(self) -> int:
        """How many steps in a row it needs on one batch: the most that a rule which it
        wraps needs, or 1."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        inner = [x.steps_per_batch for x in values if isinstance(x, AbstractLineSearch)]
        return max([1, *inner])

    def init(self, y: PyTree[Array]) -> Any:
        """The state before the first step; `None` unless a rule says otherwise.

        **Arguments:**

        - `y`: the initial parameters. Scalars of the state belong in
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
        - `count`: how many steps were made before this one. It is shared by all lanes
            of a study, so that a `lax.cond` on it stays a branch under `vmap`.
        - `state`: what `init` or the last `step` returned.

        **Returns:**

        The step size, finite and non-negative for every finite input; a
        [`curvopt.StepInfo`][]; and the new state, of the same structure and shapes.
        """

    def checked_init(self, y: PyTree[Array]) -> Any:
        """`init` as a solver calls it: the hyper-parameters in the dtype of the scalars,
        and each array in a buffer of its own, which may be donated."""
        with promotion():
            state = cast_hyperparameters(self, scalar_dtype(y)).init(y)
        return tree_copy(state)

    def checked_step(
        self, line: Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, StepInfo, Any]:
        """`step` as a solver calls it: the hyper-parameters in the dtype of the scalars,
        and what it returns checked.

        **Raises:**

        `ValueError` naming the class and what it returned.
        """
        name, dtype = type(self).__name__, scalar_dtype(line.y)
        with promotion():
            out = cast_hyperparameters(self, dtype).step(line, count, state)
        if not (isinstance(out, tuple) and len(out) == 3 and isinstance(out[1], StepInfo)):
            raise ValueError(
                f"{name}.step must return (step size, curvopt.StepInfo, state), but it "
                f"returned {out!r}."
            )
        step_size, info, new_state = out
        if jnp.shape(step_size) != ():
            raise ValueError(
                f"{name}.step must return one number as the step size, but it has shape "
                f"{jnp.shape(step_size)}."
            )
        new_state = check_state(name, new_state, state)
        return jnp.asarray(step_size, dtype), info.astype(dtype), new_state
