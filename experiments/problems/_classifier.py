import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
from jaxtyping import Array

import curvopt

from ..data import Images
from ._images import check_activation, classifier
from ._on_data import AbstractOnData


class MLPClassifier(AbstractOnData):
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

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        images: Images,
        width: int = 64,
        depth: int = 2,
        batch_size: int = 128,
        activation: Callable[[Array], Array] = jax.nn.gelu,
        evaluated: int | None = 12_000,
    ):
        make = partial(
            eqx.nn.MLP,
            math.prod(images.shape),
            images.classes,
            curvopt.check_count("width", width),
            curvopt.check_count("depth", depth),
            check_activation(activation),
        )
        self.name = images.name
        self.problem = classifier(
            images, make, (-1,), batch_size=batch_size, evaluated=evaluated
        )
