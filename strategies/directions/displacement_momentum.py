from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import curvopt

from .._single_steps import check_single_steps


class DisplacementMomentumState(eqx.Module):
    """How many steps, the displacement, and the states of the two inner strategies."""

    count: Int[Array, ""]
    displacement: PyTree[Array]
    direction: Any
    line_search: Any


class DisplacementMomentum(curvopt.AbstractDirection):
    r"""Momentum of displacements, not of gradients: every step $\tau u$ that a line search
    chooses along another direction enters an average, which is followed.

    $d^+ = \beta d + (1 - \beta) \tau u$. For a constant $\tau$ and $u = -g$ it is
    normalised heavy-ball momentum. Where $\tau$ changes, what was sized in the past keeps
    the size that it had, and the line search sees the inner direction alone, which has no
    memory: there the learning rate keeps its scale.

    The length is part of the answer: step by `LearningRate(1.0)`. Its fresh part is
    $\tau u$. What the inner line search measured and which of its guards acted is not in
    the record; what it cost is.

    **Arguments:**

    - `direction`: $u$, a direction without memory: `SGD()`, `RMSProp()`.
    - `line_search`: chooses $\tau$ along it.
    - `decay`: $\beta$ in $[0, 1)$.

    This project's.
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
