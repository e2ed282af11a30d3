"""Problems by name: each data, an Equinox model, a loss and its metrics."""

from collections.abc import Callable
from pathlib import Path

import curvopt

from ..data import Images, load_full, load_subset
from ._autoencoder import (
    Autoencoder as Autoencoder,
    autoencoder_network as autoencoder_network,
    bernoulli_loss as bernoulli_loss,
)
from ._classifier import MLPClassifier as MLPClassifier
from ._lenet import lenet_network as lenet_network, LeNetClassifier as LeNetClassifier


# From the folder with the user's data (or none) to images. Only the embedded data need
# neither a folder nor a network.
_IMAGES: dict[str, Callable[[Path | None], Images]] = {
    "fashion-subset": lambda folder: load_subset(),
    "fashion": lambda folder: load_full("fashion-mnist", folder),
    "mnist": lambda folder: load_full("mnist", folder),
}

_ON_IMAGES: dict[str, Callable[[Images], curvopt.AbstractProblem]] = {
    "mlp": MLPClassifier,
    "autoencoder": Autoencoder,
    "lenet": LeNetClassifier,
}


def _maker(data: str, model: str) -> Callable[[Path | None], curvopt.AbstractProblem]:
    return lambda folder: _ON_IMAGES[model](_IMAGES[data](folder))


# From the folder with the user's data (or none) to a problem: "fashion-subset-mlp", ...
PROBLEMS: dict[str, Callable[[Path | None], curvopt.AbstractProblem]] = {
    f"{data}-{model}": _maker(data, model) for data in _IMAGES for model in _ON_IMAGES
}
