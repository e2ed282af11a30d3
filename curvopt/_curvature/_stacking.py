"""What a loop's body keeps, from one trace of the body to another."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from .. import _compat


class Stacked(eqx.Module):
    """A pytree of which there is one for each iteration of a loop: its arrays stacked,
    save those that all iterations share. An array that occurs several times is
    kept once."""

    stacked: list[Array]
    shared: list[Any]
    # For each leaf: whether it is stacked, and its place.
    places: tuple[tuple[bool, int], ...] = eqx.field(static=True)
    treedef: Any = eqx.field(static=True)

    def at(self, slices: Sequence[Any]) -> PyTree:
        """The pytree of one iteration, from that iteration's slices of `stacked`."""
        leaves = [(slices if own else self.shared)[k] for own, k in self.places]
        return jtu.tree_unflatten(self.treedef, leaves)


class Stacking:
    """Takes a pytree apart inside a loop's body, and puts the stack together outside.

    **Arguments:**

    - `outside`: arrays of the surrounding trace that the body may close over.
    """

    def __init__(self, outside: PyTree):
        self._outside = {id(leaf) for leaf in jtu.tree_leaves(outside)}

    def take_apart(self, tree: PyTree) -> list[Array]:
        """The arrays that each iteration has its own of: to be returned by the body."""
        leaves, self._treedef = jtu.tree_flatten(tree)
        own: dict[int, tuple[int, Array]] = {}
        self._shared, places = [], []
        for leaf in leaves:
            if id(leaf) in self._outside or not _compat.is_traced(leaf):
                places.append((False, len(self._shared)))
                self._shared.append(leaf)
            else:
                place, _ = own.setdefault(id(leaf), (len(own), leaf))
                places.append((True, place))
        self._places = tuple(places)
        return [leaf for _, leaf in own.values()]

    def put_together(self, stacked: list[Array]) -> Stacked:
        """The stack, from what the loop made of `take_apart`'s."""
        return Stacked(stacked, self._shared, self._places, self._treedef)
