"""Where measurements are made, and how much time there is."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeAlias

import jax


# One measurement, as it is written down; `failure` is there if there is none.
Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterator[Row]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where a section measures.

    **Attributes:**

    - `device`: what is measured.
    - `quick`: whether everything is tiny: only to see that it works.
    - `deadline`: when the section's time is over, on the clock of `time.monotonic`.
    - `pool`: compiles beside the main thread.
    """

    device: Any
    quick: bool
    deadline: float
    pool: Executor

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    @property
    def late(self) -> bool:
        """Whether nothing more is to begin."""
        return self.seconds_left == 0

    @property
    def unhurried(self) -> "Bench":
        """The same for what is prepared already and takes no time."""
        return dataclasses.replace(self, deadline=math.inf)


def host() -> Any:
    """The CPU, which has float64 that can be trusted.

    **Raises:**

    `RuntimeError` if jax was told not to use it.
    """
    return jax.devices("cpu")[0]


def compilers() -> int:
    """How many programs compile at once, where none is timed. On a GPU XLA tries each one's
    kernels on the device: of many at once it would choose by times that say little."""
    return min(4, os.cpu_count() or 1)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0].strip()[:300]}"


def attempted(label: Row, bench: Bench, measure: Callable[[], Rows]) -> Rows:
    """The rows of a measurement; where it fails, or its time is over, one that says so.

    **Arguments:**

    - `label`: what tells these rows from others.
    - `measure`: begun only if there is time.
    """
    if bench.late:
        yield label | {"failure": left_out()}
        return
    try:
        yield from measure()
    except Exception as error:
        yield label | {"failure": first_line(error)}


_LEFT_OUT = "left out: "


def left_out(why: str = "its time was over") -> str:
    """The failure of what was not tried."""
    return _LEFT_OUT + why


def is_left_out(row: Row) -> bool:
    """Whether there was no time for it."""
    return row.get("failure", "").startswith(_LEFT_OUT)
