import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from ..data import Images
from ._images import Batch, ImageData, pixels, static_part


def autoencoder_network(widths: Sequence[int], *, key: PRNGKeyArray) -> eqx.nn.Sequential:
    """Fully connected layers from `widths[0]` numbers to `widths[-1]`, with gelu between
    them."""
    layers: list[Any] = []
    keys = jr.split(key, len(widths) - 1)
    for (before, after), layer_key in zip(pairwise(widths), keys):
        layers += [
            eqx.nn.Linear(before, after, key=layer_key),
            eqx.nn.Lambda(jax.nn.gelu),
        ]
    return eqx.nn.Sequential(layers[:-1])


def bernoulli_loss(logits: Float[Array, "n pixel"], x: Float[Array, "n pixel"]) -> Scalar:
    """The cross-entropy of Bernoulli variables, with probabilities `p = sigmoid(logits)`:
    `-Σ_pixels (x log p + (1 - x) log(1 - p))`, averaged over the images."""
    return optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1).mean()


class Autoencoder(curvopt.AbstractProblem):
    """Images that a network has to put through a few numbers and restore.

    Fully connected layers that narrow and widen again, with gelu; what they put out are
    logits of the pixels, whose grey values `x` are from 0 to 1:

        loss = -Σ_pixels (x log p + (1 - x) log(1 - p)),    p = sigmoid(logits),

    averaged over the images. It does not reach 0 where pixels are grey: the least that it
    can be is their entropy, at `p = x`. The other metric is the squared error
    `Σ_pixels (x - p)²`, averaged likewise: `squared_error` of a batch,
    `train_squared_error` and `test_squared_error`.

    Deep narrow autoencoders (Hinton & Salakhutdinov 2006) are what second-order methods
    are often compared on, since Martens (2010). This one is smaller than theirs.

    **Arguments:**

    - `images`: the data.
    - `widths`: numbers before, between and after the layers: the pixels, the hidden
        units, and the pixels again.
    - `batch_size`: images in a mini-batch.
    - `evaluated`: on how many training images, the same ones always, metrics are
        evaluated; `None` for all. The default is the whole of the embedded subset, and a
        fifth of a full data set.

    **Raises:**

    `ValueError` if a count is not one, `widths` does not begin and end with the number
    of pixels and have something between, or the batch is larger than the data.
    """

    data: ImageData
    widths: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        images: Images,
        widths: Sequence[int] = (784, 128, 32, 8, 32, 128, 784),
        batch_size: int = 128,
        evaluated: int | None = 12_000,
    ):
        self.data = ImageData(images, batch_size, evaluated)
        self.widths = tuple(
            curvopt.check_count(f"widths[{k}]", width) for k, width in enumerate(widths)
        )
        size = math.prod(self.data.shape)
        if len(self.widths) < 3 or self.widths[0] != size or self.widths[-1] != size:
            raise ValueError(
                f"widths must begin and end with the number of pixels, which is {size} in "
                f"{images.name}, and have at least one width between, but they are "
                f"{self.widths}."
            )

    def _model(self, key: PRNGKeyArray) -> eqx.nn.Sequential:
        return autoencoder_network(self.widths, key=key)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], None]:
        return eqx.filter(self._model(key), eqx.is_inexact_array), None

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> Batch:
        return self.data.batch(key, count)

    def _loss(self, params: PyTree[Array], images: Array) -> tuple[Scalar, curvopt.Metrics]:
        model = eqx.combine(params, static_part(self._model))
        x = pixels(images)
        logits = curvopt.tag_output(jax.vmap(model)(x))
        error = jnp.square(x - jax.nn.sigmoid(logits)).sum(axis=-1).mean()
        return bernoulli_loss(logits, x), {"squared_error": error}

    def loss(
        self, params: PyTree[Array], args: tuple[Any, Any, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[None, curvopt.Metrics]]:
        (images, _), _, _ = args
        loss, metrics = self._loss(params, images)
        return loss, (None, metrics)

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> curvopt.Metrics:
        del model_state
        return self.data.evaluate(lambda images, labels: self._loss(params, images))

    @property
    def steps_per_epoch(self) -> int:
        return self.data.steps_per_epoch
