"""Problems by name: each data, an Equinox model, a loss and its metrics."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax

import curvopt

from ..data import Images, load_cifar10, load_full, load_shakespeare, load_subset
from ._autoencoder import (
    Autoencoder as Autoencoder,
    autoencoder_network as autoencoder_network,
    bernoulli_loss as bernoulli_loss,
)
from ._classifier import MLPClassifier as MLPClassifier
from ._convolutional_autoencoder import (
    ConvolutionalAutoencoder as ConvolutionalAutoencoder,
)
from ._gru import GRUCharacters as GRUCharacters, GRUNetwork as GRUNetwork
from ._lenet import lenet_network as lenet_network, LeNetClassifier as LeNetClassifier
from ._logistic import LogisticRegression as LogisticRegression
from ._pendulum import Pendulum as Pendulum
from ._quadratic import NoisyQuadratic as NoisyQuadratic
from ._resnet import ResNet as ResNet, ResNetClassifier as ResNetClassifier
from ._rosenbrock import Rosenbrock as Rosenbrock, rosenbrock as rosenbrock
from ._transformer import (
    TransformerCharacters as TransformerCharacters,
    TransformerNetwork as TransformerNetwork,
)
from ._vision_transformer import (
    VisionTransformerClassifier as VisionTransformerClassifier,
)


# From the folder with the user's data (or none) to images. Only the embedded data need
# neither a folder nor a network.
_IMAGES: dict[str, Callable[[Path | None], Images]] = {
    "fashion-subset": lambda folder: load_subset(),
    "fashion": lambda folder: load_full("fashion-mnist", folder),
    "mnist": lambda folder: load_full("mnist", folder),
}

_ON_IMAGES: dict[str, Callable[[Images], curvopt.AbstractProblem]] = {
    "logistic": LogisticRegression,
    "mlp": MLPClassifier,
    "mlp-relu": partial(MLPClassifier, activation=jax.nn.relu),
    "autoencoder": Autoencoder,
    "conv-autoencoder": ConvolutionalAutoencoder,
    "lenet": LeNetClassifier,
    "lenet-relu": partial(LeNetClassifier, smooth=False),
    "vit": VisionTransformerClassifier,
}


def _maker(data: str, model: str) -> Callable[[Path | None], curvopt.AbstractProblem]:
    return lambda folder: _ON_IMAGES[model](_IMAGES[data](folder))


# From the folder with the user's data (or none) to a problem: "fashion-subset-mlp", ...
PROBLEMS: dict[str, Callable[[Path | None], curvopt.AbstractProblem]] = {
    f"{data}-{model}": _maker(data, model) for data in _IMAGES for model in _ON_IMAGES
} | {
    "cifar10-resnet": lambda folder: ResNetClassifier(load_cifar10(folder)),
    "cifar10-vit": lambda folder: VisionTransformerClassifier(load_cifar10(folder)),
    "shakespeare-gru": lambda folder: GRUCharacters(load_shakespeare(folder)),
    "shakespeare-transformer": lambda folder: TransformerCharacters(
        load_shakespeare(folder)
    ),
    "quadratic": lambda folder: NoisyQuadratic(),
    "rosenbrock": lambda folder: Rosenbrock(),
    "pendulum": lambda folder: Pendulum(),
}
