from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import curvopt

from .._single_steps import check_single_steps


class DisplacementMomentumState(eqx.Module):
    """The step count, the displacement, and the states of the two inner strategies."""

    count: Int[Array, ""]
    displacement: PyTree[Array]
    direction: Any
    line_search: Any


class DisplacementMomentum(curvopt.AbstractDirection):
    r"""Momentum of displacements instead of gradients: it follows an average of the steps
    $\tau u$ that a line search chooses along another direction.

    $d^+ = \beta d + (1 - \beta) \tau u$. For a constant $\tau$ and $u = -g$ it is
    normalised heavy-ball momentum. Where $\tau$ changes, past steps keep the size that they
    had. The line search sees only the inner direction, which has no memory, so that the
    learning rate keeps its natural scale.

    The direction includes the step size: use it with `LearningRate(1.0)`. Its fresh part is
    $\tau u$. The record has the cost of the inner line search, but neither its measurements
    nor its guards.

    **Arguments:**

    - `direction`: $u$, a direction without memory: `SGD()`, `RMSProp()`.
    - `line_search`: chooses $\tau$ along it.
    - `decay`: $\beta$ in $[0, 1)$.

    Source: this project.
    """

    direction: curvopt.AbstractDirection
    line_search: curvopt.AbstractLineSearch
    decay: curvopt.Number = curvopt.hyperparameter(0.9, at_least=0, below=1)

    def __check_init__(self) -> None:
        check_single_steps("line_search", self.line_search)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> DisplacementMomentumState:
        return DisplacementMomentumState(
            jnp.array(0, jnp.int32),
            curvopt.tree_zeros(y),
            self.direction.init(y, key=key),
            self.line_search.init(y),
        )

    def step(
        self,
        model: curvopt.QuadraticModel,
        y: PyTree[Array],
        state: DisplacementMomentumState,
    ) -> tuple[curvopt.Descent, DisplacementMomentumState]:
        inner, direction = self.direction.step(model, y, state.direction)
        line = curvopt.Line(y, inner.u, inner.u, model)
        step_size, _, line_search = self.line_search.step(
            line, state.count, state.line_search
        )
        fresh = jax.tree.map(
            lambda u, d: (step_size * u).astype(d.dtype),
            inner.u,
            state.displacement,
        )
        displacement = jax.tree.map(
            lambda d, f: (self.decay * d + (1 - self.decay) * f).astype(d.dtype),
            state.displacement,
            fresh,
        )
        state = DisplacementMomentumState(
            state.count + 1, displacement, direction, line_search
        )
        return curvopt.Descent(displacement, fresh), state
