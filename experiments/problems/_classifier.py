import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar, UInt8

import curvopt

from ..data import Images


class MLPClassifier(curvopt.AbstractProblem):
    """Images classified by a multi-layer perceptron, with the cross-entropy loss.

    The data set is on the device once, as bytes; a batch is standardised by the mean
    and deviation of all training pixels.

    **Arguments:**

    - `images`: the data.
    - `width`, `depth`: units in each hidden layer, and how many there are.
    - `batch_size`: images in a mini-batch.
    """

    train_images: UInt8[Array, "train height width"]
    train_labels: UInt8[Array, " train"]
    test_images: UInt8[Array, "test height width"]
    test_labels: UInt8[Array, " test"]
    name: str = eqx.field(static=True)
    mean: float = eqx.field(static=True)
    deviation: float = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def __init__(
        self, images: Images, width: int = 64, depth: int = 2, batch_size: int = 128
    ):
        curvopt.check_count("batch_size", batch_size)
        if batch_size > len(images.train_images):
            raise ValueError(
                f"batch_size must be at most the number of training images, but it is "
                f"{batch_size} and {images.name} has {len(images.train_images)}."
            )
        self.name = images.name
        self.train_images = jnp.asarray(images.train_images)
        self.train_labels = jnp.asarray(images.train_labels)
        self.test_images = jnp.asarray(images.test_images)
        self.test_labels = jnp.asarray(images.test_labels)
        self.mean = float(images.train_images.mean())
        self.deviation = float(images.train_images.std())
        self.width = curvopt.check_count("width", width)
        self.depth = curvopt.check_count("depth", depth)
        self.classes = int(images.train_labels.max()) + 1
        self.batch_size = batch_size

    def _model(self, key: PRNGKeyArray) -> eqx.nn.MLP:
        pixels = math.prod(self.train_images.shape[1:])
        return eqx.nn.MLP(
            pixels, self.classes, self.width, self.depth, jax.nn.gelu, key=key
        )

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], None]:
        return eqx.filter(self._model(key), eqx.is_inexact_array), None

    def batch(
        self, key: PRNGKeyArray, count: Int[Array, ""]
    ) -> tuple[UInt8[Array, "batch height width"], UInt8[Array, " batch"]]:
        chosen = curvopt.minibatch_indices(
            key, count, size=len(self.train_images), batch_size=self.batch_size
        )
        return self.train_images[chosen], self.train_labels[chosen]

    def _logits(
        self, params: PyTree[Array], images: UInt8[Array, "n height width"]
    ) -> Float[Array, "n classes"]:
        # The functions of the model, without building its arrays.
        static = eqx.filter_eval_shape(self._model, jr.key(0))
        static = eqx.filter(static, lambda x: not hasattr(x, "dtype"))
        x = (images.astype(jnp.float32) - self.mean) / self.deviation
        return jax.vmap(eqx.combine(params, static))(x.reshape(len(x), -1))

    def _cross_entropy(
        self, params: PyTree[Array], images: Array, labels: Array
    ) -> tuple[Scalar, Scalar]:
        logits = self._logits(params, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, labels.astype(jnp.int32)
        )
        return losses.mean(), (logits.argmax(axis=-1) == labels).mean()

    def loss(
        self, params: PyTree[Array], args: tuple[Any, Any, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[None, curvopt.Metrics]]:
        (images, labels), _, _ = args
        loss, accuracy = self._cross_entropy(params, images, labels)
        return loss, (None, {"accuracy": accuracy})

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> curvopt.Metrics:
        del model_state
        train_loss, train_accuracy = self._cross_entropy(
            params, self.train_images, self.train_labels
        )
        test_loss, test_accuracy = self._cross_entropy(
            params, self.test_images, self.test_labels
        )
        return {
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
        }

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_images) // self.batch_size
