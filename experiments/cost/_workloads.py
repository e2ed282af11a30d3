"""The models that are measured, by name, on synthetic data: costs depend on shapes, not on
values."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import curvopt

from .. import problems
from ._instance import Instance


# Maps a batch size to a loss with parameters and synthetic data, always the same.
Builder: TypeAlias = Callable[[int], Instance]


def _keys() -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of model and data, the same in every run."""
    model, data = jr.split(jr.key(0))
    return model, data


def _labelled(
    batch_size: int, shape: tuple[int, ...], classes: int
) -> tuple[Float[Array, "batch ..."], Int[Array, " batch"]]:
    """Standard normal inputs with random labels."""
    inputs, labels = jr.split(_keys()[1])
    x = jr.normal(inputs, (batch_size, *shape), jnp.float32)
    return x, jr.randint(labels, (batch_size,), 0, classes, jnp.int32)


def _text(batch_size: int, length: int, vocabulary: int) -> Int[Array, "batch characters"]:
    """Random characters, one more than `length`, since each is the target of the last."""
    return jr.randint(_keys()[1], (batch_size, length + 1), 0, vocabulary, jnp.int32)


def _digits(batch_size: int, pixels: int) -> Float[Array, "batch pixel"]:
    """Grey values, a fifth of them not black, as in MNIST."""
    grey, ink = jr.split(_keys()[1])
    values = jr.uniform(grey, (batch_size, pixels), jnp.float32)
    return values * jr.bernoulli(ink, 0.2, values.shape)


def _cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
) -> Scalar:
    logits = curvopt.tag_output(logits)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _classify(model: Callable, data: tuple[Array, Array]) -> Scalar:
    return _cross_entropy(model(data[0]), data[1])


def _predict_next(model: Callable, text: Array) -> Scalar:
    return _cross_entropy(model(text[:, :-1]), text[:, 1:])


def _reconstruct(model: Callable, images: Array) -> Scalar:
    logits = curvopt.tag_output(model(images))
    return problems.bernoulli_loss(logits, images).mean()


def _instance(model: Any, data: PyTree[Array], loss: Callable) -> Instance:
    """`loss(model, data)` of an Equinox model of one example."""
    y, static = eqx.partition(model, eqx.is_inexact_array)

    def of_parameters(y: PyTree, args: Any) -> tuple[Scalar, None]:
        return loss(jax.vmap(eqx.combine(y, static)), *args), None

    return Instance(of_parameters, y, (data,))


@dataclasses.dataclass(frozen=True)
class MLP:
    """A classifier of fully connected layers of equal width, with gelu."""

    pixels: int
    width: int
    depth: int
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        sizes = self.pixels, self.classes, self.width, self.depth
        model = eqx.nn.MLP(*sizes, jax.nn.gelu, key=_keys()[0])
        data = _labelled(batch_size, (self.pixels,), self.classes)
        return _instance(model, data, _classify)


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """Fully connected layers that narrow and widen again, with gelu; the loss takes each
    pixel as the probability of a Bernoulli variable."""

    widths: tuple[int, ...]

    def __call__(self, batch_size: int) -> Instance:
        model = problems.autoencoder_network(self.widths, key=_keys()[0])
        return _instance(model, _digits(batch_size, self.widths[0]), _reconstruct)


@dataclasses.dataclass(frozen=True)
class LeNet:
    """Two convolutions, each with 2 x 2 average pooling, and three dense layers, with tanh:
    LeNet-5 (LeCun et al. 1998) with all connections."""

    size: int
    channels: tuple[int, int]
    widths: tuple[int, int]
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        shape = self.size, self.size
        sizes = shape, self.channels, self.widths, self.classes
        model = problems.lenet_network(*sizes, jnp.tanh, eqx.nn.AvgPool2d, key=_keys()[0])
        data = _labelled(batch_size, (1, *shape), self.classes)
        return _instance(model, data, _classify)


@dataclasses.dataclass(frozen=True)
class ResNet:
    """The residual network of He et al. (2016) for CIFAR, with one block per stage, relu
    and batch normalisation, whose running averages are the auxiliary output."""

    size: int
    channels: tuple[int, ...]
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        model = curvopt.EquinoxModel(
            partial(problems.ResNet, 3, self.channels, 1, self.classes, jax.nn.relu)
        )
        data = _labelled(batch_size, (3, self.size, self.size), self.classes)
        key, _ = _keys()
        y, state = model.init(key, data[0])

        def loss(y: PyTree, args: Any) -> tuple[Scalar, PyTree]:
            (images, labels), state = args
            logits, state = model.apply(y, state, images, key)
            return _cross_entropy(logits, labels), state

        return Instance(loss, y, (data, state))


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A causal pre-norm transformer that predicts the next character.

    `scanned` stacks the parameters of the blocks and scans over them; `unroll` unrolls that
    loop.
    """

    width: int
    layers: int
    heads: int
    length: int
    vocabulary: int
    scanned: bool = False
    unroll: bool = False

    def __call__(self, batch_size: int) -> Instance:
        model = problems.TransformerNetwork(*dataclasses.astuple(self), key=_keys()[0])
        data = _text(batch_size, self.length, self.vocabulary)
        return _instance(model, data, _predict_next)

    def loop_free(self) -> "Transformer":
        """The same model with its loop over layers unrolled."""
        return dataclasses.replace(self, unroll=True)


@dataclasses.dataclass(frozen=True)
class GRU:
    """A gated recurrent unit that predicts the next character, as a scan over steps."""

    width: int
    length: int
    vocabulary: int
    unroll: bool = False

    def __call__(self, batch_size: int) -> Instance:
        model = problems.GRUNetwork(
            self.width, self.vocabulary, self.unroll, key=_keys()[0]
        )
        data = _text(batch_size, self.length, self.vocabulary)
        return _instance(model, data, _predict_next)

    def loop_free(self) -> "GRU":
        """The GRU with eight steps, unrolled: all 128 would compile for minutes, and
        sixteen change the ratios of FLOPs by about one per cent."""
        return dataclasses.replace(self, length=min(self.length, 8), unroll=True)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model to measure on.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `full`: builds it at its real size.
    - `tiny`: builds it at a tiny size, for smoke tests.
    - `batch_sizes`: the smaller and the larger batch size.
    - `loop_free`: maps a builder to one without loops, on which FLOPs are counted, since
        XLA counts the body of a loop once.
    """

    label: str
    full: Builder
    tiny: Builder
    batch_sizes: tuple[int, int]
    loop_free: Callable[[Any], Builder] | None = None


WORKLOADS = {
    "mlp": Workload("MLP", MLP(784, 1024, 1, 10), MLP(6, 8, 1, 3), (128, 512)),
    "deep-mlp": Workload("deep MLP", MLP(784, 1024, 3, 10), MLP(6, 8, 3, 3), (64, 256)),
    "autoencoder": Workload(
        "autoencoder",
        Autoencoder((784, 256, 64, 16, 64, 256, 784)),
        Autoencoder((12, 6, 2, 6, 12)),
        (128, 512),
    ),
    "lenet": Workload(
        "LeNet",
        LeNet(28, (6, 16), (120, 84), 10),
        LeNet(12, (2, 3), (6, 5), 3),
        (32, 128),
    ),
    "resnet": Workload(
        "ResNet", ResNet(32, (16, 32, 64), 10), ResNet(8, (3, 4), 3), (16, 64)
    ),
    "transformer": Workload(
        "transformer",
        Transformer(256, 4, 4, 128, 96),
        Transformer(8, 1, 2, 5, 7),
        (2, 8),
    ),
    "scanned-transformer": Workload(
        "transformer, scanned",
        Transformer(256, 4, 4, 128, 96, scanned=True),
        Transformer(8, 2, 2, 5, 7, scanned=True),
        (2, 8),
        Transformer.loop_free,
    ),
    "gru": Workload("GRU", GRU(256, 128, 96), GRU(6, 5, 7), (8, 32), GRU.loop_free),
}
