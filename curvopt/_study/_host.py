"""Lanes on the host: NumPy arrays, to be stacked, saved and sent to devices."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from .._tree import pack_keys, unpack_keys


def to_host(tree: PyTree) -> list[np.ndarray]:
    """The arrays of a pytree; random keys as the numbers they are made of."""
    arrays = jtu.tree_leaves(eqx.filter(pack_keys(tree), eqx.is_array))
    return [np.asarray(x) for x in jax.device_get(arrays)]


def to_device(leaves: Sequence[np.ndarray], like: PyTree, sharding: Any = None) -> PyTree:
    """The pytree that `to_host` took apart.

    **Arguments:**

    - `leaves`: its arrays, perhaps with more axes in front.
    - `like`: a pytree of its structure: what is no array comes from there.
    - `sharding`: where to put the arrays; on the default device if it is `None`.
    """
    dynamic, static = eqx.partition(pack_keys(like), eqx.is_array)
    arrays = jax.device_put(list(leaves), sharding)
    dynamic = jtu.tree_unflatten(jtu.tree_structure(dynamic), arrays)
    return unpack_keys(eqx.combine(dynamic, static))
