import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree, Scalar

import curvopt


class GeneralizedNewton(curvopt.AbstractLineSearch):
    r"""GeN: the learning rate follows the minimiser of the parabola through three losses.

    With $\varphi_-, \varphi_0, \varphi_+$ at $-\ell, 0, \ell$,
    $\tau^* = \frac{\ell}{2} \frac{\varphi_- - \varphi_+}{\varphi_- - 2 \varphi_0 +
    \varphi_+}$, and $\ell^+ = \beta \ell + (1 - \beta) \, \mathrm{clip}(\tau^*, \ell / c,
    c \, \ell)$ is the step.

    Where the parabola does not open upwards, the direction does not descend by these
    losses, or one of them is not finite, the learning rate stays the same. It costs two
    losses. The published method acts at every fourth step, `EveryK(GeneralizedNewton(),
    4)`. With `smoothing` 0 and `clip` infinite it is exact on a parabola. In float32 the
    differences of nearby losses are mostly rounding errors where $\ell$ is far too small.

    **Arguments:**

    - `learning_rate`: the initial $\ell$, above 0.
    - `smoothing`: $\beta$ in $[0, 1)$.
    - `clip`: $c \geq 1$, may be infinite.

    Source: *Gradient descent with generalized Newton's method*, arXiv 2407.02772 (ICLR
    2025) (read in its code). There the trial losses are on a new batch; here they are on
    the batch of the step, as for every rule.
    """

    learning_rate: curvopt.Number = curvopt.hyperparameter(1e-4, above=0)
    smoothing: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)
    clip: curvopt.Number = curvopt.hyperparameter(2.0, at_least=1)

    def init(self, y: PyTree[Array]) -> Scalar:
        return self.learning_rate.astype(curvopt.scalar_dtype(y))

    def step(
        self, line: curvopt.Line, count: Int[Array, ""], state: Scalar
    ) -> tuple[Scalar, curvopt.StepInfo, Scalar]:
        del count
        # The state is the learning rate, which is also the distance of the trials.
        behind, here, ahead = line.at(-state), line.value, line.at(state)
        # Slope and curvature up to factors of the step size: only their ratio is needed.
        descent, curvature = (behind - ahead) / 2, behind - 2 * here + ahead
        finite = jnp.isfinite(descent) & jnp.isfinite(curvature)
        accepted = finite & (descent > 0) & (curvature > 0)
        exact = state * descent / jnp.where(accepted, curvature, 1)
        target = jnp.clip(exact, state / self.clip, state * self.clip)
        mixed = self.smoothing * state + (1 - self.smoothing) * target
        step_size = jnp.where(accepted & jnp.isfinite(mixed), mixed, state)
        info = curvopt.StepInfo(
            losses=2,
            ascent=descent < 0,
            flat=finite & (curvature == 0),
            negative=curvature < 0,
            limited=accepted & (target != exact),
            nonfinite=~finite,
        )
        return step_size, info, step_size
