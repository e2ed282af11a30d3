import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import curvopt


class _State(eqx.Module):
    count: Int[Array, ""]
    means: PyTree[Array]
    squares: PyTree[Array]


class Adam(curvopt.AbstractDirection):
    r"""Adam: averaged gradients over their root mean square.

    $m^+ = \beta_1 m + (1 - \beta_1) g$, $v^+ = \beta_2 v + (1 - \beta_2) g^2$, both
    corrected for their start at zero ($\hat m$, $\hat v$), and
    $u = -\hat m / (\sqrt{\hat v} + \epsilon)$, element by element.

    Its fresh part is $-g / (\sqrt{\hat v} + \epsilon)$, a direction of descent. For AdamW
    see [`strategies.WeightDecay`][].

    **Arguments:**

    - `decay`, `square_decay`: $\beta_1$ and $\beta_2$ in $[0, 1)$.
    - `epsilon`: $\epsilon \geq 0$.

    Source: Kingma & Ba 2015, algorithm 1. The fresh part is this project's notion.
    """

    decay: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)
    square_decay: curvopt.Number = curvopt.hyperparameter(0.999, at_least=0, below=1)
    epsilon: curvopt.Number = curvopt.hyperparameter(1e-8, at_least=0)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> _State:
        del key
        zeros = curvopt.tree_zeros(y)
        return _State(jnp.array(0, jnp.int32), zeros, zeros)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: _State
    ) -> tuple[curvopt.Descent, _State]:
        del y
        count = state.count + 1
        means = jax.tree.map(
            lambda m, g: self.decay * m + (1 - self.decay) * g, state.means, model.grad
        )
        # Widened before they are squared: in float16 the square of 1e-4 is zero.
        squares = jax.tree.map(
            lambda v, g: (
                self.square_decay * v + (1 - self.square_decay) * g.astype(v.dtype) ** 2
            ),
            state.squares,
            model.grad,
        )
        # The averages start at zero.
        mean_correction = 1 - self.decay**count
        square_correction = 1 - self.square_decay**count

        def precondition(m: Array, v: Array) -> Array:
            scale = jnp.sqrt(v / square_correction) + self.epsilon
            # With `epsilon` 0 an element whose gradient is always zero divides 0 by 0.
            return curvopt.safe_divide(-m, scale)

        corrected = jax.tree.map(lambda m: m / mean_correction, means)
        direction = jax.tree.map(precondition, corrected, squares)
        fresh = jax.tree.map(precondition, model.grad, squares)
        return curvopt.Descent(direction, fresh), _State(count, means, squares)
