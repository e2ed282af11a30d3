"""What problems on images have in common; each holds an `ImageData`."""

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar, UInt8

import curvopt

from ..data import Images


Batch: TypeAlias = tuple[UInt8[Array, " n *shape"], UInt8[Array, " n"]]

_Model = TypeVar("_Model")


class ImageData(eqx.Module):
    """Images on the device once, as bytes: their mini-batches, their scales, and the
    evaluation on them.

    **Arguments:**

    - `images`: the data.
    - `batch_size`: images in a mini-batch.
    - `evaluated`, `tested`: on how many training and on how many test images metrics are
        evaluated, the same ones always, evenly spaced; all of them if `None` or if there
        are fewer. This bounds the memory: images are evaluated in one piece, for in a
        loop over slices XLA on CPU took 2.3 times as long for two convolutions and 20
        times as long for a residual network, and slices without a loop it does not run
        one after another: they took 63 to 100 % of the memory. DeepOBS (Schneider et al.
        2019), too, evaluates on a part of the training data, as large as the test data;
        there it changes.

    **Raises:**

    `ValueError` if a count is not one, or the batch is larger than the training data.
    """

    train_images: UInt8[Array, " train *shape"]
    train_labels: UInt8[Array, " train"]
    test_images: UInt8[Array, " test *shape"]
    test_labels: UInt8[Array, " test"]
    name: str = eqx.field(static=True)
    # Of each channel; grey images have one.
    mean: tuple[float, ...] = eqx.field(static=True)
    deviation: tuple[float, ...] = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    evaluated: int = eqx.field(static=True)
    tested: int = eqx.field(static=True)

    def __init__(
        self,
        images: Images,
        batch_size: int,
        evaluated: int | None = None,
        tested: int | None = None,
    ):
        size = len(images.train_images)
        self.batch_size = curvopt.check_count("batch_size", batch_size)
        if batch_size > size:
            raise ValueError(
                f"batch_size must be at most the number of training images, but it is "
                f"{batch_size} and {images.name} has {size}."
            )
        self.evaluated = _at_most(size, "evaluated", evaluated)
        self.tested = _at_most(len(images.test_images), "tested", tested)
        self.train_images = jnp.asarray(images.train_images)
        self.train_labels = jnp.asarray(images.train_labels)
        self.test_images = jnp.asarray(images.test_images)
        self.test_labels = jnp.asarray(images.test_labels)
        self.name = images.name
        planes = images.train_images.reshape(size, self.channels, *self.shape[-2:])
        self.mean = tuple(float(x.mean()) for x in planes.swapaxes(0, 1))
        self.deviation = tuple(float(x.std()) for x in planes.swapaxes(0, 1))
        self.classes = int(images.train_labels.max()) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """`(height, width)` of grey images, `(channel, height, width)` of colour ones."""
        return self.train_images.shape[1:]

    @property
    def channels(self) -> int:
        """How many values a pixel has: 1 in grey images."""
        return math.prod(self.shape[:-2])

    @property
    def steps_per_epoch(self) -> int:
        """How many batches go through the training data once."""
        return len(self.train_images) // self.batch_size

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> Batch:
        """The images of a step, with their labels: [`curvopt.minibatch_indices`][]."""
        chosen = curvopt.minibatch_indices(
            key, count, size=len(self.train_images), batch_size=self.batch_size
        )
        return self.train_images[chosen], self.train_labels[chosen]

    def standardised(self, images: UInt8[Array, " n *shape"]) -> Float[Array, " n *shape"]:
        """`(x - mean) / deviation`, with those of all training pixels, of each channel by
        itself; float32."""
        mean, deviation = (
            np.asarray(x, np.float32).reshape(-1, 1, 1) for x in (self.mean, self.deviation)
        )
        return (images.astype(jnp.float32) - mean) / deviation

    def evaluate(
        self, fn: Callable[[Array, Array], tuple[Scalar, curvopt.Metrics]]
    ) -> curvopt.Metrics:
        """Metrics on the training and on the test images.

        **Arguments:**

        - `fn`: `fn(images, labels) -> (loss, metrics)`, means over the images.

        **Returns:**

        `train_loss`, `test_loss`, and `train_` and `test_` before the names in `metrics`.
        """
        out = {}
        parts = {
            "train": _spaced(self.train_images, self.train_labels, self.evaluated),
            "test": _spaced(self.test_images, self.test_labels, self.tested),
        }
        for part, (images, labels) in parts.items():
            loss, metrics = fn(images, labels)
            named = {"loss": loss, **metrics}
            out |= {f"{part}_{name}": value for name, value in named.items()}
        return out


def _at_most(size: int, name: str, count: int | None) -> int:
    return size if count is None else min(size, curvopt.check_count(name, count))


def _spaced(images: Array, labels: Array, count: int) -> Batch:
    """So many of the images, evenly spaced."""
    size = len(images)
    if count == size:
        return images, labels
    # In NumPy: the product can be beyond int32.
    chosen = np.arange(count, dtype=np.int64) * size // count
    return images[chosen], labels[chosen]


def pixels(images: UInt8[Array, " n *shape"]) -> Float[Array, "n value"]:
    """Each image as a vector of values from 0 to 1, float32."""
    return images.reshape(len(images), -1).astype(jnp.float32) / 255


def classified(
    logits: Float[Array, "n class"], labels: UInt8[Array, " n"]
) -> tuple[Scalar, curvopt.Metrics]:
    """The mean cross-entropy, and how many of all are classified correctly, `accuracy`."""
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, labels.astype(jnp.int32)
    )
    return losses.mean(), {"accuracy": (logits.argmax(axis=-1) == labels).mean()}


def static_part(make: Callable[[PRNGKeyArray], _Model]) -> _Model:
    """All of a model but its arrays: its functions and sizes. No array is built.

    **Arguments:**

    - `make`: makes the model from a key.
    """
    model = eqx.filter_eval_shape(make, jr.key(0))
    return eqx.filter(model, lambda x: not hasattr(x, "dtype"))
