from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

import curvopt

from ..data import Images
from ._images import check_activation, check_channels, classifier
from ._on_data import AbstractOnData


class _NormalisedConv(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(
        self, before: int, after: int, size: int, stride: int, *, key: PRNGKeyArray
    ):
        self.conv = eqx.nn.Conv2d(
            before, after, size, stride, padding=size // 2, use_bias=False, key=key
        )
        # With Equinox's own momentum, 0.99, evaluation would lag by a hundred steps, and
        # averages of the variances, which start from 1, would stay too large for longer.
        self.norm = eqx.nn.BatchNorm(after, "batch", momentum=0.9, mode="batch")

    def __call__(self, x: Array, state: eqx.nn.State) -> tuple[Array, eqx.nn.State]:
        return self.norm(self.conv(x), state)


class _Block(eqx.Module):
    """Two convolutions and a way round them."""

    first: _NormalisedConv
    second: _NormalisedConv
    shortcut: _NormalisedConv | None
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        before: int,
        after: int,
        stride: int,
        activation: Callable[[Array], Array],
        *,
        key: PRNGKeyArray,
    ):
        k = jr.split(key, 3)
        self.first = _NormalisedConv(before, after, 3, stride, key=k[0])
        self.second = _NormalisedConv(after, after, 3, 1, key=k[1])
        changes = stride > 1 or before != after
        self.shortcut = (
            _NormalisedConv(before, after, 1, stride, key=k[2]) if changes else None
        )
        self.activation = activation

    def __call__(self, x: Array, state: eqx.nn.State) -> tuple[Array, eqx.nn.State]:
        out, state = self.first(x, state)
        out, state = self.second(self.activation(out), state)
        if self.shortcut is not None:
            x, state = self.shortcut(x, state)
        return self.activation(out + x), state


class ResNet(eqx.Module):
    """The residual network that He et al. (2016) use on CIFAR-10: a convolution, stages of
    blocks of two more, each stage after the first with half of the resolution, and a full
    layer on the means over the pixels.

    After each convolution there is batch normalisation (Ioffe & Szegedy 2015), and the way
    round a block is a convolution of 1 x 1 pixels where the shape changes.

    **Arguments:**

    - `inputs`: channels of an image.
    - `channels`: of each stage.
    - `blocks`: in each stage.
    - `classes`: how many numbers it puts out.
    - `activation`: within and after each block.
    """

    stem: _NormalisedConv
    blocks: tuple[_Block, ...]
    readout: eqx.nn.Linear
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        inputs: int,
        channels: tuple[int, ...],
        blocks: int,
        classes: int,
        activation: Callable[[Array], Array],
        *,
        key: PRNGKeyArray,
    ):
        afters = [after for after in channels for _ in range(blocks)]
        stem_key, readout_key, *block_keys = jr.split(key, 2 + len(afters))
        self.stem = _NormalisedConv(inputs, channels[0], 3, 1, key=stem_key)
        self.blocks = tuple(
            _Block(
                before,
                after,
                2 if k > 0 and k % blocks == 0 else 1,
                activation,
                key=block_key,
            )
            for k, (before, after, block_key) in enumerate(
                zip([channels[0], *afters], afters, block_keys)
            )
        )
        self.readout = eqx.nn.Linear(channels[-1], classes, key=readout_key)
        self.activation = activation

    def __call__(
        self, x: Float[Array, "channel height width"], state: eqx.nn.State
    ) -> tuple[Float[Array, " class"], eqx.nn.State]:
        # A convolution promotes no dtypes.
        x, state = self.stem(x.astype(self.readout.weight.dtype), state)
        x = self.activation(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.readout(jnp.mean(x, axis=(1, 2))), state


class ResNetClassifier(AbstractOnData):
    """Images classified by a small residual network with batch normalisation (He et al.
    2016), with the cross-entropy loss.

    In training each channel is normalised by its mean and variance in the batch, so that
    the loss of an image depends on the others, and so does the curvature. The model's
    state are their running averages, with decay 0.9, by which it is evaluated. A batch is
    standardised by the mean and deviation of all training pixels in each channel.

    **Arguments:**

    - `images`: the data, grey or in colour.
    - `channels`: of each stage; the first has the resolution of the images, each other
        half of that before.
    - `blocks`: in each stage; with three stages the network has `6 blocks + 2` layers.
    - `activation`: `jax.nn.relu`, whose kinks the curvature does not see, or a smooth
        one: `jax.nn.gelu`, `jax.nn.softplus`, `jnp.tanh`.
    - `batch_size`: images in a mini-batch.
    - `evaluated`, `tested`: on how many training and on how many test images, the same
        ones always, metrics are evaluated; `None` for all. For each image XLA on CPU
        takes 0.26 MB in each lane, and more than twice that where the two numbers are
        equal, which is why they are not. For an accuracy that is to be compared with
        published ones, take all test images.

    **Raises:**

    `ValueError` if a count is not one, there is no stage, `activation` is no function, or
    the batch is larger than the data.
    """

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        images: Images,
        channels: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        activation: Callable[[Array], Array] = jax.nn.relu,
        batch_size: int = 64,
        evaluated: int | None = 2_000,
        tested: int | None = 4_000,
    ):
        counts = check_channels(channels, "stage")
        make = partial(
            ResNet,
            images.channels,
            counts,
            curvopt.check_count("blocks", blocks),
            images.classes,
            check_activation(activation),
        )
        self.name = images.name
        self.problem = classifier(
            images,
            make,
            (images.channels, *images.shape[-2:]),
            batch_size=batch_size,
            evaluated=evaluated,
            tested=tested,
        )
