import dataclasses
from functools import partial
from typing import Any

import jax
from jaxtyping import PyTree, Scalar

import curvopt

from ... import problems
from .._instance import Instance
from ._data import cross_entropy, keys, labelled


@dataclasses.dataclass(frozen=True)
class ResNet:
    """The residual network of He et al. (2016) for CIFAR, with one block per stage, relu
    and batch normalisation, whose running averages are the auxiliary output."""

    size: int
    channels: tuple[int, ...]
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model = curvopt.EquinoxModel(
            partial(problems.ResNet, 3, self.channels, 1, self.classes, jax.nn.relu)
        )
        shape = (3, self.size, self.size)
        data = labelled(data_key, batch_size, shape, self.classes)
        y, state = model.init(model_key, data[0])

        def loss(y: PyTree, args: Any) -> tuple[Scalar, PyTree]:
            (images, labels), state = args
            logits, state = model.apply(y, state, images, model_key)
            return cross_entropy(logits, labels), state

        return Instance(loss, y, (data, state))
