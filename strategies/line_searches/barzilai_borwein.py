from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class BarzilaiBorweinState(eqx.Module):
    """Parameters and averaged gradient at the last change of the step size, the current
    average, and the step size."""

    y: PyTree[Array]
    grad: PyTree[Array]
    average: PyTree[Array]
    step_size: Scalar


class BarzilaiBorwein(curvopt.AbstractLineSearch):
    r"""Barzilai and Borwein's secant step: with the last change $s$ of the parameters and
    $z$ of the gradient, $\tau = \|s\|^2 / (n \, |\langle s, z \rangle|)$ (`"long"`, BB1) or
    $\tau = |\langle s, z \rangle| / (n \, \|z\|^2)$ (`"short"`, BB2).

    With $n = 1$ and no average it is the classical rule; on a quadratic, BB1 along $-g$ is
    the previous exact step. For mini-batches the step size changes every $n$ steps (an
    epoch), and $z$ is the change of averaged gradients; Tan et al. average with decay
    $1 - 10/n$. The loss need not decrease monotonically. The step size has the scale of the
    gradient: along a preconditioned direction (Adam's) it has no meaning.

    Where the ratio is not finite and positive, the last step size is repeated, even where
    the loss or the gradient is not finite.

    **Arguments:**

    - `initial`: the step size before there is a change to measure, above 0.
    - `kind`: `"long"` or `"short"`; static.
    - `every`: $n$, an integer of at least 1; static.
    - `average`: the decay in $[0, 1)$ of the average of gradients; 0 does not average.

    Source: Barzilai & Borwein 1988; Tan et al., *Barzilai-Borwein Step Size for Stochastic
    Gradient Descent* (2016) (read in its code): there the average starts again in each
    epoch, here it continues.
    """

    initial: curvopt.Number = curvopt.hyperparameter(1e-3, above=0)
    kind: Literal["long", "short"] = eqx.field(static=True, default="long")
    every: int = curvopt.count(1)
    average: curvopt.Number = curvopt.hyperparameter(0.0, at_least=0, below=1)

    def init(self, y: PyTree[Array]) -> BarzilaiBorweinState:
        zeros = curvopt.tree_zeros(y)
        step_size = self.initial.astype(curvopt.scalar_dtype(y))
        return BarzilaiBorweinState(zeros, zeros, zeros, step_size)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: BarzilaiBorweinState
    ) -> tuple[Scalar, curvopt.StepInfo, BarzilaiBorweinState]:
        # The first average is the first gradient, without a share of the initial zero.
        decay = jnp.where(count == 0, 0, self.average)
        average = jax.tree.map(
            lambda a, g: (decay * a + (1 - decay) * g).astype(a.dtype),
            state.average,
            line.grad,
        )

        def change() -> tuple[BarzilaiBorweinState, curvopt.StepInfo]:
            y = jax.tree.map(lambda new, old: new.astype(old.dtype), line.y, state.y)
            s = jax.tree.map(jnp.subtract, y, state.y)
            z = jax.tree.map(jnp.subtract, average, state.grad)
            curvature = curvopt.tree_dot(s, z)
            sz = jnp.abs(curvature)
            if self.kind == "long":
                ratio = curvopt.safe_divide(curvopt.tree_dot(s, s), sz)
            else:
                ratio = curvopt.safe_divide(sz, curvopt.tree_dot(z, z))
            wanted = (ratio / self.every).astype(state.step_size.dtype)
            seen, usable = count > 0, jnp.isfinite(wanted) & (wanted > 0)
            step_size = jnp.where(seen & usable, wanted, state.step_size)
            info = curvopt.StepInfo(
                flat=seen & (curvature == 0),
                negative=seen & (curvature < 0),
                nonfinite=seen & ~jnp.isfinite(curvature),
            )
            return BarzilaiBorweinState(y, average, average, step_size), info

        def keep() -> tuple[BarzilaiBorweinState, curvopt.StepInfo]:
            kept = BarzilaiBorweinState(state.y, state.grad, average, state.step_size)
            return kept, curvopt.StepInfo()

        if self.every == 1:
            state, info = change()
        else:
            state, info = jax.lax.cond(count % self.every == 0, change, keep)
        return state.step_size, info, state
