r"""What the values of a tape carry along several vectors at once.

A vector that is zero on the parameters of a part of the loss has no tangents there. So each
value carries a `Stack` of the tangents along the vectors that reach it, and no zeros: along
the vector of one layer, the layers before cost nothing, a product in the layer costs one
product instead of three, and one in a layer behind it, whose parameters do not move, one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .. import _sharding
from .._tree import at_least_float32, tree_dot


class Stack(eqx.Module):
    """Arrays for some of `count` vectors, stacked along the first axis; for the others
    they are zero.

    **Attributes:**

    - `array`: the arrays.
    - `vectors`: which vectors they are for.
    """

    array: Array
    vectors: tuple[int, ...] = eqx.field(static=True)
    count: int = eqx.field(static=True)

    @classmethod
    def of(cls, arrays: Sequence[Array | None]) -> "Stack | None":
        """The stack of one array for each vector, with `None` for zero."""
        known = {k: array for k, array in enumerate(arrays) if array is not None}
        if not known:
            return None
        return cls(jnp.stack(list(known.values())), tuple(known), len(arrays))

    def along(self, vectors: Sequence[int]) -> Array:
        """The arrays for some of its vectors, in that order."""
        places = [self.vectors.index(vector) for vector in vectors]
        first, last = places[0], places[-1] + 1
        if places != list(range(first, last)):
            return jnp.stack([self.array[k] for k in places])
        return self.array if len(places) == len(self.vectors) else self.array[first:last]


def fill(stack: Stack | None, struct: _sharding.Struct, like: Sequence[Stack]) -> Stack:
    """A stack, or `None` for zero, with explicit zeros for all vectors of the stacks
    `like`."""
    vectors = tuple(sorted({vector for other in like for vector in other.vectors}))
    own = () if stack is None else stack.vectors
    if stack is not None and own == vectors:
        return stack
    zero = _sharding.zeros(struct)
    rows = [stack.along([v])[0] if stack and v in own else zero for v in vectors]
    return Stack(jnp.stack(rows), vectors, like[0].count)


def groups(stacks: Sequence[Stack]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The vectors by which of the stacks they are in: pairs of the vectors and the stacks'
    indices."""
    found: dict[tuple[int, ...], list[int]] = {}
    for vector in sorted({vector for stack in stacks for vector in stack.vectors}):
        places = tuple(k for k, stack in enumerate(stacks) if vector in stack.vectors)
        found.setdefault(places, []).append(vector)
    return [(tuple(vectors), places) for places, vectors in found.items()]


def along_each(fn: Callable, directions: PyTree) -> Any:
    """A function mapped over a stack of vectors: vmapped, or one after another if jax
    cannot batch it."""
    try:
        return jax.vmap(fn)(directions)
    except NotImplementedError:
        return jax.lax.map(fn, directions)


def inner_products(a: Stack, b: Stack) -> Array:
    """The inner products of one stack's arrays with the other's, as a matrix with a row and
    a column for each vector."""
    if _sharding.is_split(a.array) or _sharding.is_split(b.array):
        # Flattening a split array would gather it.
        dots = jax.vmap(jax.vmap(tree_dot, (None, 0)), (0, None))(a.array, b.array)
    else:
        rows = [at_least_float32(s.array).reshape(len(s.vectors), -1) for s in (a, b)]
        dots = jnp.matmul(rows[0], rows[1].T, precision=jax.lax.Precision.HIGHEST)
    # Out of range, and so filled with zero, for the vectors that a stack does not have.
    place = lambda s: [(*s.vectors, k).index(k) for k in range(s.count)]
    places = np.ix_(place(a), place(b))
    return jnp.real(dots).at[places].get(mode="fill", fill_value=0)
