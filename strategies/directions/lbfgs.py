import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt


class LBFGSState(eqx.Module):
    r"""Parameters and gradient where the last step began; the kept changes of parameters
    ($s$) and of the gradient ($z$) along a leading axis, where the newest overwrites the
    oldest; $1 / \langle s, z \rangle$ of each pair, zero for an empty place; whether there
    ever was a pair; and $\gamma$."""

    count: Int[Array, ""]
    y: PyTree[Array]
    grad: PyTree[Array]
    s: PyTree[Array]
    z: PyTree[Array]
    weights: Float[Array, " history"]
    paired: Bool[Array, ""]
    scale: Scalar


class LBFGS(curvopt.AbstractDirection):
    r"""L-BFGS: the limited-memory quasi-Newton direction $u = -B g$, with $B$ an
    approximation of the inverse Hessian from the last changes $s$ of the parameters and $z$
    of the gradient.

    $B$ starts from $\gamma I$ with $\gamma = \langle s, z \rangle / \langle z, z \rangle$
    of the last pair; the two-loop recursion applies it. A pair without enough curvature,
    $\langle s, z \rangle \leq c \, |\langle g^-, s \rangle|$ with the gradient $g^-$ where
    the step began, is left out, so that $u$ descends; the test does not depend on the
    scales of the parameters. Such a pair takes the place of the oldest one all the same, so
    that no pair is older than `history` steps. Where rounding errors make $u$ no direction
    of descent, or the last step did not move, all pairs are left out. Before the first pair
    $\gamma = 1 / \max(\|g\|, 1)$: the first direction is not longer than 1. Its memory *is*
    the direction: the fresh part is the direction.

    **Arguments:**

    - `history`: the number of pairs to keep, an integer of at least 1; static. The state
        takes `2 * history` times the memory of the parameters.
    - `curvature`: $c$ in $[0, 1)$, the least relative change of the slope along a step.

    Source: Nocedal & Wright, Numerical Optimization, algorithms 7.4 and 7.5. What happens
    to pairs without curvature, and the first scale, are this project's choice; a search for
    the Wolfe conditions, such as [`strategies.StrongWolfe`][], produces no such pairs.
    """

    history: int = curvopt.count(10)
    curvature: curvopt.Number = curvopt.hyperparameter(1e-8, at_least=0, below=1)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> LBFGSState:
        del key
        zeros, dtype = curvopt.tree_zeros(y), curvopt.scalar_dtype(y)
        # Pairs of weight zero leave the two-loop recursion unchanged.
        empty = jax.tree.map(lambda x: jnp.stack([x] * self.history), zeros)
        return LBFGSState(
            count=jnp.array(0, jnp.int32),
            y=zeros,
            grad=zeros,
            s=empty,
            z=empty,
            weights=jnp.zeros(self.history, dtype),
            paired=jnp.array(False),
            scale=jnp.ones((), dtype),
        )

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: LBFGSState
    ) -> tuple[curvopt.Descent, LBFGSState]:
        like = lambda new, old: jax.tree.map(lambda a, b: a.astype(b.dtype), new, old)
        y, grad = like(y, state.y), like(model.grad, state.grad)
        unmoved = eqx.tree_equal((y, grad), (state.y, state.grad)) & (state.count > 0)
        state = self._remember(y, grad, state)
        product = self._product(grad, state)
        # No line search would leave this point: it has just failed to, or rounding has
        # made B indefinite.
        length = curvopt.tree_norm(grad)
        ascends = curvopt.tree_dot(grad, product) < 0
        restart = jnp.isfinite(length) & (unmoved | ascends)
        first = (1 / jnp.maximum(length, 1)).astype(state.scale.dtype)
        instead = lambda g, bg: -jnp.where(restart, first * g, bg)
        u = jax.tree.map(instead, grad, product)
        state = dataclasses.replace(
            state,
            weights=jnp.where(restart, 0, state.weights),
            scale=jnp.where(restart, first, state.scale),
            paired=state.paired & ~restart,
        )
        return curvopt.Descent(like(u, state.y)), state

    def _remember(
        self, y: PyTree[Array], grad: PyTree[Array], state: LBFGSState
    ) -> LBFGSState:
        """The state with the last change as its newest pair."""
        s = jax.tree.map(jnp.subtract, y, state.y)
        z = jax.tree.map(jnp.subtract, grad, state.grad)
        sz, zz = curvopt.tree_dot(s, z), curvopt.tree_dot(z, z)
        least = self.curvature * jnp.abs(curvopt.tree_dot(s, state.grad))
        # A pair that is not finite, or whose quotients are not, would stay for `history`
        # steps.
        usable = jnp.isfinite(zz) & jnp.isfinite(1 / sz) & jnp.isfinite(sz / zz)
        # The first step has no earlier point to compare with.
        kept = (state.count > 0) & (sz > least) & usable
        at = state.count % self.history

        # A pair of weight zero is left out by the weight, unless it is not finite.
        def put(old: Array, new: Array) -> Array:
            new = jnp.where(kept, new, 0).astype(old.dtype)
            return jax.lax.dynamic_update_index_in_dim(old, new, at, 0)

        dtype = state.scale.dtype
        weight = jnp.where(kept, 1 / jnp.where(kept, sz, 1), 0)
        is_new = jnp.arange(self.history) == at
        first = 1 / jnp.maximum(curvopt.tree_norm(grad), 1)
        scale = jnp.where(kept, sz / jnp.where(kept, zz, 1), state.scale)
        scale = jnp.where(state.paired | kept, scale, first)
        return LBFGSState(
            count=state.count + 1,
            y=y,
            grad=grad,
            s=jax.tree.map(put, state.s, s),
            z=jax.tree.map(put, state.z, z),
            weights=jnp.where(is_new, weight, state.weights).astype(state.weights.dtype),
            paired=state.paired | kept,
            scale=scale.astype(dtype),
        )

    def _product(self, grad: PyTree[Array], state: LBFGSState) -> PyTree[Array]:
        """The two-loop recursion, $B g$."""
        newest_first = (state.count - 1 - jnp.arange(self.history)) % self.history
        pair = lambda k: jax.tree.map(
            lambda x: _place(x, k), (state.s, state.z, state.weights)
        )
        add = lambda c, x, a: (x + c * a).astype(x.dtype)

        def down(q: PyTree[Array], k: Any) -> tuple[PyTree[Array], Scalar]:
            s, z, weight = pair(k)
            alpha = weight * curvopt.tree_dot(s, q)
            return jax.tree.map(lambda q, z: add(-alpha, q, z), q, z), alpha

        def up(r: PyTree[Array], at: Any) -> tuple[PyTree[Array], None]:
            k, alpha = at
            s, z, weight = pair(k)
            change = alpha - weight * curvopt.tree_dot(z, r)
            return jax.tree.map(lambda r, s: add(change, r, s), r, s), None

        q, alphas = jax.lax.scan(down, grad, newest_first)
        r = jax.tree.map(lambda x: (state.scale * x).astype(x.dtype), q)
        # Reversed: from the oldest pair to the newest.
        r, _ = jax.lax.scan(up, r, (newest_first, alphas), reverse=True)
        return r


def _place(x: Array, k: Any) -> Array:
    """`x[k]`, without a gather: on sharded arrays its output sharding is ambiguous."""
    return jax.lax.dynamic_index_in_dim(x, k, 0, keepdims=False)
