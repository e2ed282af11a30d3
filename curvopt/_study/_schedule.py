"""When a run is looked at."""

import time

import numpy as np
from jaxtyping import Int


# Seconds between two looks at the progress bar: the length of a chunk of steps.
_PACE = 0.5


def evaluation_schedule(steps: int, evaluations: int) -> Int[np.ndarray, " evaluations"]:
    """Steps at which to evaluate: the start, the end, and evenly between."""
    return np.unique(np.linspace(0, steps, evaluations + 1).round().astype(int))


class Pace:
    """How many steps to make until the next look, by how fast the last ones were.

    **Arguments:**

    - `most`: the most that one chunk may have.
    """

    def __init__(self, most: int):
        self._most = most
        self._next = 1
        self._began = 0.0
        self.seconds = 0.0

    def __call__(self, left: int) -> int:
        """The length of the next chunk, at most what is left."""
        return min(self._next, left)

    def begin(self) -> None:
        """A chunk begins now."""
        self._began = time.perf_counter()

    def end(self, steps: int) -> None:
        """A chunk of so many steps ends now."""
        seconds = time.perf_counter() - self._began
        self.seconds += seconds
        fitting = int(steps * _PACE / max(seconds, 1e-9))
        self._next = max(1, min(self._most, fitting, 8 * steps))
