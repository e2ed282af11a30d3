import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree, Scalar

from ...problems import lenet_network
from .._instance import Instance
from ._data import cross_entropy, keys, labelled


@dataclasses.dataclass(frozen=True)
class LeNet:
    """Two convolutions, each with 2 x 2 average pooling, and three dense layers, with tanh:
    LeNet-5 (LeCun et al. 1998) with all connections."""

    size: int
    channels: tuple[int, int]
    widths: tuple[int, int]
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model = lenet_network(
            (self.size, self.size),
            self.channels,
            self.widths,
            self.classes,
            jnp.tanh,
            eqx.nn.AvgPool2d,
            key=model_key,
        )
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            ((images, labels),) = args
            return cross_entropy(jax.vmap(eqx.combine(y, static))(images), labels), None

        shape = (1, self.size, self.size)
        data = labelled(data_key, batch_size, shape, self.classes)
        return Instance(loss, y, (data,))
