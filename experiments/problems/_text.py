"""What problems on text have in common; each holds a `TextData`."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar, UInt8

import curvopt

from ..data import Text
from ._images import classified


class TextData(eqx.Module):
    """A text on the device once, as bytes, cut into windows that do not overlap: their
    mini-batches, and the evaluation on them.

    A window has `length + 1` characters: a model reads all but the last one and predicts
    all but the first one. What does not fill a window at the end of a part is left out.

    **Arguments:**

    - `text`: the data.
    - `length`: how many characters a model reads.
    - `batch_size`: windows in a mini-batch.
    - `evaluated`: on how many training windows and on how many test windows metrics are
        evaluated, the same ones always, evenly spaced; all of them if `None` or if there
        are fewer. They are evaluated in one piece, as images are.

    **Raises:**

    `ValueError` if a count is not one, the batch is larger than the training data, or the
    test data do not fill a window.
    """

    train: UInt8[Array, "windows characters"]
    evaluated_train: UInt8[Array, "evaluated characters"]
    evaluated_test: UInt8[Array, "evaluated_for_test characters"]
    name: str = eqx.field(static=True)
    symbols: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def __init__(self, text: Text, length: int, batch_size: int, evaluated: int | None):
        length = curvopt.check_count("length", length)
        self.batch_size = curvopt.check_count("batch_size", batch_size)
        if evaluated is not None:
            evaluated = curvopt.check_count("evaluated", evaluated)
        train, test = (_windows(part, length + 1) for part in (text.train, text.test))
        if batch_size > len(train):
            raise ValueError(
                f"batch_size must be at most the number of training windows, but it is "
                f"{batch_size} and {text.name} has {len(train)} of {length} + 1 characters."
            )
        if not len(test):
            raise ValueError(
                f"length must leave room for a test window, but it is {length} and "
                f"{text.name} has {len(text.test)} test characters. A window has one more "
                "than length."
            )
        self.train = jnp.asarray(train)
        self.evaluated_train = jnp.asarray(_evenly_spaced(train, evaluated))
        self.evaluated_test = jnp.asarray(_evenly_spaced(test, evaluated))
        self.name = text.name
        self.symbols = len(text.alphabet)

    @property
    def length(self) -> int:
        """How many characters a model reads."""
        return self.train.shape[1] - 1

    @property
    def steps_per_epoch(self) -> int:
        """How many batches go through the training windows once."""
        return len(self.train) // self.batch_size

    def batch(
        self, key: PRNGKeyArray, count: Int[Array, ""]
    ) -> UInt8[Array, "batch characters"]:
        """The windows of a step: [`curvopt.minibatch_indices`][]."""
        chosen = curvopt.minibatch_indices(
            key, count, size=len(self.train), batch_size=self.batch_size
        )
        return self.train[chosen]

    def evaluate(
        self, fn: Callable[[Array], tuple[Scalar, curvopt.Metrics]]
    ) -> curvopt.Metrics:
        """Metrics on the training and on the test windows.

        **Arguments:**

        - `fn`: `fn(windows) -> (loss, metrics)`, means over the characters.

        **Returns:**

        `train_loss`, `test_loss`, and `train_` and `test_` before the names in `metrics`.
        """
        out = {}
        parts = {"train": self.evaluated_train, "test": self.evaluated_test}
        for part, windows in parts.items():
            loss, metrics = fn(windows)
            named = {"loss": loss, **metrics}
            out |= {f"{part}_{name}": value for name, value in named.items()}
        return out


def _windows(
    part: UInt8[np.ndarray, " text"], size: int
) -> UInt8[np.ndarray, "windows characters"]:
    number = len(part) // size
    return part[: number * size].reshape(number, size)


def _evenly_spaced(
    windows: UInt8[np.ndarray, "windows characters"], evaluated: int | None
) -> UInt8[np.ndarray, "evaluated characters"]:
    if evaluated is None or evaluated >= len(windows):
        return windows
    return windows[np.arange(evaluated, dtype=np.int64) * len(windows) // evaluated]


def predicted(
    model: Callable[[Int[Array, " length"]], Float[Array, "length symbol"]],
    windows: UInt8[Array, "n characters"],
) -> tuple[Scalar, curvopt.Metrics]:
    """How well each character is predicted from those before it in its window.

    **Arguments:**

    - `model`: from characters to the logits of what follows each of them.
    - `windows`: of characters, one more than the model reads.

    **Returns:**

    The mean cross-entropy in nats per character, and how many of all are predicted
    correctly, `accuracy`.
    """
    characters = windows[:, :-1].astype(jnp.int32)
    logits = curvopt.tag_output(jax.vmap(model)(characters))
    return classified(logits.reshape(-1, logits.shape[-1]), windows[:, 1:].ravel())
