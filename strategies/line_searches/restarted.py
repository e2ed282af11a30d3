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
    r"""Lets another rule start anew wherever the loss exceeds what it was when the rule
    last started: its averages and limits are those of a first step again.

    A line search has no way back to an earlier point, so that this undoes no step. It only
    forgets what led to it: around [`strategies.GrowthLimited`][] the next step is once
    more limited by the size of the parameters. The memory of the *direction* stays.

    On mini-batches the loss is that of the batch. As long as there was little progress,
    noise restarts the rule too, but ever more rarely, since the bar rises each time. Where
    the loss is not finite there is nothing to start from, and nothing happens. It belongs
    inside [`strategies.EveryK`][], which between its own steps could only repeat a zero.

    **Arguments:**

    - `inner`: any line search that looks at single steps (not
        [`strategies.StepTuned`][]).

    Source: this project.
    """

    inner: curvopt.AbstractLineSearch

    def __check_init__(self) -> None:
        check_single_steps("inner", self.inner)

    def init(self, y: PyTree[Array]) -> RestartedState:
        # Before the first step no loss exceeds it, and then it becomes the first loss.
        start = jnp.array(jnp.inf, curvopt.scalar_dtype(y))
        return RestartedState(start, self.inner.init(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: RestartedState
    ) -> tuple[Scalar, curvopt.StepInfo, RestartedState]:
        finite, value = jnp.isfinite(line.value), line.value.astype(state.start.dtype)
        anew = finite & (value > state.start)
        start = jnp.where(finite & (anew | ~jnp.isfinite(state.start)), value, state.start)
        inner = jtu.tree_map(
            lambda first, old: jnp.where(anew, first, old).astype(old.dtype),
            self.inner.init(line.y),
            state.inner,
        )
        step_size, info, inner = self.inner.step(line, count, inner)
        return step_size, info, RestartedState(start, inner)
