"""The records of all lanes, on the host."""

import threading

import numpy as np


class History:
    """Arrays by name, of shape `(lanes, length)`, filled in as the lanes go on. Which names
    there are is known from the first rows.

    **Arguments:**

    - `lanes`: how many lanes there are.
    - `length`: how many rows each will have.
    """

    def __init__(self, lanes: int, length: int):
        self._shape = lanes, length
        self._lock = threading.Lock()  # lanes go on in threads of their own
        self.arrays: dict[str, np.ndarray] = {}

    def put(self, lanes: slice, first: int, rows: dict[str, np.ndarray]) -> None:
        """Fill in rows from `first` on; arrays of shape `(lanes, rows)`."""
        with self._lock:
            for name, x in rows.items():
                if name not in self.arrays:
                    blank = np.nan if x.dtype.kind == "f" else 0
                    self.arrays[name] = np.full(self._shape, blank, x.dtype)
        for name, x in rows.items():
            self.arrays[name][lanes, first : first + x.shape[1]] = x

    def rows(self, lanes: slice, first: int, last: int) -> dict[str, np.ndarray]:
        """What was filled in of some lanes, from `first` to before `last`."""
        return {name: x[lanes, first:last] for name, x in self.arrays.items()}
