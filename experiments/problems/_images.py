"""What problems on images have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

import curvopt

from ..data import Images
from ._on_data import accuracy, evenly_spaced


class Standardised(eqx.Module):
    """Standardises a batch of bytes with labels: `(x - mean) / deviation` in float32, with
    mean and deviation of all training pixels in each channel.

    **Arguments:**

    - `images`: the data.
    - `shape`: of an image as the model takes it.
    """

    # Of each channel; grey images have one. Tuples: a static field must be hashable.
    mean: tuple[float, ...] = eqx.field(static=True)
    deviation: tuple[float, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, images: Images, shape: tuple[int, ...]):
        x = images.train_images
        planes = x.reshape(len(x), images.channels, *x.shape[-2:]).swapaxes(0, 1)
        self.mean = tuple(float(plane.mean()) for plane in planes)
        self.deviation = tuple(float(plane.std()) for plane in planes)
        self.shape = shape

    def __call__(
        self, batch: tuple[UInt8[Array, " n *shape"], UInt8[Array, " n"]]
    ) -> tuple[Float[Array, " n *taken"], Int[Array, " n"]]:
        images, labels = batch
        mean, deviation = (
            np.asarray(x, np.float32).reshape(-1, 1, 1) for x in (self.mean, self.deviation)
        )
        x = (images.astype(jnp.float32) - mean) / deviation
        return x.reshape(len(x), *self.shape), labels.astype(jnp.int32)


def on_images(
    images: Images,
    make: Callable[..., Any],
    *,
    batch_size: int,
    evaluated: int | None = None,
    tested: int | None = None,
    **options: Any,
) -> curvopt.SupervisedProblem:
    """The problem of a model on images, which are on the device once, as bytes.

    **Arguments:**

    - `images`: the data.
    - `make`: makes the model of a key.
    - `batch_size`: images in a mini-batch.
    - `evaluated`, `tested`: on how many training and on how many test images metrics are
        evaluated, the same ones always, evenly spaced; all of them if `None` or if there
        are fewer. This bounds the memory: images are evaluated in one piece, for in a
        loop over slices XLA on CPU took 2.3 times as long for two convolutions and 20
        times as long for a residual network, and slices without a loop it does not run
        one after another: they took 63 to 100 % of the memory. DeepOBS (Schneider et al.
        2019), too, evaluates on a part of the training data, as large as the test data;
        there it changes.
    - `options`: of [`curvopt.SupervisedProblem`][].

    **Raises:**

    `ValueError` if a count is not one, or the batch is larger than the training data.
    """
    test = images.test_images, images.test_labels
    return curvopt.SupervisedProblem(
        curvopt.EquinoxModel(make),
        train=(images.train_images, images.train_labels),
        test=tuple(evenly_spaced("tested", x, tested) for x in test),
        batch_size=batch_size,
        evaluated=evaluated,
        **options,
    )


def classifier(
    images: Images, make: Callable[..., Any], shape: tuple[int, ...], **counts: Any
) -> curvopt.SupervisedProblem:
    """A classifier of images with the cross-entropy loss; its metric is `accuracy`, the
    fraction that is classified correctly.

    **Arguments:**

    - `shape`: of a standardised image as the model takes it.
    - `images`, `make`, `counts`: as in [`on_images`][].
    """
    return on_images(
        images,
        make,
        loss=optax.softmax_cross_entropy_with_integer_labels,
        metrics={"accuracy": accuracy},
        prepare=Standardised(images, shape),
        **counts,
    )


def check_activation(activation: Any) -> Any:
    """Refuse what is no function."""
    if not callable(activation):
        raise ValueError(
            "activation must be a function, such as jax.nn.relu or jax.nn.gelu, but it is "
            f"{activation!r}."
        )
    return activation


def check_channels(channels: Sequence[int], each: str) -> tuple[int, ...]:
    """The channels of each part of a network; refuses what is no count, and none.

    **Arguments:**

    - `each`: what has channels, for the error: a stage, a convolution.
    """
    counts = tuple(curvopt.check_count(f"channels[{k}]", n) for k, n in enumerate(channels))
    if not counts:
        raise ValueError(
            f"channels must be those of each {each}, but they are (). Give one at least."
        )
    return counts
