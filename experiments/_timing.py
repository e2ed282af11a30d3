import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float


# Quartiles of fewer would mean nothing.
_FEWEST = 3


def interleaved(
    programs: Sequence[Callable[[], Any]], *, seconds: float, repeats: int
) -> Float[np.ndarray, "repetition program"]:
    """Time programs against each other.

    Each repetition runs every program once, in an order drawn anew, so that what
    disturbs the machine disturbs all alike: compare times within a repetition.

    **Arguments:**

    - `programs`: called without arguments; each waits for its result.
    - `seconds`: no repetition begins later than this, but for the first three.
    - `repeats`: how many repetitions at most.

    **Returns:**

    Seconds of each run.
    """
    rng = np.random.default_rng(0)
    times: list[np.ndarray] = []
    deadline = time.perf_counter() + seconds
    while len(times) < repeats and (len(times) < _FEWEST or time.perf_counter() < deadline):
        row = np.empty(len(programs))
        for k in rng.permutation(len(programs)):
            began = time.perf_counter()
            programs[k]()
            row[k] = time.perf_counter() - began
        times.append(row)
    return np.stack(times)
