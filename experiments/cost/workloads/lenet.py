import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree, Scalar

from .._instance import Instance
from ._data import cross_entropy, keys, labelled


@dataclasses.dataclass(frozen=True)
class LeNet:
    """Two convolutions, each averaged over 2 x 2 pixels, and three full layers, with
    tanh: LeNet-5 (LeCun et al. 1998), with all connections."""

    size: int
    channels: tuple[int, int]
    widths: tuple[int, int]
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        first, second = self.channels
        wide, narrow = self.widths
        left = (self.size // 2 - 4) // 2
        k = jr.split(model_key, 5)
        tanh = eqx.nn.Lambda(jnp.tanh)
        model = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(1, first, 5, padding=2, key=k[0]),
                tanh,
                eqx.nn.AvgPool2d(2, 2),
                eqx.nn.Conv2d(first, second, 5, key=k[1]),
                tanh,
                eqx.nn.AvgPool2d(2, 2),
                eqx.nn.Lambda(jnp.ravel),
                eqx.nn.Linear(second * left * left, wide, key=k[2]),
                tanh,
                eqx.nn.Linear(wide, narrow, key=k[3]),
                tanh,
                eqx.nn.Linear(narrow, self.classes, key=k[4]),
            ]
        )
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            ((images, labels),) = args
            return cross_entropy(jax.vmap(eqx.combine(y, static))(images), labels), None

        shape = (1, self.size, self.size)
        data = labelled(data_key, batch_size, shape, self.classes)
        return Instance(loss, y, (data,))
