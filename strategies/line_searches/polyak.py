import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class Polyak(curvopt.AbstractLineSearch):
    r"""Polyak's step on the mini-batch of the step, with limited growth:
    $\tau_k = \min\left(\frac{\max(f - f^*, 0)}{c \, (-\varphi'(0))},
    \gamma^{1/n} \tau_{k-1}\right)$ with $n$ steps in an epoch.

    For $u = -g$ the denominator is $c \|g\|^2$, as published; along any other direction
    the slope replaces $\|g\|^2$ (this project's choice). The step is zero where the slope
    is not negative, where a value is not finite, and where $f = f^*$.

    **Arguments:**

    - `lower_bound`: $f^*$, a lower bound of the loss.
    - `scale`: $c > 0$.
    - `growth`: $\gamma \geq 1$.
    - `initial`: $\tau_{-1} > 0$, from which the first step grows.
    - `steps_per_epoch`: $n$, an integer of at least 1; static. The default, 1, is for full
        batches; for mini-batches pass `problem.steps_per_epoch`.

    Source: Loizou et al., *Stochastic Polyak Step-size for SGD* (2021), `sps` with smooth
    iterations (read in its code).
    """

    lower_bound: curvopt.Number = curvopt.hyperparameter(0.0)
    scale: curvopt.Number = curvopt.hyperparameter(0.5, above=0)
    growth: curvopt.Number = curvopt.hyperparameter(2.0, at_least=1, below=float("inf"))
    initial: curvopt.Number = curvopt.hyperparameter(1.0, above=0)
    steps_per_epoch: int = curvopt.count(1)

    def init(self, y: PyTree[Array]) -> Scalar:
        return self.initial.astype(curvopt.scalar_dtype(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Scalar
    ) -> tuple[Scalar, curvopt.StepInfo, Scalar]:
        del count
        value, slope = line.value, line.slope
        descends = slope < 0
        finite = jnp.isfinite(value) & jnp.isfinite(slope)
        gap = jnp.maximum(value - self.lower_bound, 0)
        # The product may underflow: 0 / 0 is no step, and the bound limits all others.
        wanted = gap / jnp.where(descends, -self.scale * slope, 1)
        wanted = jnp.where(gap > 0, wanted, 0)
        bound = self.growth ** (1 / self.steps_per_epoch) * state
        step_size = jnp.where(finite & descends, jnp.minimum(wanted, bound), 0)
        info = curvopt.StepInfo(
            slope=slope,
            ascent=slope > 0,
            limited=descends & (wanted > bound),
            nonfinite=~finite,
        )
        last = jnp.where(step_size > 0, step_size, state)
        return step_size, info, last
