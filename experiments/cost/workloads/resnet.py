import dataclasses
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree, Scalar

from ...problems import resnet_logits, resnet_network
from .._instance import Instance
from ._data import cross_entropy, keys, labelled


@dataclasses.dataclass(frozen=True)
class ResNet:
    """The residual network that He et al. (2016) use on CIFAR, one block a stage, with
    relu and batch normalisation; its running averages are the auxiliary output."""

    size: int
    channels: tuple[int, ...]
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model, state = resnet_network(
            3, self.channels, 1, self.classes, jax.nn.relu, key=model_key
        )
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, eqx.nn.State]:
            (images, labels), state = args
            logits, state = resnet_logits(eqx.combine(y, static), state, images)
            return cross_entropy(logits, labels), state

        shape = (3, self.size, self.size)
        data = labelled(data_key, batch_size, shape, self.classes)
        return Instance(loss, y, (data, state))
