from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from .._hindsight import first_step_size, learning_rate


class LayerwiseRescalingState(eqx.Module):
    """The step count, the state of the direction, the point and the lengths of the layers
    of the direction at the last step, the averages of descent and curvature, and, for each
    layer, the last step size and the length of its longest step so far (zero before the
    first)."""

    count: Int[Array, ""]
    direction: Any
    y: PyTree[Array]
    lengths: Float[Array, " layer"]
    descent: Float[Array, " layer"]
    curvature: Float[Array, "layer layer"]
    last: Float[Array, " layer"]
    longest: Float[Array, " layer"]


class LayerwiseRescaling(curvopt.AbstractDirection):
    r"""A step size for each layer of any direction, $u' = \sum_i \tau_i u_i$, measured in
    hindsight: each batch judges the step before it.

    $u_i$ is $u$ in layer $i$ and zero elsewhere. With $d = y_k - y_{k-1}$ and its layers
    $d_i = \tau_i u_i$, the gradient and the curvature matrix of the new batch give

    $$n_i = \Big( \sum_j \langle d_i, H_k d_j \rangle - \langle g_k, d_i \rangle \Big) /
    \tau_i, \qquad \kappa_{ij} = \langle d_i, H_k d_j \rangle / (\tau_i \tau_j),$$

    the descent along each layer at the start of that step, and how the layers curve the
    loss together. $N_i$ and $K_{ij}$ are averages of $n_i$ and $\kappa_{ij}$
    ($|\kappa_{ii}|$ on the diagonal), both divided by $\|u_{k-1}\|^2$. Then

    $$\tau_i = 2 \ell \, \frac{\max(N_i, 0)}{\sum_j |K_{ij}| \sqrt{K_{ii} / K_{jj}}}.$$

    For one layer this is [`strategies.HindsightRescaling`][], whose docstring explains the
    averages, $\ell$ and the limits of growth; each layer has its own. The denominators
    $a_i$ bound the curvature, $\sum_{ij} K_{ij} \tau_i \tau_j \leq \sum_i a_i \tau_i^2$:
    for $\ell \leq 1$ the quadratic model does not rise, whatever the cross terms are.
    Layers are not trusted to compensate each other, and those that do the same share the
    step.

    The direction includes the step sizes: use it with `LearningRate(1.0)`. The matrix costs
    more than one curvature ([`curvopt.QuadraticModel.curvature_matrix`][]), but little from
    a part of the batch, with [`curvopt.SubsampledCurvature`][].

    **Arguments:**

    - `direction`: $u$, any direction that includes no step size.
    - `learning_rate`: $\ell \geq 0$, by default as in `HindsightRescaling`.
    - `schedule`: a function of the step count with peak 1 that multiplies the step sizes.
    - `labels`: what the layers are: a function of the parameters, or a pytree of labels, as
        in [`curvopt.partition`][]. Static. By default each block of a deep network is one
        ([`curvopt.block_labels`][]).
    - `growth`: $p$; the longest step of a layer grows as $k^p$ at most.
    - `max_change`: the largest relative change of each step size from one step to the next.
    - `first`: the first step moves the parameters by this fraction of their norm, with one
        step size for all layers.

    Where a slope or curvature is not finite, the direction is zero and the averages do not
    change.

    Source: this project.
    """

    direction: curvopt.AbstractDirection
    learning_rate: curvopt.OptionalNumber = curvopt.hyperparameter(None, at_least=0)
    schedule: curvopt.Schedule | None = curvopt.schedule(None)
    labels: Any = eqx.field(static=True, default=curvopt.block_labels, kw_only=True)
    growth: curvopt.Number = curvopt.hyperparameter(2.0, above=0)
    max_change: curvopt.Number = curvopt.hyperparameter(0.1, above=0, below=1)
    first: curvopt.Number = curvopt.hyperparameter(3e-3, above=0)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> LayerwiseRescalingState:
        zeros = jnp.zeros(len(self._layers(y)), curvopt.scalar_dtype(y))
        return LayerwiseRescalingState(
            jnp.array(0, jnp.int32),
            self.direction.init(y, key=key),
            y,
            zeros,
            zeros,
            jnp.outer(zeros, zeros),
            zeros,
            zeros,
        )

    def step(
        self,
        model: curvopt.QuadraticModel,
        y: PyTree[Array],
        state: LayerwiseRescalingState,
    ) -> tuple[curvopt.Descent, LayerwiseRescalingState]:
        inner, direction = self.direction.step(model, y, state.direction)
        u = self._layers(inner.u)
        lengths = _norms(u)
        descent, curvature, finite = self._averages(model, y, state)

        # By identity, while tracing: `Descent` without a fresh part has `u` twice.
        memory = inner.u is not inner.fresh
        rate = learning_rate(self.learning_rate, self.schedule, memory)
        root = jnp.sqrt(jnp.diag(curvature))
        root = jnp.where(root > 0, root, 1)
        bound = root * (jnp.abs(curvature) @ (1 / root))
        wanted = 2 * rate * jnp.maximum(descent, 0) / jnp.where(bound > 0, bound, 1)
        wanted = jnp.where(bound > 0, wanted, state.last)
        bounds = (1 - self.max_change) * state.last, (1 + self.max_change) * state.last
        reach = (1 + self.growth / (10 + state.count)) * state.longest
        reach = jnp.where(lengths > 0, reach / jnp.where(lengths > 0, lengths, 1), jnp.inf)
        new = jnp.minimum(jnp.clip(wanted, *bounds), reach)
        # A layer that has not moved yet, or at the first step all of them.
        first = first_step_size(y, inner.u, self.first)
        new = jnp.where(state.last > 0, new, first)

        usable = finite & jnp.all(jnp.isfinite(lengths))
        factor = 1 if self.schedule is None else self.schedule(state.count)
        scaled = eqx.combine(*map(_scaled, u, factor * new))
        # Not zero times the direction, which may be nan.
        scaled = jax.tree.map(lambda x: jnp.where(usable, x, 0), scaled)
        state = LayerwiseRescalingState(
            state.count + 1,
            direction,
            y,
            jnp.where(usable, lengths, 0),
            descent,
            curvature,
            jnp.where(usable, new, state.last),
            jnp.where(usable, jnp.maximum(state.longest, new * lengths), state.longest),
        )
        return curvopt.Descent(scaled), state

    def _averages(
        self,
        model: curvopt.QuadraticModel,
        y: PyTree[Array],
        state: LayerwiseRescalingState,
    ) -> tuple[Array, Array, Array]:
        """Descent and curvature with what this batch says of the last step, and whether it
        is finite."""
        moved = self._layers(jax.tree.map(jnp.subtract, y, state.y))
        # The step that was taken, also if a line search changed it.
        distances = _norms(moved)
        made = (distances > 0) & (state.lengths > 0)
        inverse = jnp.where(made, 1 / jnp.where(made, distances, 1), 0)
        # At length one: the square of a short distance would be zero.
        units = list(map(_scaled, moved, inverse))
        matrix = model.curvature_matrix(units)
        slopes = jnp.stack([model.slope(unit) for unit in units])
        slopes = slopes - matrix @ jnp.where(made, distances, 0)  # at that step's start
        finite = jnp.all(jnp.isfinite(matrix)) & jnp.all(jnp.isfinite(slopes))

        before = jnp.where(jnp.any(made), jnp.linalg.norm(state.lengths), 1)
        shares = state.lengths / before
        matrix = jnp.where(jnp.eye(len(matrix), dtype=bool), jnp.abs(matrix), matrix)
        memory = 1 / (10 + state.count)
        average = lambda old, new: jnp.where(
            finite & jnp.any(made), old + memory * (new.astype(old.dtype) - old), old
        )
        descent = average(state.descent, -slopes * shares / before)
        curvature = average(state.curvature, matrix * jnp.outer(shares, shares))
        return descent, curvature, finite

    def _layers(self, tree: PyTree) -> list[PyTree]:
        return curvopt.partition(tree, self.labels)


def _norms(layers: list[PyTree]) -> Float[Array, " layer"]:
    return jnp.stack([curvopt.tree_norm(layer) for layer in layers])


def _scaled(layer: PyTree, factor: Scalar) -> PyTree:
    return jax.tree.map(lambda x: (factor * x).astype(x.dtype), layer)
