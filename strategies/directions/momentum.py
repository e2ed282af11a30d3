import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt


class Momentum(curvopt.AbstractDirection):
    r"""Heavy ball or Nesterov momentum.

    $m^+ = \beta m + (1 - d) g$, and $u = -m^+$, or with Nesterov
    $u = -((1 - d) g + \beta m^+)$.

    Its fresh part is $-g$. It need not be a direction of descent.

    **Arguments:**

    - `decay`: $\beta$ in $[0, 1)$.
    - `dampening`: $d$ in $[0, 1]$. `None` (the default) is $d = \beta$, the normalised
        form, an average of gradients; 0 is the classical form, a sum of them, which is
        longer by $1 / (1 - \beta)$. With a tuned learning rate the two differ only by that
        factor. With a step sized along the fresh part the classical form carries
        $1 / (1 - \beta)$ times as much noise.
    - `nesterov`: whether to use Nesterov's momentum.

    Source: Polyak 1964; Sutskever et al. 2013. The default dampening is this project's
    choice.
    """

    decay: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)
    dampening: curvopt.OptionalNumber = curvopt.hyperparameter(None, at_least=0, at_most=1)
    nesterov: bool = eqx.field(static=True, default=False)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> PyTree[Array]:
        del key
        return curvopt.tree_zeros(y)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: PyTree[Array]
    ) -> tuple[curvopt.Descent, PyTree[Array]]:
        del y
        weight = 1 - (self.decay if self.dampening is None else self.dampening)
        add = lambda m, g: self.decay * m + weight * g
        memory = jax.tree.map(add, state, model.grad)
        # Nesterov's look-ahead is the same update once more.
        ahead = jax.tree.map(add, memory, model.grad) if self.nesterov else memory
        direction, fresh = jax.tree.map(jnp.negative, (ahead, model.grad))
        return curvopt.Descent(direction, fresh), memory
