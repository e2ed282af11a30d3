import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from .._single_steps import check_single_steps


class RestartedState(eqx.Module):
    """The loss where the inner rule last started (infinite before), and its state."""

    start: Scalar
    inner: PyTree[Array]


class Restarted(curvopt.AbstractLineSearch):
    r"""Restarts another rule whenever the loss exceeds its value at the last restart: the
    rule's averages and limits are those of a first step again.

    A line search cannot return to an earlier point, so that no step is undone. The rule
    only forgets what led to it: around [`strategies.GrowthLimited`][] the next step is
    limited by the size of the parameters again. The memory of the *direction* stays.

    On mini-batches the loss is that of the batch. While there is little progress, noise
    restarts the rule too, but less and less often, since each restart raises the threshold.
    Where the loss is not finite the rule does not restart. It belongs inside
    [`strategies.EveryK`][], which between its own steps could only repeat a zero.

    **Arguments:**

    - `inner`: any line search that looks at single steps (not
        [`strategies.StepTuned`][]).

    Source: this project.
    """

    inner: curvopt.AbstractLineSearch

    def __check_init__(self) -> None:
        check_single_steps("inner", self.inner)

    def init(self, y: PyTree[Array]) -> RestartedState:
        # No loss exceeds infinity; the first finite loss replaces it.
        start = jnp.array(jnp.inf, curvopt.scalar_dtype(y))
        return RestartedState(start, self.inner.init(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: RestartedState
    ) -> tuple[Scalar, curvopt.StepInfo, RestartedState]:
        finite, value = jnp.isfinite(line.value), line.value.astype(state.start.dtype)
        restart = finite & (value > state.start)
        first = finite & ~jnp.isfinite(state.start)
        start = jnp.where(restart | first, value, state.start)
        inner = jtu.tree_map(
            lambda initial, old: jnp.where(restart, initial, old).astype(old.dtype),
            self.inner.init(line.y),
            state.inner,
        )
        step_size, info, inner = self.inner.step(line, count, inner)
        return step_size, info, RestartedState(start, inner)
