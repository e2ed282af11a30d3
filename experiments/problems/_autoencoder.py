import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

import curvopt

from ..data import Images
from ._images import on_images
from ._on_data import AbstractOnData


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


def bernoulli_loss(
    logits: Float[Array, "n pixel"], x: Float[Array, "n pixel"]
) -> Float[Array, " n"]:
    """The cross-entropy of Bernoulli variables, with probabilities `p = sigmoid(logits)`:
    `-Σ_pixels (x log p + (1 - x) log(1 - p))` of each image."""
    return optax.sigmoid_binary_cross_entropy(logits, x).sum(axis=-1)


def squared_error(
    logits: Float[Array, "n pixel"], x: Float[Array, "n pixel"]
) -> Float[Array, " n"]:
    """`Σ_pixels (x - p)²` of each image, with `p = sigmoid(logits)`."""
    return jnp.square(x - jax.nn.sigmoid(logits)).sum(axis=-1)


def _pixels(
    batch: tuple[UInt8[Array, " n *shape"], UInt8[Array, " n"]],
) -> tuple[Float[Array, "n pixel"], Float[Array, "n pixel"]]:
    """Each image as a vector of values from 0 to 1, to be read and to be restored."""
    images, _ = batch
    x = images.reshape(len(images), -1).astype(jnp.float32) / 255
    return x, x


class Autoencoder(AbstractOnData):
    """Images that a network encodes in a few numbers and reconstructs from them.

    Fully connected layers that narrow and widen again, with gelu; their outputs are the
    logits of the pixels, whose grey values `x` are from 0 to 1:

        loss = -Σ_pixels (x log p + (1 - x) log(1 - p)),    p = sigmoid(logits),

    averaged over the images. It does not reach 0 where pixels are grey: the least that it
    can be is their entropy, at `p = x`. The other metric is the squared error
    `Σ_pixels (x - p)²`, averaged likewise: `squared_error` of a batch,
    `trainsquared_error` and `testsquared_error`.

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

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        images: Images,
        widths: Sequence[int] = (784, 128, 32, 8, 32, 128, 784),
        batch_size: int = 128,
        evaluated: int | None = 12_000,
    ):
        counts = tuple(
            curvopt.check_count(f"widths[{k}]", width) for k, width in enumerate(widths)
        )
        size = math.prod(images.shape)
        if len(counts) < 3 or counts[0] != size or counts[-1] != size:
            raise ValueError(
                f"widths must begin and end with the number of pixels, which is {size} in "
                f"{images.name}, and have at least one width between, but they are "
                f"{counts}."
            )
        self.name = images.name
        self.problem = on_images(
            images,
            partial(autoencoder_network, counts),
            loss=bernoulli_loss,
            metrics={"squared_error": squared_error},
            prepare=_pixels,
            batch_size=batch_size,
            evaluated=evaluated,
        )
