import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from ..data import Images
from ._classification import check_activation, classification, flat
from ._images import Batch, ImageData


class MLPClassifier(curvopt.AbstractProblem):
    """Images classified by a multi-layer perceptron, with the cross-entropy loss.

    The data set is on the device once, as bytes; a batch is standardised by the mean
    and deviation of all training pixels.

    **Arguments:**

    - `images`: the data.
    - `width`, `depth`: units in each hidden layer, and how many there are.
    - `batch_size`: images in a mini-batch.
    - `activation`: after each hidden layer; a smooth one, such as `jax.nn.gelu`, or
        `jax.nn.relu`, whose kinks the curvature does not see.
    - `evaluated`: on how many training images, the same ones always, metrics are
        evaluated; `None` for all. The default is the whole of the embedded subset, and a
        fifth of a full data set.

    **Raises:**

    `ValueError` if a count is not one, `activation` is no function, or the batch is
    larger than the data.
    """

    data: ImageData
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        images: Images,
        width: int = 64,
        depth: int = 2,
        batch_size: int = 128,
        activation: Callable[[Array], Array] = jax.nn.gelu,
        evaluated: int | None = 12_000,
    ):
        self.data = ImageData(images, batch_size, evaluated)
        self.width = curvopt.check_count("width", width)
        self.depth = curvopt.check_count("depth", depth)
        self.activation = check_activation(activation)

    def _model(self, key: PRNGKeyArray) -> eqx.nn.MLP:
        pixels, classes = math.prod(self.data.shape), self.data.classes
        return eqx.nn.MLP(pixels, classes, self.width, self.depth, self.activation, key=key)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], None]:
        return eqx.filter(self._model(key), eqx.is_inexact_array), None

    def batch(self, key: PRNGKeyArray, count: Int[Array, ""]) -> Batch:
        return self.data.batch(key, count)

    def _loss(
        self, params: PyTree[Array], images: Array, labels: Array
    ) -> tuple[Scalar, curvopt.Metrics]:
        return classification(self._model, params, flat(self.data, images), labels)

    def loss(
        self, params: PyTree[Array], args: tuple[Any, Any, PRNGKeyArray]
    ) -> tuple[Scalar, tuple[None, curvopt.Metrics]]:
        (images, labels), _, _ = args
        loss, metrics = self._loss(params, images, labels)
        return loss, (None, metrics)

    def evaluate(self, params: PyTree[Array], model_state: PyTree) -> curvopt.Metrics:
        del model_state
        return self.data.evaluate(lambda *batch: self._loss(params, *batch))

    @property
    def steps_per_epoch(self) -> int:
        return self.data.steps_per_epoch
