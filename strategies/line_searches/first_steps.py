import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from .._single_steps import check_single_steps


class FirstStepsState(eqx.Module):
    """The states of both rules."""

    first: PyTree[Array]
    then: PyTree[Array]


class FirstSteps(curvopt.AbstractLineSearch):
    r"""One rule for the first $k$ steps, and another from then on.

    `FirstSteps(CurvatureRescaling(), LearningRate(1.0))` suits a quasi-Newton direction:
    the curvature finds the scale that its first direction, $-g$, does not have, and once
    it has learned the scale its natural step is 1.

    Only the rule whose turn it is costs anything: the other is in a branch of
    `jax.lax.cond` that is not taken. The condition is on the step count, which all lanes of
    a study share; where the count itself is batched (`jax.vmap` of `optx.minimise`) both
    run.

    **Arguments:**

    - `first`, `then`: line searches that look at single steps (not
        [`strategies.StepTuned`][]).
    - `k`: an integer of at least 1.

    Source: this project.
    """

    first: curvopt.AbstractLineSearch
    then: curvopt.AbstractLineSearch
    k: int = curvopt.count(1)

    def __check_init__(self) -> None:
        check_single_steps("first", self.first)
        check_single_steps("then", self.then)

    def init(self, y: PyTree[Array]) -> FirstStepsState:
        return FirstStepsState(self.first.init(y), self.then.init(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: FirstStepsState
    ) -> tuple[Scalar, curvopt.StepInfo, FirstStepsState]:
        dtype = curvopt.scalar_dtype(line.y)
        # The branches must agree in their dtypes.
        like = lambda new, old: jtu.tree_map(lambda a, b: a.astype(b.dtype), new, old)

        def early() -> tuple[Scalar, curvopt.StepInfo, FirstStepsState]:
            step_size, info, first = self.first.step(line, count, state.first)
            new = FirstStepsState(like(first, state.first), state.then)
            return jnp.asarray(step_size, dtype), info.astype(dtype), new

        def late() -> tuple[Scalar, curvopt.StepInfo, FirstStepsState]:
            step_size, info, then = self.then.step(line, count, state.then)
            new = FirstStepsState(state.first, like(then, state.then))
            return jnp.asarray(step_size, dtype), info.astype(dtype), new

        return jax.lax.cond(count < self.k, early, late)
