import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt

from .._hindsight import first_step_size, learning_rate


class HindsightRescalingState(eqx.Module):
    """The point and the length of the direction at the last step, the averages of descent
    and sharpness, and, before the schedule, the last step size and the length of the
    longest step so far (zero before the first)."""

    y: PyTree[Array]
    length: Scalar
    descent: Scalar
    sharpness: Scalar
    last: Scalar
    longest: Scalar


class HindsightRescaling(curvopt.AbstractLineSearch):
    r"""The curvature rescaling, measured in hindsight: each batch judges the step before
    it, $\tau = 2 \ell \max(N, 0) / D$.

    With $d = y_k - y_{k-1} = \tau_{k-1} u_{k-1}$, the gradient and the curvature of the new
    batch along the last step give

    $$n = (\langle d, H_k d \rangle - \langle g_k, d \rangle) / \tau_{k-1}, \qquad
    \kappa = \langle d, H_k d \rangle / \tau_{k-1}^2,$$

    the descent at the start of that step and its curvature. The last direction never saw
    the new batch, so that $n$ estimates $-\langle \nabla F(y_{k-1}), u_{k-1} \rangle$
    without the noise that a direction shares with its own gradient. $N$ and $D$ are
    averages of $n$ and $|\kappa|$, both divided by $\|u_{k-1}\|^2$: a few long directions
    do not dominate them, and $D$ has the scale of an eigenvalue of $H$.

    Where the loss no longer decreases, $N / D$ is half the mean step size, whatever the
    direction. With averages over all steps the step size then falls as
    $k^{-(1 - \ell)}$: it anneals by itself for $\ell < 1$, and progress holds it up. So it
    needs no horizon. With a schedule, which anneals too, $\ell$ is larger. Without one,
    average the parameters ([`strategies.WindowAverage`][]): for such steps that removes the
    noise that is left (Polyak & Juditsky 1992).

    The averages can judge a step only after some time, so steps must not grow faster than
    they follow: $\tau_k \|u_k\|$ is at most $1 + p / (10 + k)$ times the longest step so
    far. A bound on the step size alone is not enough. Where the gradient grows by itself,
    as it does when a network leaves the plateau of its initialisation, the steps of SGD
    and momentum grow with it.

    It costs as much as `CurvatureRescaling`, and remembers one copy of the parameters.

    **Arguments:**

    - `learning_rate`: $\ell \geq 0$. The default, `None`, is 0.65 for directions with a
        memory, such as Momentum and Adam, and 1.5 for those without one, such as SGD and
        RMSProp; with a schedule it is 0.8 and 2. A direction has a memory if it is not its
        own fresh part.
    - `schedule`: a function of the step count with peak 1 that multiplies the step size.
    - `window`: $c$; the averages have the decay $1 - 1 / (10 + c k)$. They reach back over
        all steps with 1, and over the last half of them with 1/2.
    - `growth`: $p$; the longest step grows as $k^p$ at most.
    - `max_change`: the largest relative change of the step size, before the schedule, from
        one step to the next.
    - `first`: the first step moves the parameters by this fraction of their norm.

    The record has $-n$ and $\kappa$, of the step before. A slope or curvature that is not
    finite makes the step zero and does not change the averages.

    Source: this project.
    """

    learning_rate: curvopt.OptionalNumber = curvopt.hyperparameter(None, at_least=0)
    schedule: curvopt.Schedule | None = curvopt.schedule(None)
    window: curvopt.Number = curvopt.hyperparameter(1.0, at_least=0)
    growth: curvopt.Number = curvopt.hyperparameter(2.0, above=0)
    max_change: curvopt.Number = curvopt.hyperparameter(0.1, above=0, below=1)
    first: curvopt.Number = curvopt.hyperparameter(3e-3, above=0)

    def init(self, y: PyTree[Array]) -> HindsightRescalingState:
        zero = jnp.zeros((), curvopt.scalar_dtype(y))
        return HindsightRescalingState(y, zero, zero, zero, zero, zero)

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: HindsightRescalingState
    ) -> tuple[Scalar, curvopt.StepInfo, HindsightRescalingState]:
        moved = jax.tree.map(jnp.subtract, line.y, state.y)
        # The step that was taken, also if another rule around this one changed it.
        distance, length = curvopt.tree_norm(moved), curvopt.tree_norm(line.u)
        made = (distance > 0) & (state.length > 0)
        unit, before = (jnp.where(made, x, 1) for x in (distance, state.length))
        # At length one: the square of a short distance would be zero.
        along = jax.tree.map(lambda x: (x / unit).astype(x.dtype), moved)
        past = line.along(along)
        curvature = past.curvature()
        slope = past.slope - unit * curvature  # at the start of that step
        finite = ~made | jnp.isfinite(slope) & jnp.isfinite(curvature)

        memory = 1 / (10 + self.window * count)
        average = lambda old, new: jnp.where(
            made & finite, old + memory * (new.astype(old.dtype) - old), old
        )
        descent = average(state.descent, -slope / before)
        sharpness = average(state.sharpness, jnp.abs(curvature))

        flat = sharpness <= 0
        # By identity, while tracing: `Descent` without a fresh part has `u` twice.
        memory = line.u is not line.fresh.u
        rate = learning_rate(self.learning_rate, self.schedule, memory)
        wanted = 2 * rate * jnp.maximum(descent, 0)
        wanted = jnp.where(flat, state.last, wanted / jnp.where(flat, 1, sharpness))
        bounds = (1 - self.max_change) * state.last, (1 + self.max_change) * state.last
        reach = (1 + self.growth / (10 + count)) * state.longest
        reach = jnp.where(length > 0, reach / jnp.where(length > 0, length, 1), jnp.inf)
        free = jnp.minimum(jnp.clip(wanted, *bounds), reach)
        first = first_step_size(line.y, line.u, self.first)
        free = jnp.where(state.last > 0, free, first)
        usable = finite & jnp.isfinite(length)
        factor = 1 if self.schedule is None else self.schedule(count)
        info = curvopt.StepInfo(
            slope=slope * before,
            curvature=curvature * before**2,
            curvatures=1,
            flat=flat & made,
            negative=curvature < 0,
            limited=free != wanted,
            nonfinite=~usable,
        )
        longest = jnp.maximum(state.longest, free * length)
        state = HindsightRescalingState(
            line.y,
            jnp.where(usable, length, 0),
            descent,
            sharpness,
            jnp.where(usable, free, state.last),
            jnp.where(usable, longest, state.longest),
        )
        return jnp.where(usable, factor * free, 0), info, state
