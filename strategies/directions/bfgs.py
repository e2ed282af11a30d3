import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

import curvopt


class BFGSState(eqx.Module):
    """Parameters and gradient where the last step began, as vectors; the approximation of
    the inverse Hessian; and whether it has seen a pair, or begun again."""

    count: Int[Array, ""]
    y: Float[Array, " n"]
    grad: Float[Array, " n"]
    inverse: Float[Array, "n n"]
    paired: Bool[Array, ""]


class BFGS(curvopt.AbstractDirection):
    r"""BFGS: the quasi-Newton direction $u = -B g$ with a dense approximation $B$ of the
    inverse Hessian, made to fit each change $z$ of the gradient along the step $s$:

    $$B^+ = (I - \rho s z^\top) B (I - \rho z s^\top) + \rho s s^\top, \qquad
    \rho = 1 / \langle s, z \rangle.$$

    $B$ starts from $I / \max(\|g\|, 1)$, so that the first direction is not longer than 1,
    and is set to $\langle s, z \rangle / \langle z, z \rangle \, I$ before the first
    update. A pair without enough curvature, $\langle s, z \rangle \leq c \, |\langle g^-, s
    \rangle|$ with the gradient $g^-$ where the step began, is left out, so that $u$ is a
    direction of descent; the test does not depend on the scales of the parameters. Where
    rounding errors make $u$ none, or the last step did not move, $B$ starts again. Its
    memory *is* the direction: the fresh part is the direction.

    It is for few parameters: the state takes the square of their number, and so do the
    operations of a step. [`strategies.LBFGS`][] is for many, and for parameters that are
    split along explicit mesh axes: BFGS makes one vector of them.

    **Arguments:**

    - `curvature`: $c$ in $[0, 1)$, the least relative change of the slope along a step.

    Source: Nocedal & Wright, Numerical Optimization, algorithm 6.1, and equation 6.20 for
    the scale before the first update. Pairs without curvature are left out, and the first
    scale chosen, as in [`strategies.LBFGS`][].
    """

    curvature: curvopt.Number = curvopt.hyperparameter(1e-8, at_least=0, below=1)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> BFGSState:
        del key
        zeros, _ = ravel_pytree(curvopt.tree_zeros(y))
        return BFGSState(
            count=jnp.array(0, jnp.int32),
            y=zeros,
            grad=zeros,
            inverse=jnp.eye(zeros.size, dtype=zeros.dtype),
            paired=jnp.array(False),
        )

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: BFGSState
    ) -> tuple[curvopt.Descent, BFGSState]:
        dtype = state.y.dtype
        # Wide before they are flattened: `unravel` returns to the dtypes it was made with.
        wide = lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree)
        (point, unravel), (grad, _) = ravel_pytree(wide(y)), ravel_pytree(wide(model.grad))
        s, z = point - state.y, grad - state.grad
        length = curvopt.tree_norm(grad)
        first = 1 / jnp.maximum(length, 1)
        # The new matrix is not needed for u: large ones are read three times a step.
        bz, bg = state.inverse @ z, state.inverse @ grad
        ss, sz, sg, zz, zbz, gbz, bzbz = (
            jnp.dot(a, b)
            for a, b in ((s, s), (s, z), (s, grad), (z, z), (z, bz), (grad, bz), (bz, bz))
        )
        usable = jnp.isfinite(zz) & jnp.isfinite(1 / sz) & jnp.isfinite(sz / zz)
        enough = sz > self.curvature * jnp.abs(sg - sz)
        # The first step has no earlier point to compare with.
        kept = (state.count > 0) & enough & usable

        # B is the identity before the first pair.
        scale = jnp.where(kept, sz / jnp.where(kept, zz, 1), first)
        scale = jnp.where(state.paired, 1, scale)
        bz, bg, zbz, gbz = (scale * x for x in (bz, bg, zbz, gbz))
        # B+ = scale B + a s s' - b (s bz' + bz s').
        b = 1 / jnp.where(kept, sz, 1)
        a = b * (1 + b * zbz)
        kept &= jnp.isfinite(a * ss) & jnp.isfinite(
            b * scale * jnp.sqrt(ss) * jnp.sqrt(bzbz)
        )
        u = -jnp.where(kept, bg + (a * sg - b * gbz) * s - b * sg * bz, bg)

        # No line search would leave this point: it has just failed to, or rounding has
        # made B indefinite.
        unmoved = (state.count > 0) & jnp.all((s == 0) & (z == 0))
        restart = jnp.isfinite(length) & (unmoved | (jnp.dot(grad, u) > 0))
        u = jnp.where(restart, -first * grad, u)
        updated = (
            scale * state.inverse
            + a * jnp.outer(s, s)
            - b * (jnp.outer(s, bz) + jnp.outer(bz, s))
        )
        inverse = jnp.where(kept, updated, state.inverse)
        identity = jnp.eye(grad.size, dtype=dtype)
        inverse = jnp.where(restart, first * identity, inverse)
        # After a restart B is not scaled: a scale that fits one direction may have been
        # what stopped the others.
        paired = state.paired | kept | restart
        state = BFGSState(state.count + 1, point, grad, inverse, paired)
        return curvopt.Descent(unravel(u)), state
