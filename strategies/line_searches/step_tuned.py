import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class StepTunedState(eqx.Module):
    r"""Parameters and gradient before the first half-step, the average change of the
    gradient and its weight, and $\gamma$."""

    y: PyTree[Array]
    grad: PyTree[Array]
    average: PyTree[Array]
    weight: Scalar
    gamma: Scalar


class StepTuned(curvopt.AbstractLineSearch):
    r"""Step-Tuned SGD: two half-steps on one batch; the change of the gradient between them
    sets the step size of the next two.

    At the $k$-th batch both half-steps are $\tau = \alpha \gamma_k / (k + 1)^{1/2 +
    \delta}$. With the change $s$ of the parameters and $z$ of the gradient over the first
    of them, and the exponential average $\bar z$ of $z$ (corrected for its start at zero),
    $\gamma_{k+1} = \|s\|^2 / \langle \bar z, s \rangle$ if that is positive, else $\nu$,
    clipped to $[m, M]$.

    It needs two steps on each batch (`steps_per_batch`), which [`curvopt.train`][] and
    [`curvopt.run_study`][] provide; a step here is half of a published one.

    **Arguments:**

    - `learning_rate`: $\alpha > 0$.
    - `nonconvex`: $\nu > 0$, used where the curvature is not positive.
    - `average`: the decay $\beta$ in $[0, 1)$ of $\bar z$.
    - `lowest`, `highest`: $m$ and $M$.
    - `decrease`: $\delta$ in $[0, 1/2]$.

    Source: Castera, Bolte, Févotte & Pauwels, *Second-order step-size tuning of SGD for
    non-convex optimization*, arXiv 2103.03570, algorithm 2 (read).
    """

    learning_rate: curvopt.Number = curvopt.hyperparameter(above=0)
    nonconvex: curvopt.Number = curvopt.hyperparameter(2.0, above=0)
    average: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)
    lowest: curvopt.Number = curvopt.hyperparameter(0.5, above=0)
    highest: curvopt.Number = curvopt.hyperparameter(2.0, at_least="lowest")
    decrease: curvopt.Number = curvopt.hyperparameter(0.001, at_least=0, at_most=0.5)

    @property
    def steps_per_batch(self) -> int:
        return 2

    def init(self, y: PyTree[Array]) -> StepTunedState:
        zeros, dtype = curvopt.tree_zeros(y), curvopt.scalar_dtype(y)
        zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
        return StepTunedState(zeros, zeros, zeros, zero, one)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: StepTunedState
    ) -> tuple[Scalar, curvopt.StepInfo, StepTunedState]:
        # Both half-steps on a batch have the same decay.
        decay = (count // 2 + 1.0) ** -(0.5 + self.decrease)
        step_size = self.learning_rate * state.gamma * decay
        here = jax.tree.map(
            lambda new, old: new.astype(old.dtype),
            (line.y, line.grad),
            (state.y, state.grad),
        )

        def first() -> tuple[StepTunedState, curvopt.StepInfo]:
            y, grad = here
            kept = StepTunedState(y, grad, state.average, state.weight, state.gamma)
            return kept, curvopt.StepInfo()

        def second() -> tuple[StepTunedState, curvopt.StepInfo]:
            s, z = jax.tree.map(jnp.subtract, here, (state.y, state.grad))
            mix = lambda old, new: (self.average * old + (1 - self.average) * new).astype(
                old.dtype
            )
            average = jax.tree.map(mix, state.average, z)
            weight = mix(state.weight, 1)
            curvature = curvopt.tree_dot(average, s) / weight
            positive = curvature > 0
            ratio = curvopt.tree_dot(s, s) / jnp.where(positive, curvature, 1)
            wanted = jnp.where(positive, ratio, self.nonconvex)
            gamma = jnp.clip(wanted, self.lowest, self.highest)
            # One batch whose gradient is not finite must not stay in the average.
            finite = jnp.isfinite(curvature)
            new = StepTunedState(state.y, state.grad, average, weight, gamma)
            new = jax.tree.map(
                lambda a, b: jnp.where(finite, a, b).astype(b.dtype), new, state
            )
            info = curvopt.StepInfo(
                flat=curvature == 0,
                negative=curvature < 0,
                limited=finite & (gamma != wanted),
                nonfinite=~finite,
            )
            return new, info

        state, info = jax.lax.cond(count % 2 == 0, first, second)
        return step_size, info, state
