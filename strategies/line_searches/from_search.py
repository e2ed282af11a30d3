from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class FromSearchState(eqx.Module):
    """The search's own state, and the step size of its next trial."""

    search: Any
    step_size: Scalar


class FromSearch(curvopt.AbstractLineSearch):
    r"""A search of Optimistix as a line search: `FromSearch(optx.BacktrackingArmijo())`.

    Optimistix gives a search one trial at each step of a solver, and lets it reject the
    step. Here all trials of a search are made within one step, until it accepts. Searches
    that use values, the gradient, or neither are supported: `optx.LearningRate`,
    `optx.BacktrackingArmijo`, and `optx.LinearTrustRegion`, whose radius is then in units
    of the direction. `optx.ClassicalTrustRegion` needs a Hessian and is not.

    **Arguments:**

    - `search`: an `optimistix.AbstractSearch`.
    - `max_trials`: the largest number of trials, after which the step is zero; static.
        Every trial counts as one loss, whether or not the search uses it.

    **Raises:**

    `ValueError` if it is not such a search, or needs more than value and gradient.
    """

    search: optx.AbstractSearch
    max_trials: int = curvopt.count(50)

    def init(self, y: PyTree[Array]) -> FromSearchState:
        dtype = curvopt.scalar_dtype(y)
        zero = jnp.zeros((), dtype)
        struct = eqx.filter_eval_shape(lambda: optx.FunctionInfo.EvalGrad(zero, zero))
        # A loop needs a state whose types do not change, so none may be weak.
        strong = lambda x: jnp.asarray(x, jnp.result_type(x))
        state = jax.tree.map(strong, self.search.init(zero, struct))
        return FromSearchState(state, zero)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: FromSearchState
    ) -> tuple[Scalar, curvopt.StepInfo, FromSearchState]:
        # On a line there is one parameter, the step size, and the gradient is the slope.
        here = optx.FunctionInfo.EvalGrad(line.value, line.slope)
        zero = jnp.zeros_like(state.step_size)
        cast = lambda new, old: jax.tree.map(lambda n, o: n.astype(o.dtype), new, old)

        def ask(first: bool, there: Scalar, value: Scalar, state: FromSearchState) -> Any:
            info = optx.FunctionInfo.Eval(value)
            try:
                wanted, accepted, _, search = self.search.step(
                    jnp.array(first), zero, there, here, info, state.search
                )
            except ValueError as error:
                raise ValueError(
                    f"{type(self.search).__name__} cannot be used as a line search: a line "
                    "has only values and gradients. Use optx.BacktrackingArmijo, say."
                ) from error
            new = FromSearchState(search, jnp.asarray(wanted))
            return cast(new, state), accepted

        # The first query is at the start of the line; its answer is the first trial.
        started, _ = ask(True, zero, line.value, state)
        state = jax.tree.map(lambda a, b: jnp.where(count == 0, a, b), started, state)

        def rejected(carry: Any) -> Array:
            _, _, trials, accepted = carry
            return ~accepted & (trials < self.max_trials)

        def try_next(carry: Any) -> Any:
            _, state, trials, _ = carry
            t = state.step_size
            new, accepted = ask(False, t, line.at(t), state)
            return t, new, trials + 1, accepted

        finite = jnp.isfinite(line.value) & jnp.isfinite(line.slope)
        start = (zero, state, jnp.array(0, jnp.int32), ~finite)
        t, new, trials, accepted = jax.lax.while_loop(rejected, try_next, start)
        step_size = jnp.where(finite & accepted, t, 0)
        # A search that found nothing starts again.
        state = jax.tree.map(lambda a, b: jnp.where(finite & accepted, a, b), new, started)
        info = curvopt.StepInfo(
            slope=line.slope,
            losses=trials,
            ascent=line.slope > 0,
            nonfinite=~finite,
            exhausted=~accepted,
        )
        return step_size, info, state
