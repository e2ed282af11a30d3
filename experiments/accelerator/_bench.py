"""The device and the time of a measurement."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any, TypeAlias

import jax

from .._formatting import first_line


# One measurement as it is saved; a failed one has a `failure`.
Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterator[Row]


@dataclasses.dataclass(frozen=True)
class Bench:
    """The device, time and threads of a section.

    **Attributes:**

    - `device`: the device that is measured.
    - `quick`: whether to run a smoke test only.
    - `deadline`: the end of the section's time, on the clock of `time.monotonic`.
    - `pool`: threads that compile next to the main thread.
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
        """Whether the time is over, so that nothing more may begin."""
        return self.seconds_left == 0

    @property
    def unhurried(self) -> "Bench":
        """The same without a deadline, for programs that are compiled already."""
        return dataclasses.replace(self, deadline=math.inf)


def host() -> Any:
    """The CPU, whose float64 is the reference.

    **Raises:**

    `RuntimeError` if jax is configured not to use it.
    """
    return jax.devices("cpu")[0]


def compilers() -> int:
    """The number of programs that compile at once while none is timed. On a GPU XLA times
    candidate kernels on the device: with many at once it would choose by noisy times."""
    return min(4, os.cpu_count() or 1)


def attempted(label: Row, bench: Bench, measure: Callable[[], Rows]) -> Rows:
    """The rows of a measurement; if it fails or its time is over, a row that says so.

    **Arguments:**

    - `label`: the fields that identify these rows.
    - `measure`: makes the rows; called only if there is time.
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
    """The failure of a measurement that was not tried."""
    return _LEFT_OUT + why


def is_left_out(row: Row) -> bool:
    """Whether there was no time for a measurement."""
    return row.get("failure", "").startswith(_LEFT_OUT)
