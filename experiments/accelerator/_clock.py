"""Times of programs relative to one of them, within a repetition."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from .._timing import interleaved, quartiles
from ._programs import Program


# A shorter timing would measure the overhead of the call rather than the program.
_SHORTEST = 2e-3
_MOST_CALLS = 50


def _several(run: Callable[[], Any], calls: int) -> Callable[[], Any]:
    """Several calls of a program, back to back on the device."""

    def repeated() -> None:
        out = None
        for _ in range(calls):
            out = run()
        jax.block_until_ready(out)

    return repeated


def _calls(run: Callable[[], Any]) -> int:
    once = _several(run, 1)
    once()
    began = time.perf_counter()
    once()
    seconds = time.perf_counter() - began
    return int(min(_MOST_CALLS, max(1, np.ceil(_SHORTEST / seconds))))


def times(
    programs: Mapping[str, Program], over: str, *, seconds: float, repeats: int
) -> dict[str, dict[str, float]]:
    """Time programs against each other, in at least three repetitions.

    **Arguments:**

    - `programs`: the programs to time.
    - `over`: the name of the program that is the unit.
    - `seconds`, `repeats`: the limits, as in `interleaved`.

    **Returns:**

    For each program the median seconds, the quartiles of its time relative to the unit's in
    the same repetition, and the number of repetitions.
    """
    calls = np.array([_calls(program.run) for program in programs.values()])
    runs = [_several(p.run, n) for p, n in zip(programs.values(), calls.tolist())]
    each = interleaved(runs, seconds=seconds, repeats=repeats) / calls
    low, middle, high = quartiles(each, list(programs).index(over))
    return {
        name: {
            "seconds": float(np.median(each[:, k])),
            "time_low": float(low[k]),
            "time": float(middle[k]),
            "time_high": float(high[k]),
            "repetitions": len(each),
            "calls": int(calls[k]),
        }
        for k, name in enumerate(programs)
    }
