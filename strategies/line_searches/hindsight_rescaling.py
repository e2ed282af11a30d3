import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from ._measure import first_step_size


class HindsightRescalingState(eqx.Module):
    """The point and the length of the direction at the last step, the averages of descent
    and sharpness (zero at the start), and the last step size before the schedule (zero
    before the first)."""

    y: PyTree[Array]
    length: Scalar
    descent: Scalar
    sharpness: Scalar
    last: Scalar


class HindsightRescaling(curvopt.AbstractLineSearch):
    r"""The curvature rescaling, measured in hindsight: each batch judges the step before
    it, $\tau = 2 \ell \max(N, 0) / D$.

    With $d = y_k - y_{k-1} = \tau_{k-1} u_{k-1}$, the gradient and the curvature of the new
    batch along the last step give

    $$n = (\langle d, H_k d \rangle - \langle g_k, d \rangle) / \tau_{k-1}, \qquad
    \kappa = \langle d, H_k d \rangle / \tau_{k-1}^2,$$

    the descent at the start of that step and its curvature. $N$ and $D$ are averages of
    $n$ and $|\kappa|$. The last direction never saw the new batch, so that $n$ estimates
    $-\langle \nabla F(y_{k-1}), u_{k-1} \rangle$ without the noise that a direction shares
    with its own gradient.

    Where the loss no longer decreases, $N / D = \tau / 2$, whatever the direction: the step
    size is multiplied by $\ell$, again and again. So it anneals by itself for $\ell < 1$,
    as fast as progress allows, and needs no horizon. $\ell = 1/2$ minimises the parabola
    along each step. That is short-sighted where the noise is in other eigenvectors than
    the progress; a larger $\ell$ anneals later.

    It costs as much as `CurvatureRescaling`, and remembers one copy of the parameters.

    **Arguments:**

    - `learning_rate`: $\ell \geq 0$.
    - `schedule`: a function of the step count with peak 1 that multiplies the step size.
    - `window`: the averages reach back over this fraction of the steps so far, and ten
        steps more: their decay is $1 - 1 / (10 + c k)$.
    - `max_change`: the largest relative change of the step size, before the schedule, from
        one step to the next.
    - `first`: the first step moves the parameters by this fraction of their norm.

    A slope or curvature that is not finite makes the step zero and does not change the
    averages.

    Source: this project.
    """

    learning_rate: curvopt.Number = curvopt.hyperparameter(0.65, at_least=0)
    schedule: curvopt.Schedule | None = curvopt.schedule(None)
    window: curvopt.Number = curvopt.hyperparameter(1.0, at_least=0)
    max_change: curvopt.Number = curvopt.hyperparameter(0.1, above=0, below=1)
    first: curvopt.Number = curvopt.hyperparameter(1e-3, above=0)

    def init(self, y: PyTree[Array]) -> HindsightRescalingState:
        zero = jnp.zeros((), curvopt.scalar_dtype(y))
        return HindsightRescalingState(y, zero, zero, zero, zero)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: HindsightRescalingState
    ) -> tuple[Scalar, curvopt.StepInfo, HindsightRescalingState]:
        moved = jax.tree.map(jnp.subtract, line.y, state.y)
        # The step that was taken, also if another rule around this one changed it.
        distance, length = curvopt.tree_norm(moved), curvopt.tree_norm(line.u)
        taken = distance / jnp.where(state.length > 0, state.length, 1)
        made = (distance > 0) & (state.length > 0)
        past, unit = line.along(moved), jnp.where(made, taken, 1)
        slope, curvature = past.slope / unit, past.curvature() / unit**2
        finite = ~made | jnp.isfinite(slope) & jnp.isfinite(curvature)

        decay = 1 - 1 / (10 + self.window * count)
        average = lambda old, new: jnp.where(
            made & finite, decay * old + (1 - decay) * new.astype(old.dtype), old
        )
        descent = average(state.descent, taken * curvature - slope)
        sharpness = average(state.sharpness, jnp.abs(curvature))

        flat = sharpness <= 0
        wanted = 2 * self.learning_rate * jnp.maximum(descent, 0)
        wanted = jnp.where(flat, state.last, wanted / jnp.where(flat, 1, sharpness))
        bounds = (1 - self.max_change) * state.last, (1 + self.max_change) * state.last
        free = jnp.clip(wanted, *bounds)
        free = jnp.where(state.last > 0, free, first_step_size(line, self.first))
        usable = finite & jnp.isfinite(length)
        factor = 1 if self.schedule is None else self.schedule(count)
        info = curvopt.StepInfo(
            slope=slope,
            curvature=curvature,
            curvatures=1,
            flat=flat & made,
            negative=curvature < 0,
            limited=free != wanted,
            nonfinite=~usable,
        )
        state = HindsightRescalingState(
            line.y,
            jnp.where(usable, length, 0),
            descent,
            sharpness,
            jnp.where(usable, free, state.last),
        )
        return jnp.where(usable, factor * free, 0), info, state
