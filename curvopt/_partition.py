"""The parts of a pytree, such as the layers of a network, by labels."""

from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import jax
import jax.tree_util as jtu
from jaxtyping import PyTree


# A label for each leaf, or for each subtree; or a function of the pytree that returns them.
Labels: TypeAlias = PyTree[Hashable] | Callable[[PyTree], PyTree[Hashable]]


def array_labels(tree: PyTree) -> PyTree[str]:
    """Labels for [`curvopt.partition`][]: each array is a part of its own.

    **Arguments:**

    - `tree`: a pytree.

    **Returns:**

    A pytree like `tree`, with the path of each leaf as its label, such as
    `".layers[0].weight"`.
    """
    return jtu.tree_map_with_path(lambda path, _: jtu.keystr(path), tree)


def layer_labels(tree: PyTree) -> PyTree[str]:
    """Labels for [`curvopt.partition`][]: the arrays that one node of the pytree holds
    directly are a part. That is a layer: an `equinox.nn.Linear` with weight and bias, or an
    innermost dictionary of Flax's parameters.

    **Arguments:**

    - `tree`: a pytree.

    **Returns:**

    A pytree like `tree`, with the path of the node that holds it as the label of each leaf,
    such as `".layers[0]"`.
    """
    return jtu.tree_map_with_path(lambda path, _: jtu.keystr(path[:-1]), tree)


def block_labels(tree: PyTree) -> PyTree[str]:
    """Labels for [`curvopt.partition`][]: the layers, where those that lie deeper in the
    pytree than others are one part with their block.

    **Arguments:**

    - `tree`: a pytree.

    **Returns:**

    A pytree like `tree`, whose labels are the first two keys of those of
    [`curvopt.layer_labels`][]: `".layers[0]"` of a network, or `".blocks[0]"` of a
    transformer for all layers of that block.
    """
    return jtu.tree_map_with_path(lambda path, _: jtu.keystr(path[:-1][:2]), tree)


def partition(tree: PyTree, labels: Labels = layer_labels) -> list[PyTree]:
    """Split a pytree into parts, such as the layers of a network.

    `equinox.combine(*parts)` puts them together again. As vectors, the parts add up to
    `tree`, and `model.slope`, `model.curvature` and `model.curvature_matrix` take them as
    they are:

    ```python
    layers = curvopt.partition(u)
    matrix = model.curvature_matrix(layers)
    slopes = jnp.stack([model.slope(layer) for layer in layers])
    ```

    **Arguments:**

    - `tree`: a pytree of arrays.
    - `labels`: a label for each leaf: a pytree of hashables with the structure of `tree`,
        or a prefix of it, or a function that makes one from `tree`, as `param_labels` in
        `optax.partition`. [`curvopt.layer_labels`][] (the default),
        [`curvopt.block_labels`][] and [`curvopt.array_labels`][] are such functions.

    **Returns:**

    A list of pytrees like `tree`, one for each label, in the order in which the leaves have
    them first. Each has `None` in place of the leaves of the other labels.

    **Raises:**

    `ValueError` if `labels` is not a prefix of `tree`.
    """
    # A module of labels may be callable too, but it is not a leaf.
    own = labels(tree) if callable(labels) and jtu.all_leaves([labels]) else labels
    try:
        broadcast = jax.tree.broadcast(own, tree)
    except ValueError as error:
        raise ValueError(
            "labels must have the structure of the pytree, or of a prefix of it, but it is "
            f"{jtu.tree_structure(own)} where the pytree's is {jtu.tree_structure(tree)}."
        ) from error
    own = jtu.tree_leaves(broadcast)

    def part(label: Any) -> PyTree:
        leaves, treedef = jtu.tree_flatten(tree)
        kept = (leaf if other == label else None for leaf, other in zip(leaves, own))
        return jtu.tree_unflatten(treedef, kept)

    return [part(label) for label in dict.fromkeys(own)]
