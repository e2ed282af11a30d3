import math
from typing import Any

import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from ..data import Images
from ._classification import classification, flat
from ._images import Batch, ImageData


class LogisticRegression(curvopt.AbstractProblem):
    """Images classified by one linear layer, with the cross-entropy loss: convex, and
    smooth.

    A batch is standardised by the mean and deviation of all training pixels. The weights
    begin at random, as those of `eqx.nn.Linear` do, so that seeds differ; zeros are as
    usual, and would make them alike.

    **Arguments:**

    - `images`: the data.
    - `batch_size`: images in a mini-batch.
    - `evaluated`: on how many training images, the same ones always, metrics are
        evaluated; `None` for all.

    **Raises:**

    `ValueError` if a count is not one, or the batch is larger than the data.
    """

    data: ImageData

    def __init__(
        self, images: Images, batch_size: int = 128, evaluated: int | None = 12_000
    ):
        self.data = ImageData(images, batch_size, evaluated)

    def _model(self, key: PRNGKeyArray) -> eqx.nn.Linear:
        return eqx.nn.Linear(math.prod(self.data.shape), self.data.classes, key=key)

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
