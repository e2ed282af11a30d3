"""What the host does besides running programs: signals, progress, threads, processes."""

import contextlib
import itertools
import json
import logging
import math
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import numpy as np
import tqdm
import tqdm.notebook
from jax.experimental import multihost_utils
from jaxtyping import Int

from .. import _compat
from ._records import Records, Rows
from ._store import StudyError


# Ctrl-C, and the signals that schedulers send before they kill. Windows has no SIGHUP.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]


class Interrupt:
    """Whether an interruption was requested, and by which signal."""

    def __init__(self) -> None:
        self.asked = False
        self.signal: int | None = None

    def ends_the_run_only(self) -> bool:
        """Whether it was a Ctrl-C in an interactive session, such as a notebook: whoever is
        there wants to see what there is. The signal then takes no other effect."""
        interactive = hasattr(sys, "ps1") and jax.process_count() == 1
        if not interactive or self.signal != signal.SIGINT:
            return False
        self.signal = None
        return True


class Interrupted(KeyboardInterrupt):
    """A run that was interrupted, with everything saved."""


@contextlib.contextmanager
def postponed_signals() -> Iterator[Interrupt]:
    """A context in which the first Ctrl-C, SIGTERM or SIGHUP is only noted, so that there
    is always a complete state to save. A second one acts at once. On exit the signal takes
    its usual effect."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # only the main thread may set signal handlers
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: object) -> None:
        del frame
        interrupt.asked, interrupt.signal = True, number
        # Back to what it was: a second one acts at once.
        signal.signal(number, before[number])

    for number in _SIGNALS:
        # None: a handler that Python did not install, and cannot restore.
        if before[number] not in (None, signal.SIG_IGN):
            signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        if interrupt.signal is not None:
            signal.raise_signal(interrupt.signal)


def _is_no_callback(record: logging.LogRecord) -> bool:
    return record.getMessage() != "jax.pure_callback failed"


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Within it an `equinox.error_if` of a compiled program raises
    `equinox.EquinoxRuntimeError` with its own message. Left alone, XLA surrounds it with
    thousands of characters on callbacks and `jit`, and jax logs as many."""
    log = logging.getLogger("jax._src.callback")
    log.addFilter(_is_no_callback)
    try:
        yield
    except (RuntimeError, ValueError) as error:
        found = re.search(r"EquinoxRuntimeError: (.*?)\s+-{19}", str(error), re.DOTALL)
        if found is None:
            raise
        raise eqx.EquinoxRuntimeError(found[1]) from None
    finally:
        log.removeFilter(_is_no_callback)


# Seconds between two lines if there is no bar.
_LINE_EVERY = 60.0


class Progress:
    """The progress of a study: a bar in a terminal or notebook, otherwise occasional lines.

    **Arguments:**

    - `total`: how many steps all runs make together.
    - `shown`: whether to show anything.
    """

    def __init__(self, total: int, shown: bool):
        shown = shown and sys.stderr is not None  # as in a process without a console
        # Without ipywidgets there is no bar in a notebook, and tqdm would raise an error.
        widgets = getattr(tqdm.notebook, "IProgress", None) is not None
        in_notebook = "ipykernel" in sys.modules and widgets
        bar: Any = tqdm.notebook.tqdm if in_notebook else tqdm.tqdm
        # None: tqdm disables the bar if there is no terminal.
        disable = (False if in_notebook else None) if shown else True
        self._bar = bar(total=total, unit="step", unit_scale=True, disable=disable)
        self._lines = shown and self._bar.disable
        self._total, self._made, self._new, self._name = total, 0, 0, ""
        self._began = self._said = time.monotonic()
        self._lock = threading.Lock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def strategy(self, name: str) -> None:
        """Set the strategy that is running."""
        self._name = name
        self._bar.set_description(name)

    def say(self, text: str) -> None:
        """Print a line about the strategy that is running."""
        if not self._bar.disable:
            self._bar.write(f"{self._name}: {text}", file=sys.stderr)

    def interrupted(self, remedy: str) -> None:
        """Say how far the runs have come, whether or not progress is shown."""
        made = f"{self._made:,} of {self._total:,} steps"
        if sys.stderr is not None:
            self._bar.write(f"interrupted after {made}{remedy}", file=sys.stderr)

    def already(self, steps: int) -> None:
        """Count steps that were made before, or need not be made."""
        with self._lock:
            self._made += steps
        self._bar.update(steps)

    def advance(self, steps: int, best: float) -> None:
        """Count steps that were made, with the lowest loss among them."""
        if best < float("inf"):
            self._bar.set_postfix_str(f"best loss {best:.4g}", refresh=False)
        self._bar.update(steps)
        with self._lock:  # groups advance side by side
            now = time.monotonic()
            if not self._new:  # leave out the time to compile
                self._began = self._said = now
            self._made += steps
            self._new += steps
            if self._lines and now - self._said >= _LINE_EVERY:
                self._said = now
                left = (now - self._began) / self._new * (self._total - self._made)
                print(
                    f"{self._name}: {self._made:,} of {self._total:,} steps "
                    f"({self._made / self._total:.0%}), best loss {best:.4g}, about "
                    f"{left / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )


def side_by_side(tasks: Sequence[Callable[[], Any]]) -> None:
    """Call functions concurrently, each in its own thread; raise an error once all have
    ended."""
    if len(tasks) == 1:
        tasks[0]()
        return
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
    errors = [e for e in (future.exception() for future in futures) if e is not None]
    # The error comes first: it interrupted the other tasks.
    errors.sort(key=lambda error: isinstance(error, KeyboardInterrupt))
    if errors:
        raise errors[0]


def sent(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The first process's arrays in all processes; the others pass any of their shapes."""
    if jax.process_count() == 1:
        return list(arrays)
    # As bytes: jax would convert float64 to float32.
    plain = [np.frombuffer(x.tobytes(), np.uint8) for x in arrays]
    found = multihost_utils.broadcast_one_to_all(plain)
    read = lambda own, x: np.frombuffer(np.asarray(own).tobytes(), x.dtype)
    return [read(own, x).reshape(x.shape) for own, x in zip(found, arrays)]


# Numbers the studies of a process. All processes of a program run the same studies in the
# same order, so their numbers agree.
_STUDIES = itertools.count()


def own_share(lanes: int) -> int:
    """How many lanes a process has to run."""
    return math.ceil(lanes / jax.process_count())


def broadcast(value: Any) -> Any:
    """The first process's value in all processes; it must be JSON-serialisable."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    # All processes must pass arrays of one shape, that of the first.
    sent = multihost_utils.broadcast_one_to_all(np.resize(text, size))
    return json.loads(np.asarray(sent, np.uint8).tobytes())


def _gathered(arrays: Rows, owner: Int[np.ndarray, " runs"]) -> Rows:
    runs, out = np.arange(len(owner)), {}
    # A process without runs does not know the names, dtypes and lengths.
    known = {name: (x.dtype.str, x.shape[1]) for name, x in arrays.items()}
    for name, (dtype, length) in broadcast(known).items():
        x = arrays.get(name, np.zeros((len(owner), length), dtype))
        # As bytes: jax would convert float64 to float32.
        every = multihost_utils.process_allgather(np.ascontiguousarray(x).view(np.uint8))
        own = np.ascontiguousarray(np.asarray(every, np.uint8)[owner, runs])
        out[name] = own.view(dtype)
    return out


def gather(records: Records) -> None:
    """Give every process the records of all of them."""
    if jax.process_count() == 1:
        return
    owner = records.owner
    records.steps = _gathered(records.steps, owner)
    records.evaluations = _gathered(records.evaluations, owner)
    progress = {
        "made": records.made[:, None],
        "stopped_at": records.stopped_at[:, None],
        "evaluated": records.evaluated,
    }
    found = _gathered(progress, owner)
    records.made, records.stopped_at = found["made"][:, 0], found["stopped_at"][:, 0]
    records.evaluated = found["evaluated"]


class _Company:
    """The processes that run a study together."""

    def __init__(self) -> None:
        self.study = -1

    def key(self, what: str, process: int) -> str:
        return f"curvopt/{self.study}/{what}/{process}"

    def others(self) -> Iterator[int]:
        return (k for k in range(jax.process_count()) if k != jax.process_index())


_COMPANY = _Company()


@contextlib.contextmanager
def company() -> Iterator[None]:
    """A context in which a process that fails or is interrupted tells the others."""
    _COMPANY.study = next(_STUDIES)
    try:
        yield
    except BaseException as error:
        if jax.process_count() > 1:
            why = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
            with contextlib.suppress(Exception):  # the coordinator may be gone
                _compat.tell_processes(_COMPANY.key("ended", jax.process_index()), why)
        raise


def check_others() -> None:
    """Raise if another process has ended.

    **Raises:**

    [`curvopt.StudyError`][] naming it.
    """
    if jax.process_count() == 1:
        return
    for process in _COMPANY.others():
        why = _compat.ask_processes(_COMPANY.key("ended", process))
        if why is not None:
            _compat.leave_processes()
            raise StudyError(
                f"process {process} of {jax.process_count()} has ended ({why}). What was "
                "saved is intact: start all processes again, and the study resumes."
            )


def meet(what: str) -> None:
    """Wait until all processes reach this point.

    **Raises:**

    [`curvopt.StudyError`][] if one of them has ended.
    """
    if jax.process_count() == 1:
        return
    _compat.tell_processes(_COMPANY.key(what, jax.process_index()), "here")
    # A killed process says nothing: jax notices after a while, and ends the others.
    for process in _COMPANY.others():
        while _compat.ask_processes(_COMPANY.key(what, process)) is None:
            check_others()
            time.sleep(0.05)
