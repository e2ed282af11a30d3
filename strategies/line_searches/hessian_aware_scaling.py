from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Scalar

import curvopt

from ._armijo import backtrack, sufficient_decrease, with_derivative_of


class HessianAwareScaling(curvopt.AbstractLineSearch):
    r"""Scales the direction by its curvature, then searches along it.

    With $\kappa = \langle u, H u \rangle$ the direction is scaled by

    - $-\varphi'(0) / \kappa$ where the curvature is strong, $\kappa > \sigma \|u\|^2$;
    - `weak_scale` where it is weak, $0 \leq \kappa \leq \sigma \|u\|^2$;
    - `negative_scale` where it is negative;

    and Armijo's search starts from that scale $t_0$: the first of $t_0, t_0 \rho, \dots$
    with $\varphi(t) \leq \varphi(0) + c \, t \, \varphi'(0)$. Where the curvature is not
    strong and the first trial is accepted, the search continues forward, $t_0 / \rho,
    t_0 / \rho^2, \dots$, as long as the condition holds.

    **Arguments:**

    - `strong`: $\sigma > 0$.
    - `weak_scale`: in $(0, 1 / \sigma]$.
    - `negative_scale`: above 0.
    - `backtrack`: $\rho$ in $(0, 1)$.
    - `sufficient`: $c$ in $[0, 1)$.
    - `fallback`: the step size where no trial is accepted, or the direction does not
        descend, at least 0. (Where a value is not finite the step is zero.)
    - `max_trials`: the largest number of trials, backward and forward each; static.

    Source: Smee, Roosta & Wright, *First-ish Order Methods: Hessian-aware Scalings of
    Gradient Descent*, arXiv 2502.03701 (restated; one reimplementation searches forward
    only where the curvature is negative). It leaves the two scales open; 1 is this
    project's choice.
    """

    strong: curvopt.Number = curvopt.hyperparameter(0.1, above=0)
    weak_scale: curvopt.Number = curvopt.hyperparameter(
        1.0,
        above=0,
        # 1 / strong is rounded, and must itself be allowed.
        at_most=lambda rule: (1 + 1e-6) / rule.strong,
    )
    negative_scale: curvopt.Number = curvopt.hyperparameter(1.0, above=0)
    backtrack: curvopt.Number = curvopt.hyperparameter(0.5, above=0, below=1)
    sufficient: curvopt.Number = curvopt.hyperparameter(1e-4, at_least=0, below=1)
    fallback: curvopt.Number = curvopt.hyperparameter(0.0, at_least=0)
    max_trials: int = curvopt.count(50)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Any
    ) -> tuple[Scalar, curvopt.StepInfo, None]:
        del count, state
        slope, curvature = line.slope, line.curvature()
        negative = curvature < 0
        u = line.u
        is_strong = curvature > self.strong * curvopt.tree_dot(u, u)
        exact = -slope / jnp.where(is_strong, curvature, 1)
        scale = jnp.where(negative, self.negative_scale, self.weak_scale)
        initial = jnp.where(is_strong, exact, scale)
        # `backtrack` does not search from nan, and flags it.
        initial = jnp.where(jnp.isfinite(curvature), initial, jnp.nan)
        search = backtrack(
            line,
            initial,
            factor=self.backtrack,
            sufficient=self.sufficient,
            fallback=self.fallback,
            max_trials=self.max_trials,
        )
        farther = search.met & (search.info.losses == 1) & ~is_strong
        step_size, forward = self._forward(line, search.step_size, farther)
        info = curvopt.StepInfo(
            slope=slope,
            curvature=curvature,
            curvatures=1,
            losses=forward,
            flat=~is_strong & ~negative,
            negative=negative,
        )
        return step_size, info.plus(search.info), None

    def _forward(
        self, line: curvopt.Line, t: Scalar, farther: Array
    ) -> tuple[Scalar, Array]:
        """The last of `t`, `t / backtrack`, ... before one lacks sufficient decrease, and
        the number of losses that were evaluated."""

        def unfinished(carry: Any) -> Array:
            _, trials, met = carry
            return met & (trials < self.max_trials)

        def try_next(carry: Any) -> Any:
            t, trials, _ = carry
            next_t = t / jax.lax.stop_gradient(self.backtrack)
            met = sufficient_decrease(line, next_t, self.sufficient)
            return jnp.where(met, next_t, t), trials + 1, met

        start = (jax.lax.stop_gradient(t), jnp.array(0, jnp.int32), farther)
        last, trials, met = jax.lax.while_loop(unfinished, try_next, start)
        # Unless the trials ran out, the last one was rejected.
        accepted = trials - (farther & ~met)
        return with_derivative_of(t / self.backtrack**accepted, last), trials
