import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

import curvopt


class ForwardGradientState(eqx.Module):
    """The key, and the number of directions drawn from it."""

    key: PRNGKeyArray
    count: Int[Array, ""]


class ForwardGradient(curvopt.AbstractDirection):
    r"""A random direction with the sign that descends:
    $u = -\mathrm{sign}(\langle g, v \rangle) \, v$, $v \sim N(0, I)$.

    It needs one slope and never the gradient. With [`curvopt.ForwardCurvature`][] as the
    solver's `curvature` the slope is one `jvp`, and no backward sweep runs at all; the
    other methods compute it from the gradient. With [`strategies.CurvatureRescaling`][] it
    is FoMoH-1D; $K$ of them in [`strategies.HyperplaneSearch`][] are FoMoH-KD.

    Source: *Second-Order Forward-Mode Automatic Differentiation for Optimization*, arXiv
    2408.10419 (read in its code).
    """

    @property
    def reads_gradient(self) -> bool:
        return False

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> ForwardGradientState:
        del y
        return ForwardGradientState(key, jnp.array(0, jnp.int32))

    def step(
        self,
        model: curvopt.QuadraticModel,
        y: PyTree[Array],
        state: ForwardGradientState,
    ) -> tuple[curvopt.Descent, ForwardGradientState]:
        leaves, treedef = jax.tree.flatten(curvopt.tree_zeros(y))
        keys = jr.split(jr.fold_in(state.key, state.count), len(leaves))
        drawn = [jr.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves)]
        v = jax.tree.unflatten(treedef, drawn)
        # Where the slope is zero, so is the direction: neither sign descends.
        sign = jnp.sign(model.slope(v))
        direction = jax.tree.map(lambda v: (-sign * v).astype(v.dtype), v)
        return curvopt.Descent(direction), ForwardGradientState(state.key, state.count + 1)
