"""Problems by name: each data, an Equinox model, a loss and its metrics."""

from collections.abc import Callable
from pathlib import Path

import curvopt

from ..data import load_full, load_subset
from ._classifier import MLPClassifier as MLPClassifier


# From the folder with the user's data (or none) to a problem. Only the embedded data
# need neither a folder nor a network.
PROBLEMS: dict[str, Callable[[Path | None], curvopt.AbstractProblem]] = {
    "fashion-subset-mlp": lambda folder: MLPClassifier(load_subset()),
    "fashion-mlp": lambda folder: MLPClassifier(load_full("fashion-mnist", folder)),
    "mnist-mlp": lambda folder: MLPClassifier(load_full("mnist", folder)),
}
