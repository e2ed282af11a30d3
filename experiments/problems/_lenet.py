from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

import curvopt

from ..data import Images
from ._images import classifier
from ._on_data import AbstractOnData


# The smallest image that leaves a pixel: halved, four less, halved.
_SMALLEST = 12


def lenet_network(
    shape: tuple[int, int],
    channels: tuple[int, int],
    widths: tuple[int, int],
    classes: int,
    activation: Callable[[Array], Array],
    pool: Callable[[int, int], Callable],
    *,
    key: PRNGKeyArray,
) -> eqx.nn.Sequential:
    """Two convolutions of 5 x 5 pixels, the first one padded, each pooled over 2 x 2
    pixels, and three full layers: LeNet-5 (LeCun et al. 1998), with all connections.

    **Arguments:**

    - `shape`: height and width of an image.
    - `channels`: of the two convolutions.
    - `widths`: of the two hidden full layers.
    - `classes`: how many numbers it puts out.
    - `activation`: after each layer but the last.
    - `pool`: from kernel size and stride to a layer: `eqx.nn.AvgPool2d`, for example.

    **Returns:**

    A model from an image of shape `(1, height, width)` to logits of shape `(classes,)`.
    """
    first, second = channels
    wide, narrow = widths
    high, across = ((n // 2 - 4) // 2 for n in shape)
    k = jr.split(key, 5)
    activate = eqx.nn.Lambda(activation)
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, first, 5, padding=2, key=k[0]),
            activate,
            pool(2, 2),
            eqx.nn.Conv2d(first, second, 5, key=k[1]),
            activate,
            pool(2, 2),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(second * high * across, wide, key=k[2]),
            activate,
            eqx.nn.Linear(wide, narrow, key=k[3]),
            activate,
            eqx.nn.Linear(narrow, classes, key=k[4]),
        ]
    )


class LeNetClassifier(AbstractOnData):
    """Images classified by a small convolutional network, with the cross-entropy loss.

    LeNet-5 (LeCun et al. 1998) with all connections and today's activations: two
    convolutions, each pooled over 2 x 2 pixels, and three full layers. A batch is
    standardised by the mean and deviation of all training pixels.

    **Arguments:**

    - `images`: the data.
    - `channels`: of the two convolutions.
    - `widths`: units of the two hidden full layers.
    - `smooth`: with `True`, gelu and average pooling, which can be differentiated as
        often as one likes; with `False`, relu and max-pooling, whose kinks the curvature
        does not see.
    - `batch_size`: images in a mini-batch.
    - `evaluated`, `tested`: on how many training and on how many test images, the same
        ones always, metrics are evaluated; `None` for all. The default is the whole of
        the embedded subset, and a fifth of a full data set's training images, of which
        all would take 2.4 GB for each lane.

    **Raises:**

    `ValueError` if a count is not one, `smooth` is not a boolean, the images are in
    colour or too small for the network, or the batch is larger than the data.
    """

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        images: Images,
        channels: Sequence[int] = (6, 16),
        widths: Sequence[int] = (120, 84),
        smooth: bool = True,
        batch_size: int = 128,
        evaluated: int | None = 12_000,
        tested: int | None = None,
    ):
        if not isinstance(smooth, bool):
            raise ValueError(
                "smooth must be True (gelu and average pooling) or False (relu and "
                f"max-pooling), but it is {smooth!r}."
            )
        if len(images.shape) != 2:
            raise ValueError(
                f"images must be grey, but those of {images.name} have "
                f"{images.channels} channels. Use ResNetClassifier."
            )
        if min(images.shape) < _SMALLEST:
            raise ValueError(
                f"images must be at least {_SMALLEST} pixels high and wide, but those of "
                f"{images.name} have shape {images.shape}. Use MLPClassifier."
            )
        make = partial(
            lenet_network,
            images.shape,
            _pair("channels", channels),
            _pair("widths", widths),
            images.classes,
            jax.nn.gelu if smooth else jax.nn.relu,
            eqx.nn.AvgPool2d if smooth else eqx.nn.MaxPool2d,
        )
        self.name = images.name
        self.problem = classifier(
            images,
            make,
            (1, *images.shape),
            batch_size=batch_size,
            evaluated=evaluated,
            tested=tested,
        )


def _pair(name: str, values: Sequence[int]) -> tuple[int, int]:
    if len(values) != 2:
        raise ValueError(f"{name} must be two integers, but they are {values!r}.")
    first, second = (curvopt.check_count(f"{name}[{k}]", n) for k, n in enumerate(values))
    return first, second
