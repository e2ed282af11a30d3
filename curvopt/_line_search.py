import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Int, PyTree, Scalar, ScalarLike

from ._describe import readable
from ._line import Line


def not_measured() -> float:
    """What stands in a record for a number that was not asked for: nan; infinity where
    `jax_debug_nans` is on, which stops at any nan."""
    forbidden = jax.config.jax_debug_nans  # pyright: ignore[reportAttributeAccessIssue]
    return jnp.inf if forbidden else jnp.nan


class Guards(eqx.Module):
    """Which of a rule's guards acted in a step, as booleans; for the record.

    **Attributes:**

    - `ascent`: the direction was not one of descent (slope above zero).
    - `flat`: the curvature was zero, or too small to divide by.
    - `negative`: the curvature was negative.
    - `limited`: a limit or clip changed the step.
    - `nonfinite`: a slope, curvature or trial was not finite.
    - `exhausted`: a search ended without meeting its condition.
    """

    ascent: Bool[Array, ""]
    flat: Bool[Array, ""]
    negative: Bool[Array, ""]
    limited: Bool[Array, ""]
    nonfinite: Bool[Array, ""]
    exhausted: Bool[Array, ""]

    def __init__(
        self,
        *,
        ascent: Any = False,
        flat: Any = False,
        negative: Any = False,
        limited: Any = False,
        nonfinite: Any = False,
        exhausted: Any = False,
    ):
        self.ascent = jnp.asarray(ascent)
        self.flat = jnp.asarray(flat)
        self.negative = jnp.asarray(negative)
        self.limited = jnp.asarray(limited)
        self.nonfinite = jnp.asarray(nonfinite)
        self.exhausted = jnp.asarray(exhausted)

    def __or__(self, other: "Guards") -> "Guards":
        """The guards that acted in either."""
        return jtu.tree_map(jnp.logical_or, self, other)


class StepInfo(eqx.Module):
    """What a line search asked for and what it saw; for the record and for the cost.

    **Attributes:**

    - `slope`, `curvature`: as measured, along whichever line the rule looks; `nan`
        where it did not ask (infinite where `jax_debug_nans` forbids a nan).
    - `curvatures`, `losses`, `slopes`, `gradients`: how often it asked for
        `line.curvature()`, `line.at(t)`, `line.slope_at(t)` and `line.grad_at(t)` at
        run time. The value and gradient at `y` are every step's and not counted.
    - `guards`: which guards acted.
    """

    slope: Scalar
    curvature: Scalar
    curvatures: Int[Array, ""]
    losses: Int[Array, ""]
    slopes: Int[Array, ""]
    gradients: Int[Array, ""]
    guards: Guards

    def __init__(
        self,
        *,
        slope: ScalarLike | None = None,
        curvature: ScalarLike | None = None,
        curvatures: Any = 0,
        losses: Any = 0,
        slopes: Any = 0,
        gradients: Any = 0,
        guards: Guards | None = None,
    ):
        self.slope = jnp.asarray(not_measured() if slope is None else slope)
        self.curvature = jnp.asarray(not_measured() if curvature is None else curvature)
        self.curvatures = jnp.asarray(curvatures, jnp.int32)
        self.losses = jnp.asarray(losses, jnp.int32)
        self.slopes = jnp.asarray(slopes, jnp.int32)
        self.gradients = jnp.asarray(gradients, jnp.int32)
        self.guards = Guards() if guards is None else guards

    def plus(
        self,
        *,
        curvatures: Any = 0,
        losses: Any = 0,
        slopes: Any = 0,
        gradients: Any = 0,
        guards: Guards | None = None,
    ) -> "StepInfo":
        """The same with more evaluations counted and more guards that acted: what a rule
        that wraps another one adds."""
        return StepInfo(
            slope=self.slope,
            curvature=self.curvature,
            curvatures=self.curvatures + curvatures,
            losses=self.losses + losses,
            slopes=self.slopes + slopes,
            gradients=self.gradients + gradients,
            guards=self.guards if guards is None else self.guards | guards,
        )

    def astype(self, dtype: Any) -> "StepInfo":
        """The same with its floating-point numbers in `dtype`."""
        return jtu.tree_map(
            lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, self
        )


class AbstractLineSearch(eqx.Module):
    """How far: turns a line into a step size.

    A rule that needs several steps in a row on the same batch says so by a class variable
    `steps_per_batch: ClassVar[int]`; a rule that wraps it need not repeat it.
    """

    def __repr__(self) -> str:
        return readable(self)

    @abc.abstractmethod
    def init(self, y: PyTree[Array]) -> Any:
        """The state before the first step.

        **Arguments:**

        - `y`: the initial parameters. Scalars of the state belong in
            `curvopt.scalar_dtype(y)`.

        **Returns:**

        A pytree of arrays.
        """

    @abc.abstractmethod
    def step(
        self, line: Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, StepInfo, Any]:
        r"""Choose the step size $\tau$ in $y^+ = y + \tau u$.

        **Arguments:**

        - `line`: the loss along the direction.
        - `count`: how many steps were made before this one. It is shared by all lanes
            of a study, so that a `lax.cond` on it stays a branch under `vmap`.
        - `state`: what `init` or the last `step` returned.

        **Returns:**

        The step size, finite and non-negative for every finite input; a
        [`curvopt.StepInfo`][]; and the new state, of the same structure and dtypes.
        """


def steps_per_batch(rule: AbstractLineSearch) -> int:
    """How many steps in a row a rule wants on one batch: the most that it, or a rule which
    it wraps, asks for."""
    values = (getattr(rule, field.name) for field in dataclasses.fields(rule))
    inner = [steps_per_batch(x) for x in values if isinstance(x, AbstractLineSearch)]
    return max([getattr(rule, "steps_per_batch", 1), *inner])
