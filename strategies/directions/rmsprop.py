import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import curvopt


class _State(eqx.Module):
    count: Int[Array, ""]
    squares: PyTree[Array]


class RMSProp(curvopt.AbstractDirection):
    r"""RMSProp: gradients over their root mean square.

    $v^+ = \rho v + (1 - \rho) g^2$, $\hat v = v^+ / (1 - \rho^k)$ at the $k$-th step, and
    $u = -g / (\sqrt{\hat v} + \epsilon)$, element by element. It has no memory of its
    direction: the fresh part is the direction.

    **Arguments:**

    - `decay`: $\rho$ in $[0, 1)$.
    - `epsilon`: $\epsilon \geq 0$.

    Source: Hinton 2012; the bias correction is Adam's.
    """

    decay: curvopt.Number = curvopt.hyperparameter(0.999, at_least=0, below=1)
    epsilon: curvopt.Number = curvopt.hyperparameter(1e-8, at_least=0)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> _State:
        del key
        return _State(jnp.array(0, jnp.int32), curvopt.tree_zeros(y))

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: _State
    ) -> tuple[curvopt.Descent, _State]:
        del y
        count = state.count + 1
        # Widened before they are squared: in float16 the square of 1e-4 is zero.
        squares = jax.tree.map(
            lambda v, g: self.decay * v + (1 - self.decay) * g.astype(v.dtype) ** 2,
            state.squares,
            model.grad,
        )
        correction = 1 - self.decay**count
        # With `epsilon` 0 an element whose gradient is always zero divides 0 by 0.
        direction = jax.tree.map(
            lambda v, g: curvopt.safe_divide(-g, jnp.sqrt(v / correction) + self.epsilon),
            squares,
            model.grad,
        )
        return curvopt.Descent(direction), _State(count, squares)
