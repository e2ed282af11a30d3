import math
from functools import partial

import equinox as eqx

import curvopt

from ..data import Images
from ._images import classifier
from ._on_data import AbstractOnData


class LogisticRegression(AbstractOnData):
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

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self, images: Images, batch_size: int = 128, evaluated: int | None = 12_000
    ):
        make = partial(eqx.nn.Linear, math.prod(images.shape), images.classes)
        self.name = images.name
        self.problem = classifier(
            images, make, (-1,), batch_size=batch_size, evaluated=evaluated
        )
