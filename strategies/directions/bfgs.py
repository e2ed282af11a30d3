from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

import curvopt


class BFGSState(eqx.Module):
    """Parameters and gradient where the last step began, as two vectors in one array; the
    approximation of the inverse Hessian; and whether it has seen a pair, or begun again."""

    last: Float[Array, "2 n"]
    inverse: Float[Array, "n n"]
    paired: Bool[Array, ""]


class BFGS(curvopt.AbstractDirection):
    r"""BFGS: the quasi-Newton direction $u = -B g$ with a dense approximation $B$ of the
    inverse Hessian, made to fit each change $z$ of the gradient along the step $s$:

    $$B^+ = (I - \rho s z^\top) B (I - \rho z s^\top) + \rho s s^\top, \qquad
    \rho = 1 / \langle s, z \rangle.$$

    $B$ starts from $I / \max(\|g\|, 1)$, so that the first direction is not longer than 1.
    Before the first update it is set to $a \langle s, z \rangle / \langle z, z \rangle \,
    I$. With $a = 1$ that is the inverse of the largest curvatures along the first step, and
    too short for most other directions. A step that is too long costs a search a loss or
    two; one that is too short costs it gradients.

    A pair without enough curvature, $\langle s, z \rangle \leq c \, |\langle g^-, s
    \rangle|$ with the gradient $g^-$ where the step began, is left out, so that $u$ is a
    direction of descent; the test does not depend on the scales of the parameters. Where
    rounding errors make $u$ none, or the last step did not move, $B$ starts again. Its
    memory *is* the direction: the fresh part is the direction.

    It is for few parameters: the state takes the square of their number, and so do the
    operations of a step. [`strategies.LBFGS`][] is for many, and for parameters that are
    split along explicit mesh axes: BFGS makes one vector of them.

    **Arguments:**

    - `curvature`: $c$ in $[0, 1)$, the least relative change of the slope along a step.
    - `scale`: $a$, the scale of $B$ before its first update.

    Source: Nocedal & Wright, Numerical Optimization, algorithm 6.1, and equation 6.20 for
    the scale before the first update, where $a = 1$; 3 is this project's choice. Pairs
    without curvature are left out, and the first step chosen, as in [`strategies.LBFGS`][].
    """

    curvature: curvopt.Number = curvopt.hyperparameter(1e-8, at_least=0, below=1)
    scale: curvopt.Number = curvopt.hyperparameter(3.0, above=0)

    def init(self, y: PyTree[Array], *, key: PRNGKeyArray) -> BFGSState:
        del key
        point, _ = _flat(y, curvopt.scalar_dtype(y))
        return BFGSState(
            # The first step has no earlier point: its s is zero, and its pair left out.
            last=jnp.stack([point, jnp.zeros_like(point)]),
            inverse=jnp.eye(point.size, dtype=point.dtype),
            paired=jnp.array(False),
        )

    def step(
        self, model: curvopt.QuadraticModel, y: PyTree[Array], state: BFGSState
    ) -> tuple[curvopt.Descent, BFGSState]:
        dtype = state.last.dtype
        (point, unravel), (grad, _) = _flat(y, dtype), _flat(model.grad, dtype)
        here = jnp.stack([point, grad])
        s, z = here - state.last
        length = curvopt.tree_norm(grad)
        first = 1 / jnp.maximum(length, 1)
        # The new matrix is not needed for u: large ones are read three times a step.
        bz, bg = _product(state.inverse, z), _product(state.inverse, grad)
        # All inner products in one operation: the number of operations is what takes the
        # time on small problems.
        vectors = jnp.stack([s, z, grad, bz])
        products = jnp.sum(vectors[:, None] * vectors, axis=-1)
        (ss, sz, sg, _), (_, zz, _, zbz), (*_, gbz), (*_, bzbz) = products
        usable = jnp.isfinite(zz) & jnp.isfinite(1 / sz) & jnp.isfinite(sz / zz)
        kept = (sz > self.curvature * jnp.abs(sg - sz)) & usable

        # B is the identity before the first pair.
        gamma = jnp.where(kept, self.scale * sz / jnp.where(kept, zz, 1), first)
        gamma = jnp.where(state.paired, 1, gamma)
        bz, bg, zbz, gbz = (gamma * x for x in (bz, bg, zbz, gbz))
        # B+ = gamma B + a s s' - b (s bz' + bz s').
        b = 1 / jnp.where(kept, sz, 1)
        a = b * (1 + b * zbz)
        # Together they bound the elements of the new matrix: a is not below b.
        kept &= jnp.isfinite(a * ss) & jnp.isfinite(b * gamma**2 * bzbz)
        u = -jnp.where(kept, bg + (a * sg - b * gbz) * s - b * sg * bz, bg)

        # No line search would leave this point: it has just failed to, or rounding has
        # made B indefinite.
        unmoved = jnp.all(here == state.last)
        restart = jnp.isfinite(length) & (unmoved | (jnp.dot(grad, u) > 0))
        u = jnp.where(restart, -first * grad, u)
        updated = (
            gamma * state.inverse
            + a * jnp.outer(s, s)
            - b * (jnp.outer(s, bz) + jnp.outer(bz, s))
        )
        inverse = jnp.where(kept, updated, state.inverse)
        identity = jnp.eye(grad.size, dtype=dtype)
        inverse = jnp.where(restart, first * identity, inverse)
        # After a restart B is not scaled: a scale that fits one direction may have been
        # what stopped the others.
        paired = state.paired | kept | restart
        return curvopt.Descent(unravel(u)), BFGSState(here, inverse, paired)


def _flat(
    tree: PyTree[Array], dtype: Any
) -> tuple[Float[Array, " n"], Callable[[Array], PyTree[Array]]]:
    """One vector in `dtype`, and the function from it back to a pytree in `dtype`."""
    # Wide before it is flattened: that function returns to the dtypes it was made with.
    return ravel_pytree(jax.tree.map(lambda x: x.astype(dtype), tree))


# By default an accelerator may round the factors to bfloat16 or TF32.
_product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
