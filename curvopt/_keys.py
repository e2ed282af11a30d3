"""The random keys that a run begins with, and its seed as a number."""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray


class StartKeys(NamedTuple):
    """The independent keys that a run's key is split into."""

    init: PRNGKeyArray
    batch: PRNGKeyArray
    loss: PRNGKeyArray
    direction: PRNGKeyArray


def start_keys(key: PRNGKeyArray) -> StartKeys:
    """Split the key of a run."""
    return StartKeys(*jr.split(key, 4))


def seed_of(key: PRNGKeyArray) -> int:
    """The seed that a key was made from: `jax.random.key(3)` has the seed 3. A key that was
    split off another one has 64 random bits."""
    # The first two words: an rbg key holds its seed twice.
    high, low = np.asarray(jr.key_data(key)).ravel()[:2].tolist()
    return high << 32 | low


def key_of(seed: int) -> PRNGKeyArray:
    """The inverse of `seed_of`, for threefry keys."""
    words = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    return jr.wrap_key_data(jnp.asarray(words), impl="threefry2x32")
