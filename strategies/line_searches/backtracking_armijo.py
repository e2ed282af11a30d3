from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class BacktrackingArmijo(curvopt.AbstractLineSearch):
    r"""The first of $t_0, t_0 \rho, t_0 \rho^2, \dots$ with sufficient decrease,
    $\varphi(t) \leq \varphi(0) + c \, t \, \varphi'(0)$.

    A trial whose loss is not finite is a rejected one. Where the direction is not one of
    descent, or no trial is accepted, the step is zero, and the guards say so.

    **Arguments:**

    - `initial`: $t_0 > 0$.
    - `backtrack`: $\rho$ in $(0, 1)$.
    - `sufficient`: $c$ in $[0, 1)$.
    - `max_trials`: how many trials at most; static.

    Source: Nocedal & Wright, Numerical Optimization, section 3.1, algorithm 3.1
    (recalled).
    """

    initial: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=1.0)
    backtrack: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=0.5)
    sufficient: Scalar = eqx.field(converter=curvopt.as_hyperparameter, default=1e-4)
    max_trials: int = eqx.field(static=True, default=50)

    def __check_init__(self) -> None:
        curvopt.check_range("initial", self.initial, above=0)
        curvopt.check_range("backtrack", self.backtrack, above=0, below=1)
        curvopt.check_range("sufficient", self.sufficient, at_least=0, below=1)
        curvopt.check_count("max_trials", self.max_trials)

    def init(self, y: PyTree[Array]) -> None:
        del y

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, curvopt.StepInfo, None]:
        del count, state
        value, slope = line.value, line.slope
        finite = jnp.isfinite(slope) & jnp.isfinite(value)
        search = finite & (slope < 0)

        def accepts(t: Scalar) -> Array:
            return line.at(t) <= value + self.sufficient * t * slope

        def unmet(carry: Any) -> Array:
            _, trials, met = carry
            return search & ~met & (trials < self.max_trials)

        def try_next(carry: Any) -> Any:
            t, trials, _ = carry
            t = jnp.where(trials == 0, t, t * self.backtrack)
            return t, trials + 1, accepts(t)

        initial = jnp.asarray(self.initial, value.dtype)
        t, trials, met = jax.lax.while_loop(
            unmet, try_next, (initial, jnp.array(0, jnp.int32), jnp.array(False))
        )
        info = curvopt.StepInfo(
            slope=slope,
            losses=trials,
            guards=curvopt.Guards(
                ascent=slope > 0,
                limited=met & (trials > 1),
                nonfinite=~finite,
                exhausted=search & ~met,
            ),
        )
        return jnp.where(met, t, 0), info, None
