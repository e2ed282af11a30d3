"""What the classifiers of images have in common; each is a model and its input."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree, Scalar

import curvopt

from ._images import classified, ImageData, static_part


def check_activation(activation: Any) -> Any:
    """Refuse what is no function."""
    if not callable(activation):
        raise ValueError(
            "activation must be a function, such as jax.nn.relu or jax.nn.gelu, but it is "
            f"{activation!r}."
        )
    return activation


def classification(
    make: Callable[[PRNGKeyArray], Any], params: PyTree[Array], x: Array, labels: Array
) -> tuple[Scalar, curvopt.Metrics]:
    """The mean cross-entropy of a classifier, and its `accuracy`.

    **Arguments:**

    - `make`: makes the model from a key; it classifies one example.
    - `params`: the model's arrays.
    - `x`, `labels`: the examples.
    """
    model = eqx.combine(params, static_part(make))
    return classified(curvopt.tag_output(jax.vmap(model)(x)), labels)


def flat(data: ImageData, images: Array) -> Array:
    """Each image as one vector of standardised pixels."""
    return data.standardised(images).reshape(len(images), -1)
