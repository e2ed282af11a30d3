"""Newton's equations by conjugate gradients, shared by `TruncatedNewton` and
`LevenbergMarquardt`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree, Scalar

import curvopt


class Solved(eqx.Module):
    """An approximate solution of $B u = -g$.

    **Attributes:**

    - `u`: the solution.
    - `curvature`: $\\langle u, B u \\rangle$.
    - `products`: how many products with $B$ it took.
    """

    u: PyTree[Array]
    curvature: Scalar
    products: Int[Array, ""]


class _Iterate(eqx.Module):
    u: PyTree[Array]
    curvature: Scalar
    residual: PyTree[Array]
    search: PyTree[Array]
    products: Int[Array, ""]
    going: Bool[Array, ""]


def solve(
    product: Callable[[PyTree[Array]], PyTree[Array]],
    grad: PyTree[Array],
    tolerance: Scalar,
    iterations: int,
) -> Solved:
    r"""Conjugate gradients for $B u = -g$ from zero, until
    $\|B u + g\| \leq \eta \|g\|$, or a vector of negative curvature is met.

    Along that vector, too, $u$ takes the exact step of the parabola, with the absolute
    curvature: it leads away from a saddle point, and descends like all the others.

    **Arguments:**

    - `product`: `product(u)`, that is $B u$.
    - `grad`: $g$.
    - `tolerance`: $\eta$.
    - `iterations`: the largest number of products.
    """
    zeros = jax.tree.map(jnp.zeros_like, grad)
    add = lambda c, x, a: jax.tree.map(lambda x, a: (x + c * a).astype(x.dtype), x, a)
    squared = curvopt.tree_dot(grad, grad)
    enough = tolerance**2 * squared

    def iterate(now: _Iterate) -> _Iterate:
        image = product(now.search)
        curvature = curvopt.tree_dot(now.search, image)
        norm = curvopt.tree_dot(now.residual, now.residual)
        step = norm / jnp.where(curvature == 0, 1, jnp.abs(curvature))
        usable = (curvature != 0) & jnp.isfinite(curvature) & jnp.isfinite(step)
        step = jnp.where(usable, step, 0)
        residual = add(step, now.residual, image)
        left = curvopt.tree_dot(residual, residual)
        search = add(
            left / jnp.where(norm > 0, norm, 1),
            jax.tree.map(jnp.negative, residual),
            now.search,
        )
        return _Iterate(
            u=add(step, now.u, now.search),
            # The search vectors are conjugate.
            curvature=now.curvature + step**2 * jnp.where(usable, curvature, 0),
            residual=residual,
            search=search,
            products=now.products + 1,
            going=usable & (curvature > 0) & (left > enough),
        )

    # A scan of known length, with a branch where it ends: its cost can be counted.
    def body(now: _Iterate, _: Any) -> tuple[_Iterate, None]:
        return jax.lax.cond(now.going, iterate, lambda now: now, now), None

    start = _Iterate(
        u=zeros,
        curvature=jnp.zeros_like(squared),
        residual=grad,
        search=jax.tree.map(jnp.negative, grad),
        products=jnp.array(0, jnp.int32),
        going=jnp.isfinite(squared) & (squared > 0),
    )
    end, _ = jax.lax.scan(body, start, None, length=iterations)
    # No curvature at all along the gradient.
    empty = curvopt.tree_norm(end.u) == 0
    u = jax.tree.map(lambda u, g: jnp.where(empty, -g, u), end.u, grad)
    return Solved(u, end.curvature, end.products)
