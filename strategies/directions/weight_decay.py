from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt


class WeightDecay(curvopt.AbstractDirection):
    r"""Decoupled weight decay of any direction: $u' = u - \lambda y$.

    A step makes $y^+ = (1 - \tau \lambda) y + \tau u$: with a learning rate $\tau$,
    `WeightDecay(Adam(), 0.01)` is AdamW. The gradient does not see the decay, so that no
    preconditioner rescales it.

    The decay is a part of the line. With the loss $f$, without a penalty, a line search
    measures

    $$\varphi'(0) = \langle g, u \rangle - \lambda \langle g, y \rangle, \qquad
    \varphi''(0) = \langle u, H u \rangle - 2 \lambda \langle u, H y \rangle +
    \lambda^2 \langle y, H y \rangle,$$

    which is exact for the step that is made. Where $f$ is nearly stationary the decay
    ascends it, and a rule that only descends refuses the step (`guard_ascent`): for
    $u = -g$ where $\langle g, g + \lambda y \rangle \leq 0$. What such a rule should
    minimise is better said by the loss, $f(y) + \tfrac\lambda2 \|y\|^2$: the `penalty` of a
    [`curvopt.SupervisedProblem`][].

    The fresh part decays likewise. Around a direction that includes its step size, such as
    [`strategies.DisplacementMomentum`][], $\lambda$ is what each step takes away.

    **Arguments:**

    - `direction`: any direction.
    - `weight_decay`: $\lambda \geq 0$.
    - `mask`: from the parameters to booleans, a pytree like them or a prefix of it, which
        says what decays: `lambda y: jax.tree.map(lambda x: x.ndim > 1, y)`. `None` (the
        default) is everything. Static.

    Source: Loshchilov & Hutter, *Decoupled weight decay regularization*, 2019, algorithm 2.
    As in optax and PyTorch, $\tau$ multiplies the decay; in the paper only the schedule
    does.
    """

    direction: curvopt.AbstractDirection
    weight_decay: curvopt.Number = curvopt.hyperparameter(at_least=0)
    mask: Callable[[PyTree[Array]], PyTree[bool]] | None = eqx.field(
        static=True, default=None
    )

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> Any:
        return self.direction.init(y, key=key)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[curvopt.Descent, Any]:
        descent, state = self.direction.step(model, y, state)
        decays = jax.tree.broadcast(True if self.mask is None else self.mask(y), y)

        def decayed(u: PyTree[Array]) -> PyTree[Array]:
            return jax.tree.map(
                lambda decays, u, y: u - self.weight_decay * y if decays else u,
                decays,
                u,
                y,
            )

        u = decayed(descent.u)
        # Without memory both are one vector, and the line along it is evaluated once.
        fresh = u if descent.fresh is descent.u else decayed(descent.fresh)
        return curvopt.Descent(u, fresh), state
