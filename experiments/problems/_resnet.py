from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from ..data import Images
from ._classification import check_activation
from ._images import Batch, classified, ImageData, static_part


_BATCH = "batch"


class _NormalisedConv(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(
        self, before: int, after: int, size: int, stride: int, *, key: PRNGKeyArray
    ):
        self.conv = eqx.nn.Conv2d(
            before, after, size, stride, padding=size // 2, use_bias=False, key=key
        )
        # With Equinox's own momentum, 0.99, evaluation would be by what was a hundred steps
        # ago, and by variances too large for longer: their averages start from 1.
        self.norm = eqx.nn.BatchNorm(after, _BATCH, momentum=0.9, mode="batch")

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
        x, state = self.stem(x, state)
        x = self.activation(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.readout(jnp.mean(x, axis=(1, 2))), state


def resnet_network(*args: Any, key: PRNGKeyArray) -> tuple[ResNet, eqx.nn.State]:
    """A `ResNet` of these arguments, and the running averages of its batch
    normalisation, before the first batch."""
    model, state = eqx.nn.make_with_state(ResNet)(*args, key=key)
    # Its counters are weakly typed, and would widen with the parameters.
    return model, jtu.tree_map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)


def resnet_logits(
    model: ResNet, state: eqx.nn.State, images: Float[Array, "n channel height width"]
) -> tuple[Float[Array, "n class"], eqx.nn.State]:
    """The logits of a batch, whose statistics normalise it; and the next state."""
    # A state may be updated once only: each evaluation gets a copy.
    state = jtu.tree_map(lambda x: x, state)
    network = jax.vmap(model, in_axes=(0, None), out_axes=(0, None), axis_name=_BATCH)
    return network(images, state)


class ResNetClassifier(curvopt.AbstractProblem):
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

    data: ImageData
    channels: tuple[int, ...] = eqx.field(static=True)
    blocks: int = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

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
        self.data = ImageData(images, batch_size, evaluated, tested)
        self.channels = tuple(
            curvopt.check_count(f"channels[{k}]", n) for k, n in enumerate(channels)
        )
        if not self.channels:
            raise ValueError(
                "channels must be those of each stage, but they are (). Give one at least."
            )
        self.blocks = curvopt.check_count("blocks", blocks)
        self.activation = check_activation(activation)

    def _model(self, key: PRNGKeyArray) -> tuple[ResNet, eqx.nn.State]:
        return resnet_network(
            self.data.channels,
            self.channels,
            self.blocks,
            self.data.classes,
            self.activation,
            key=key,
        )

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], eqx.nn.State]:
        model, state = self._model(key)
        return eqx.filter(model, eqx.is_inexact_array), state

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> Batch:
        return self.data.batch(key, count)

    def _logits(
        self,
        params: PyTree[Array],
        model_state: eqx.nn.State,
        images: Array,
        inference: bool,
    ) -> tuple[Array, eqx.nn.State]:
        static, _ = static_part(self._model)
        model = eqx.nn.inference_mode(eqx.combine(params, static), inference)
        x = self.data.standardised(images)
        x = x.reshape(len(x), self.data.channels, *self.data.shape[-2:])
        # A convolution promotes no dtypes.
        return resnet_logits(model, model_state, x.astype(model.readout.weight.dtype))

    def loss(
        self, params: PyTree[Array], args: tuple[Any, Any, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[eqx.nn.State, curvopt.Metrics]]:
        (images, labels), model_state, _ = args
        logits, state = self._logits(params, model_state, images, inference=False)
        loss, metrics = classified(curvopt.tag_output(logits), labels)
        return loss, (state, metrics)

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> curvopt.Metrics:
        def measure(images: Array, labels: Array) -> tuple[Scalar, curvopt.Metrics]:
            logits, _ = self._logits(params, model_state, images, inference=True)
            return classified(logits, labels)

        return self.data.evaluate(measure)

    @property
    def steps_per_epoch(self) -> int:
        return self.data.steps_per_epoch
