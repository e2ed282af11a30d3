import dataclasses
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree, Scalar

from .._instance import Instance
from ._data import cross_entropy, keys, labelled


@dataclasses.dataclass(frozen=True)
class MLP:
    """A classifier of fully connected layers of equal width, with gelu."""

    pixels: int
    width: int
    depth: int
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model = eqx.nn.MLP(
            self.pixels, self.classes, self.width, self.depth, jax.nn.gelu, key=model_key
        )
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            ((images, labels),) = args
            return cross_entropy(jax.vmap(eqx.combine(y, static))(images), labels), None

        data = labelled(data_key, batch_size, (self.pixels,), self.classes)
        return Instance(loss, y, (data,))
