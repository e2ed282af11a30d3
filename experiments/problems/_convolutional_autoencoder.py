from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

import curvopt

from ..data import Images
from ._autoencoder import bernoulli_loss, squared_error
from ._images import check_channels, on_images
from ._on_data import AbstractOnData


class ConvolutionalAutoencoderNetwork(eqx.Module):
    """Convolutions of 3 x 3 pixels, each pooled over 2 x 2, a full layer to a code, one
    back, and as many convolutions, before each of which a pixel becomes 2 x 2 (Odena et al.
    2016), with gelu between them.

    **Arguments:**

    - `shape`: height and width of a grey image, multiples of `2 ** len(channels)`.
    - `channels`: of each convolution.
    - `code`: how many numbers an image is encoded in.
    """

    down: tuple[eqx.nn.Conv2d, ...]
    encode: eqx.nn.Linear
    decode: eqx.nn.Linear
    up: tuple[eqx.nn.Conv2d, ...]
    small: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, int],
        channels: tuple[int, ...],
        code: int,
        *,
        key: PRNGKeyArray,
    ):
        halvings = len(channels)
        height, width = (n // 2**halvings for n in shape)
        self.small = channels[-1], height, width
        k = iter(jr.split(key, 2 * halvings + 2))
        pairs = list(zip((1, *channels), channels))
        self.down = tuple(
            eqx.nn.Conv2d(before, after, 3, padding=1, key=next(k))
            for before, after in pairs
        )
        size = channels[-1] * height * width
        self.encode = eqx.nn.Linear(size, code, key=next(k))
        self.decode = eqx.nn.Linear(code, size, key=next(k))
        self.up = tuple(
            eqx.nn.Conv2d(after, before, 3, padding=1, key=next(k))
            for before, after in reversed(pairs)
        )

    def __call__(self, image: Float[Array, "1 height width"]) -> Float[Array, " pixel"]:
        """The logits of the pixels."""
        x, halve = image, eqx.nn.AvgPool2d(2, 2)
        for layer in self.down:
            x = halve(jax.nn.gelu(layer(x)))
        x = self.decode(self.encode(x.ravel())).reshape(self.small)
        for layer in self.up:
            x = layer(_doubled(jax.nn.gelu(x)))
        return x.ravel()


def _doubled(x: Float[Array, "channel height width"]) -> Array:
    """Each pixel 2 x 2 times. XLA on CPU has slow loops for strided and transposed
    convolutions, and for their gradients."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _images_and_pixels(
    batch: tuple[UInt8[Array, "n height width"], UInt8[Array, " n"]],
) -> tuple[Float[Array, "n 1 height width"], Float[Array, "n pixel"]]:
    """Each image with values from 0 to 1, to be read and to be restored."""
    images, _ = batch
    x = images.astype(jnp.float32) / 255
    return x[:, None], x.reshape(len(x), -1)


class ConvolutionalAutoencoder(AbstractOnData):
    """Grey images that a convolutional network encodes in a few numbers and reconstructs
    from them. Loss and metrics are those of [`experiments.problems.Autoencoder`][], whose
    layers are full ones.

    **Arguments:**

    - `images`: the data.
    - `channels`: of each convolution of the encoder; each halves the resolution.
    - `code`: how many numbers an image is encoded in.
    - `batch_size`: images in a mini-batch.
    - `evaluated`, `tested`: on how many training and on how many test images, the same
        ones always, metrics are evaluated; `None` for all.

    **Raises:**

    `ValueError` if a count is not one, there is no convolution, the images are in colour
    or cannot be halved so often, or the batch is larger than the data.
    """

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        images: Images,
        channels: Sequence[int] = (8, 16),
        code: int = 16,
        batch_size: int = 64,
        evaluated: int | None = 2_000,
        tested: int | None = 4_000,
    ):
        counts = check_channels(channels, "convolution")
        shape: Any = images.shape
        divisor = 2 ** len(counts)
        if len(shape) != 2 or any(n % divisor for n in shape):
            raise ValueError(
                f"images must be grey, with height and width multiples of {divisor}, which "
                f"{len(counts)} convolutions halve, but those of {images.name} have shape "
                f"{shape}."
            )
        curvopt.check_count("code", code)
        make = partial(ConvolutionalAutoencoderNetwork, shape, counts, code)
        self.name = images.name
        self.problem = on_images(
            images,
            make,
            loss=bernoulli_loss,
            metrics={"squared_error": squared_error},
            prepare=_images_and_pixels,
            batch_size=batch_size,
            evaluated=evaluated,
            tested=tested,
        )
