import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import curvopt


class INNApropState(eqx.Module):
    r"""The step count, the average of squared gradients, and $\psi$."""

    count: Int[Array, ""]
    squares: PyTree[Array]
    psi: PyTree[Array]


class INNAprop(curvopt.AbstractDirection):
    r"""INNAprop: inertial Newton dynamics, preconditioned as in RMSProp.

    $v^+ = \sigma v + (1 - \sigma) g^2$,
    $\psi^+ = (1 - \gamma / \beta) \psi + \gamma (1/\beta - \alpha) y$ and
    $y^+ = (1 + \gamma \frac{1 - \alpha\beta}{\beta - \gamma}) y -
    \frac{\gamma}{\beta - \gamma} \psi^+ - \gamma\beta \frac{g}{\sqrt{\hat v} + \epsilon}$,
    with $\hat v$ corrected for its start at zero, $\psi_0 = (1 - \alpha\beta) y_0$, and
    $y$ first decayed to $(1 - \lambda\gamma) y$. The direction is $u = y^+ - y$. It
    includes the step size: use it with `LearningRate(1.0)`. At $\alpha = \beta = 1$ it is
    RMSProp with bias correction. Its fresh part is the last term.

    **Arguments:**

    - `learning_rate`: $\gamma$ in $(0, \beta)$.
    - `schedule`: a function of the step count with peak 1 that multiplies $\gamma$.
    - `alpha`: $\alpha \geq 0$, viscous damping.
    - `beta`: $\beta > 0$, Newton damping.
    - `square_decay`: $\sigma$ in $[0, 1)$.
    - `epsilon`: $\epsilon \geq 0$.
    - `weight_decay`: $\lambda \geq 0$.

    Source: *A second-order-like optimizer with adaptive gradient scaling for deep
    learning*, arXiv 2410.05871 (read in its code).
    """

    learning_rate: curvopt.Number = curvopt.hyperparameter(1e-3, above=0, below="beta")
    schedule: curvopt.Schedule | None = curvopt.schedule(None)
    alpha: curvopt.Number = curvopt.hyperparameter(0.1, at_least=0)
    beta: curvopt.Number = curvopt.hyperparameter(0.9, above=0)
    square_decay: curvopt.Number = curvopt.hyperparameter(0.999, at_least=0, below=1)
    epsilon: curvopt.Number = curvopt.hyperparameter(1e-8, at_least=0)
    weight_decay: curvopt.Number = curvopt.hyperparameter(0.01, at_least=0)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> INNApropState:
        del key
        zeros = curvopt.tree_zeros(y)
        psi = jax.tree.map(
            lambda y, z: ((1 - self.alpha * self.beta) * y).astype(z.dtype), y, zeros
        )
        return INNApropState(jnp.array(0, jnp.int32), zeros, psi)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: INNApropState
    ) -> tuple[curvopt.Descent, INNApropState]:
        alpha, beta = self.alpha, self.beta
        factor = 1 if self.schedule is None else self.schedule(state.count)
        gamma = self.learning_rate * factor
        count = state.count + 1
        correction = 1 - self.square_decay**count
        decayed = jax.tree.map(
            lambda y, psi: ((1 - self.weight_decay * gamma) * y).astype(psi.dtype),
            y,
            state.psi,
        )
        squares = jax.tree.map(
            lambda v, g: (
                self.square_decay * v + (1 - self.square_decay) * g.astype(v.dtype) ** 2
            ).astype(v.dtype),
            state.squares,
            model.grad,
        )
        psi = jax.tree.map(
            lambda psi, y: (
                (1 - gamma / beta) * psi + gamma * (1 / beta - alpha) * y
            ).astype(psi.dtype),
            state.psi,
            decayed,
        )
        fresh = jax.tree.map(
            lambda g, v: (
                curvopt.safe_divide(
                    -gamma * beta * g, jnp.sqrt(v / correction) + self.epsilon
                )
            ).astype(v.dtype),
            model.grad,
            squares,
        )
        pull = gamma / (beta - gamma)

        def displacement(y: Array, decayed: Array, psi: Array, fresh: Array) -> Array:
            # y+ - y, without the rounding of adding y and subtracting it again.
            inertia = pull * ((1 - alpha * beta) * decayed - psi)
            return ((decayed - y) + inertia + fresh).astype(psi.dtype)

        direction = jax.tree.map(displacement, y, decayed, psi, fresh)
        return curvopt.Descent(direction, fresh), INNApropState(count, squares, psi)
