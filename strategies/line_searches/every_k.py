import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from .._single_steps import check_single_steps


class EveryKState(eqx.Module):
    """The step size to repeat, and the inner state."""

    step_size: Scalar
    inner: PyTree[Array]


class EveryK(curvopt.AbstractLineSearch):
    r"""Runs another rule at every $k$-th step, beginning with the first, and repeats its
    step size in between.

    The evaluations of `inner` (a curvature sweep, losses) cost only at its own steps: they
    are in a branch of `jax.lax.cond`. The condition is on the step count, which all lanes
    of a study share, so that it stays a branch under `jax.vmap` there; where the count
    itself is batched (`jax.vmap` of `optx.minimise`) both branches run.

    In between nothing is measured (the record has `nan`): `inner`'s schedule and its guards
    act only at its own steps. A step that is too long, as the first may be where the
    curvature is close to zero, is then made $k$ times. Limit it, as the recipes in
    `strategies.recipes` do; the limit on growth acts once in $k$ steps.

    **Arguments:**

    - `inner`: any line search that looks at single steps (not
        [`strategies.StepTuned`][]).
    - `k`: an integer of at least 1.

    Source: this project.
    """

    inner: curvopt.AbstractLineSearch
    k: int = curvopt.count()

    def __check_init__(self) -> None:
        check_single_steps("inner", self.inner)

    def init(self, y: PyTree[Array]) -> EveryKState:
        return EveryKState(jnp.zeros((), curvopt.scalar_dtype(y)), self.inner.init(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: EveryKState
    ) -> tuple[Scalar, curvopt.StepInfo, EveryKState]:
        dtype = state.step_size.dtype

        def ask() -> tuple[curvopt.StepInfo, EveryKState]:
            step_size, info, inner = self.inner.step(line, count, state.inner)
            # The branches must agree in their dtypes.
            inner = jtu.tree_map(lambda new, old: new.astype(old.dtype), inner, state.inner)
            return info.astype(dtype), EveryKState(jnp.asarray(step_size, dtype), inner)

        def repeat() -> tuple[curvopt.StepInfo, EveryKState]:
            return curvopt.StepInfo().astype(dtype), state

        info, state = jax.lax.cond(count % self.k == 0, ask, repeat)
        return state.step_size, info, state
