"""Several processes, by `jax.distributed`: each runs groups of lanes of its own."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Int

from ._execution import Choice


def own_share(lanes: int) -> int:
    """How many lanes a process has to run."""
    return math.ceil(lanes / jax.process_count())


def _of_the_first(value: Any) -> Any:
    """What the first process has, in all of them; anything that JSON can hold."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    sent = multihost_utils.broadcast_one_to_all(np.resize(text, size))
    return json.loads(np.asarray(sent, np.uint8).tobytes())


def agreed(choose: Callable[[], Choice]) -> Choice:
    """A choice that is the same in all processes: that of the first."""
    choice = choose()
    if jax.process_count() == 1:
        return choice
    return Choice(**_of_the_first(dataclasses.asdict(choice)))


def gathered(
    arrays: dict[str, np.ndarray], owner: Int[np.ndarray, " lanes"]
) -> dict[str, np.ndarray]:
    """Arrays with the lanes of all processes.

    **Arguments:**

    - `arrays`: by name; in each process, its own lanes are filled in. A process without
        lanes has none.
    - `owner`: of each lane, the process that ran it.
    """
    if jax.process_count() == 1:
        return arrays
    lanes, out = np.arange(len(owner)), {}
    known = {name: (x.dtype.str, x.shape[1]) for name, x in arrays.items()}
    for name, (dtype, length) in _of_the_first(known).items():
        x = arrays.get(name, np.zeros((len(owner), length), dtype))
        # As bytes: jax would make float32 of float64.
        every = multihost_utils.process_allgather(x.view(np.uint8))
        own = np.ascontiguousarray(np.asarray(every, np.uint8)[owner, lanes])
        out[name] = own.view(dtype)
    return out
