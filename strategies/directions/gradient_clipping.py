from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

import curvopt


class GradientClipping(curvopt.AbstractDirection):
    r"""Any direction, of a clipped gradient $\min(1, c / \|g\|) \, g$. The norm is that of
    all parameters together.

    Only the gradient that the direction reads is clipped. Slopes and curvatures are those
    of the loss, for the direction and for the line search. A rule that divides one by the
    other takes the same step along $g$ at any length: clip where a learning rate, or the
    memory of a direction, multiplies $g$ by something fixed.

    The record has the norm of $g$ itself: it was clipped where `gradient_norm` is above
    `max_norm`. A gradient that is not finite stays so.

    **Arguments:**

    - `direction`: any direction that reads the gradient.
    - `max_norm`: $c > 0$.

    **Raises:**

    `ValueError` if the direction does not read the gradient, as
    [`strategies.ForwardGradient`][].

    Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.
    """

    direction: curvopt.AbstractDirection
    max_norm: curvopt.Number = curvopt.hyperparameter(1.0, above=0)

    def __check_init__(self) -> None:
        if not self.direction.reads_gradient:
            raise ValueError(
                "direction must read the gradient, which is clipped, but "
                f"{self.direction!r} does not. Leave out the clipping."
            )

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> Any:
        return self.direction.init(y, key=key)

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: Any
    ) -> tuple[curvopt.Descent, Any]:
        norm = curvopt.tree_norm(model.grad)
        factor = jnp.where(norm > self.max_norm, self.max_norm / norm, 1)
        clipped = jax.tree.map(lambda g: (factor * g).astype(g.dtype), model.grad)
        # Only this field: `model.slope` keeps the gradient of the loss.
        model = eqx.tree_at(lambda model: model.grad, model, clipped)
        return self.direction.step(model, y, state)
