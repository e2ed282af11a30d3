"""The settings of the research: problems at their sizes, and the lengths of their runs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
from jaxtyping import Array

import curvopt

from ..data import load_cifar10, load_full, load_shakespeare, load_subset
from ..problems import (
    Autoencoder,
    ConvolutionalAutoencoder,
    GRUCharacters,
    LeNetClassifier,
    LogisticRegression,
    MLPClassifier,
    NoisyQuadratic,
    Pendulum,
    ResNetClassifier,
    Rosenbrock,
    TransformerCharacters,
    VisionTransformerClassifier,
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A problem at one size.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `problem`: makes the problem from the folder with the user's data.
    - `quick`: makes a small one from the included data; `None` if there are none of its
        kind.
    - `steps`: the number of steps of a run.
    - `tuning_seeds`: the number of seeds on which values are tried.
    - `evaluations`: how often the metrics are evaluated.
    - `core`: whether it is among the default settings.
    - `questions`: the questions that are asked of it; `None` for all.
    """

    label: str
    problem: Callable[[Path | None], curvopt.AbstractProblem]
    quick: Callable[[], curvopt.AbstractProblem] | None
    steps: int
    tuning_seeds: int = 3
    evaluations: int = 4
    core: bool = True
    questions: tuple[str, ...] | None = None

    @property
    def metric(self) -> Literal["train_loss"]:
        """The metric that is compared: the final loss on training data."""
        return "train_loss"


_WIDTHS = (784, 256, 64, 16, 64, 256, 784)


def _fashion(folder: Path | None):
    return load_full("fashion-mnist", folder)


def _mnist(folder: Path | None):
    return load_full("mnist", folder)


def _mlp(
    label: str,
    steps: int,
    *,
    width: int = 64,
    batch_size: int = 128,
    quick_width: int = 8,
    activation: Callable[[Array], Array] = jax.nn.gelu,
) -> Setting:
    """The MLP at another width or batch size, or with kinks, for the question of scale."""
    return Setting(
        label,
        lambda folder: MLPClassifier(
            _fashion(folder), width, batch_size=batch_size, activation=activation
        ),
        lambda: MLPClassifier(
            load_subset(), quick_width, batch_size=batch_size // 4, activation=activation
        ),
        steps=steps,
        tuning_seeds=2,
        core=False,
        questions=("scale", "heldout"),
    )


def _lenet(label: str, smooth: bool, **options: Any) -> Setting:
    """LeNet, smooth or with kinks."""
    return Setting(
        label,
        lambda folder: LeNetClassifier(
            _fashion(folder), smooth=smooth, batch_size=32, evaluated=2_000, tested=4_000
        ),
        lambda: LeNetClassifier(
            load_subset(), (2, 4), (12, 8), smooth, batch_size=16, evaluated=100
        ),
        steps=600,
        tuning_seeds=2,
        evaluations=2,
        **options,
    )


def _deterministic(label: str, problem: Callable[[], curvopt.AbstractProblem]) -> Setting:
    """A problem without noise; a quick run has it at the same size."""
    return Setting(
        label,
        lambda folder: problem(),
        problem,
        steps=5000,
        evaluations=1,
        core=False,
        questions=("noiseless",),
    )


SETTINGS: dict[str, Setting] = {
    "logistic": Setting(
        "logistic regression, MNIST",
        lambda folder: LogisticRegression(_mnist(folder)),
        lambda: LogisticRegression(load_subset(), batch_size=32, evaluated=500),
        steps=1000,
    ),
    "mlp": Setting(
        "MLP, Fashion-MNIST",
        lambda folder: MLPClassifier(_fashion(folder)),
        lambda: MLPClassifier(load_subset(), 8, batch_size=32),
        steps=1500,
    ),
    "autoencoder": Setting(
        "autoencoder, MNIST",
        lambda folder: Autoencoder(_mnist(folder), _WIDTHS),
        lambda: Autoencoder(load_subset(), (784, 16, 4, 16, 784), 32, evaluated=500),
        steps=1000,
        tuning_seeds=2,
    ),
    "lenet": _lenet("LeNet, Fashion-MNIST", smooth=True),
    "gru": Setting(
        "GRU, Shakespeare",
        lambda folder: GRUCharacters(
            load_shakespeare(folder), width=64, length=32, batch_size=32
        ),
        None,
        steps=1000,
        tuning_seeds=2,
        evaluations=2,
    ),
    "mlp-width-16": _mlp("MLP of width 16", 1500, width=16, quick_width=4),
    "mlp-width-256": _mlp("MLP of width 256", 750, width=256, quick_width=16),
    "mlp-batch-32": _mlp("MLP, batches of 32", 1500, batch_size=32),
    "mlp-batch-512": _mlp("MLP, batches of 512", 750, batch_size=512),
    "mlp-relu": _mlp("MLP with relu", 1500, activation=jax.nn.relu),
    "lenet-relu": _lenet(
        "LeNet with relu, max-pooling",
        smooth=False,
        core=False,
        questions=("scale", "heldout"),
    ),
    "resnet": Setting(
        "ResNet, CIFAR-10",
        lambda folder: ResNetClassifier(load_cifar10(folder), batch_size=32),
        lambda: ResNetClassifier(load_subset(), (2, 4), batch_size=8, evaluated=100),
        steps=200,
        tuning_seeds=1,
        evaluations=1,
        core=False,
        questions=("scale", "heldout", "radial"),
    ),
    "transformer": Setting(
        "transformer, Shakespeare",
        lambda folder: TransformerCharacters(load_shakespeare(folder)),
        None,
        steps=500,
        tuning_seeds=1,
        evaluations=1,
        core=False,
        questions=("scale", "heldout"),
    ),
    "conv-autoencoder": Setting(
        "convolutional autoencoder, Fashion-MNIST",
        lambda folder: ConvolutionalAutoencoder(_fashion(folder), tested=500),
        lambda: ConvolutionalAutoencoder(
            load_subset(), (2, 4), code=4, batch_size=16, evaluated=100, tested=50
        ),
        steps=500,
        tuning_seeds=2,
        evaluations=1,
        core=False,
        questions=("heldout",),
    ),
    "vit": Setting(
        "vision transformer, CIFAR-10",
        lambda folder: VisionTransformerClassifier(
            load_cifar10(folder), batch_size=32, tested=500
        ),
        lambda: VisionTransformerClassifier(
            load_subset(), 7, 8, 1, heads=2, batch_size=16, evaluated=100, tested=50
        ),
        steps=300,
        tuning_seeds=1,
        evaluations=1,
        core=False,
        questions=("heldout",),
    ),
    "quadratic": Setting(
        "quadratic with noise",
        lambda folder: NoisyQuadratic(dimension=100, condition=10.0, noise=0.1),
        lambda: NoisyQuadratic(dimension=20, condition=10.0, noise=0.1),
        steps=4000,
        tuning_seeds=8,
        evaluations=100,
        questions=("edges",),
    ),
    "rosenbrock": _deterministic("Rosenbrock, 2 unknowns", Rosenbrock),
    "valley": _deterministic("chain, Rosenbrock's of 10 unknowns", lambda: Rosenbrock(10)),
    "quadratic-100": _deterministic(
        "condition 100, a quadratic", lambda: NoisyQuadratic(100, 100.0)
    ),
    "quadratic-1000": _deterministic(
        "condition 1000, a quadratic", lambda: NoisyQuadratic(100, 1000.0)
    ),
    "pendulum": _deterministic("pendulum, its swing-up", Pendulum),
}
