"""Work that is done side by side."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def side_by_side(tasks: Sequence[Callable[[], Any]]) -> None:
    """Call functions at the same time, each in a thread of its own; an error of one is
    raised when all have ended."""
    if len(tasks) == 1:
        tasks[0]()
        return
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
    errors = [e for e in (future.exception() for future in futures) if e is not None]
    # The others were interrupted because of it.
    errors.sort(key=lambda error: isinstance(error, KeyboardInterrupt))
    if errors:
        raise errors[0]
