"""What problems on text have in common."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

import curvopt

from ..data import Text
from ._on_data import accuracy, evenly_spaced


def next_character(
    text: Text,
    make: Callable[..., Any],
    *,
    length: int,
    batch_size: int,
    evaluated: int | None,
) -> curvopt.SupervisedProblem:
    """The next character of a text, predicted from those before it in its window: the
    cross-entropy in nats per character; its metric is `accuracy`, the fraction that is
    predicted correctly.

    The text is on the device once, as bytes, cut into windows that do not overlap. A
    window has `length + 1` characters: a model reads all but the last one and predicts
    all but the first one. What does not fill a window at the end of a part is left out.

    **Arguments:**

    - `text`: the data.
    - `make`: makes the model of a key: from characters to the logits of what follows each
        of them.
    - `length`: how many characters a model reads.
    - `batch_size`: windows in a mini-batch.
    - `evaluated`: on how many training windows and on how many test windows metrics are
        evaluated, the same ones always, evenly spaced; all of them if `None` or if there
        are fewer. They are evaluated in one piece, as images are.

    **Raises:**

    `ValueError` if a count is not one, the batch is larger than the training data, or the
    test data do not fill a window.
    """
    length = curvopt.check_count("length", length)
    train, test = (_windows(part, length + 1) for part in (text.train, text.test))
    if not len(test):
        raise ValueError(
            f"length must leave room for a test window, but it is {length} and "
            f"{text.name} has {len(text.test)} test characters. A window has one more "
            "than length."
        )
    return curvopt.SupervisedProblem(
        curvopt.EquinoxModel(make),
        loss=_cross_entropy,
        train=train,
        test=evenly_spaced("evaluated", test, evaluated),
        batch_size=batch_size,
        metrics={"accuracy": accuracy},
        prepare=_read_and_predicted,
        evaluated=evaluated,
    )


def _windows(
    part: UInt8[np.ndarray, " text"], size: int
) -> UInt8[np.ndarray, "windows characters"]:
    number = len(part) // size
    return part[: number * size].reshape(number, size)


def _read_and_predicted(
    windows: UInt8[Array, "n characters"],
) -> tuple[Int[Array, "n length"], Int[Array, "n length"]]:
    characters = windows.astype(jnp.int32)
    return characters[:, :-1], characters[:, 1:]


def _cross_entropy(
    logits: Float[Array, "n length symbol"], characters: Int[Array, "n length"]
) -> Float[Array, "n length"]:
    # Flat, so that the mean is rounded as in earlier studies, to the bit.
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.reshape(-1, logits.shape[-1]), characters.ravel()
    )
    return losses.reshape(characters.shape)
