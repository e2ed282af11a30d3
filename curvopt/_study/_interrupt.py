"""Ctrl-C between two chunks, and not within one."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupt:
    """Whether an interruption was asked for."""

    def __init__(self) -> None:
        self.asked = False


@contextlib.contextmanager
def postponed_interrupt() -> Iterator[Interrupt]:
    """Within it the first Ctrl-C is only noted, so that there is always a whole state to be
    saved; a second one acts at once."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # signals are the main thread's
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        del number, frame
        interrupt.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
        if interrupt.asked:
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
