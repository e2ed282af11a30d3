import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, UInt32

from . import _compat
from ._checks import check_count, check_key
from ._keys import key_of, start_keys


# Rounds of the Feistel network.
_ROUNDS = 8


# Arrays of uint32: of jax in a compiled program, of NumPy on the host. NumPy's scalars
# serve both.
_Words = TypeVar("_Words", Array, np.ndarray)


def _mix(x: _Words) -> _Words:
    """The finaliser of MurmurHash3 (Appleby, public domain): every input bit changes
    every output bit with probability near one half."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _permute(x: _Words, keys: _Words, half: int) -> _Words:
    """A Feistel network: a bijection of the numbers of `2 * half` bits."""
    mask = np.uint32((1 << half) - 1)
    left, right = x >> half, x & mask
    for k in range(_ROUNDS):
        left, right = right, left ^ (_mix(right ^ keys[k]) & mask)
    permuted: Any = (left << half) | right
    return permuted


def _is_count(x: Any) -> bool:
    if _compat.is_traced(x):
        return jnp.issubdtype(x.dtype, jnp.integer)
    if not hasattr(x, "dtype") and not isinstance(x, int):
        return False
    # In NumPy: within a trace jax would not say whether it is negative.
    value = np.asarray(x)
    return value.dtype.kind in "iu" and bool((value >= 0) & (value < 2**31))


def _round_keys(key: PRNGKeyArray, epoch: Int[Array, ""] | int) -> UInt32[Array, " r"]:
    return jr.bits(jr.fold_in(key, epoch), (_ROUNDS,), jnp.uint32)


def _half_bits(size: int) -> int:
    return max(1, ((size - 1).bit_length() + 1) // 2)


def minibatch_indices(
    key: PRNGKeyArray, count: Int[Array, ""] | int, *, size: int, batch_size: int
) -> Int[Array, " batch"]:
    """The indices of a step's mini-batch: shuffled in each epoch, without replacement.

    No permutation is stored or sorted: position `i` of an epoch maps to its example by
    a keyed bijection (a Feistel network, with cycle walking where `size` is not a power
    of four: Black & Rogaway 2002), evaluated for this batch only. Sorting `size` random
    keys in every step of every seed can cost as much as a small network's gradient.
    The last `size % batch_size` examples of each epoch's order are left out.

    **Arguments:**

    - `key`: the random key of the shuffle; one for each seed.
    - `count`: the step count, an integer from 0; traced or not.
    - `size`: the number of examples, below $2^{31}$.
    - `batch_size`: the number of examples in a batch.

    **Returns:**

    `batch_size` distinct integers in `[0, size)`, int32.

    **Raises:**

    `ValueError` if `key` is no typed random key, `count` is negative or no integer, `size`
    or `batch_size` is out of its range, or the batch is larger than the data.
    """
    check_key("key", key)
    size, batch_size = check_count("size", size), check_count("batch_size", batch_size)
    if not _is_count(count):
        raise ValueError(f"count must be an integer from 0, in int32, but it is {count!r}.")
    if batch_size > size:
        raise ValueError(
            f"batch_size must be at most the number of examples, but it is {batch_size}"
            f" and there are {size}."
        )
    steps_per_epoch = size // batch_size
    epoch, position = count // steps_per_epoch, count % steps_per_epoch
    keys, half = _round_keys(key, epoch), _half_bits(size)
    start = jnp.asarray(position * batch_size, jnp.uint32)
    x = _permute(start + jnp.arange(batch_size, dtype=jnp.uint32), keys, half)
    # Cycle walking: a number outside the range is permuted again until it falls inside,
    # which keeps the map a bijection of the range. At least a quarter is inside.
    x = jax.lax.while_loop(
        lambda x: jnp.any(x >= size),
        lambda x: jnp.where(x >= size, _permute(x, keys, half), x),
        x,
    )
    return x.astype(jnp.int32)


@functools.lru_cache(maxsize=256)
def _host_round_keys(seed: int, epoch: int) -> UInt32[np.ndarray, " r"]:
    return np.asarray(_round_keys(start_keys(key_of(seed)).batch, epoch))


def host_minibatch_indices(
    seed: int, step: int, *, size: int, batch_size: int
) -> Int[np.ndarray, " batch"]:
    """[`curvopt.minibatch_indices`][] in NumPy: those of a run from `jax.random.key(seed)`.

    jax is asked once an epoch, for the keys of the shuffle.
    """
    epoch, position = divmod(step, size // batch_size)
    keys, half = _host_round_keys(seed, epoch), _half_bits(size)
    start = np.arange(position * batch_size, (position + 1) * batch_size)
    x: np.ndarray = np.asarray(_permute(start.astype(np.uint32), keys, half))
    while (outside := x >= size).any():
        x[outside] = _permute(x[outside], keys, half)
    return x.astype(np.int64)
