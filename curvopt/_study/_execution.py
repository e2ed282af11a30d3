"""How lanes are run: what a user asks for, and what is chosen by backend, memory and a
short measurement."""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import psutil

from .._checks import check_choice, check_count
from ._program import Programs
from ._steps import Loop


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the lanes of a study are run. What is `None` is chosen: by the backend, by the
    compiled program's own memory analysis, and, where it pays, by a short measurement. A
    study that goes on from its folder is run as it was begun, whatever is given.

    **Arguments:**

    - `loop`: `"scan"`, many steps in one call of the compiled program, or `"dispatch"`, a
        call for each step. XLA on CPU runs a convolution inside a loop many times slower
        than one dispatched.
    - `lanes_at_once`: how many lanes a device runs at once, vmapped; 1 runs one after
        another. Results of one choice and of another differ by rounding.
    - `workers`: how many groups of lanes are run side by side, each by a thread of its own.
        XLA on CPU runs small programs on one core: a study on one device of a CPU has as
        many workers as there are cores.
    - `measure`: whether to measure what is chosen among; by default in runs that are
        expected to take long, on CPU, where measuring pays.
    - `chunk`: the most steps between two looks at the progress bar and the clock. It
        changes no number.
    - `memory`: how many bytes of each device the lanes may take.
    - `devices`: on which of `jax.local_devices()`; default all of them.

    **Raises:**

    `ValueError` if a field is none of these.
    """

    loop: Loop | None = None
    lanes_at_once: int | None = None
    workers: int | None = None
    measure: bool | None = None
    chunk: int | None = None
    memory: int | None = None
    devices: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if self.loop is not None:
            check_choice("loop", self.loop, ("scan", "dispatch"))
        for name in ("lanes_at_once", "workers", "chunk", "memory"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check_count(name, value))
        if self.measure not in (None, True, False):
            raise ValueError(
                f"measure must be True, False or None, but it is {self.measure!r}."
            )
        if self.devices is not None:
            self._check_devices()

    def _check_devices(self) -> None:
        given = self.devices
        is_list = isinstance(given, Sequence) and not isinstance(given, str)
        if not is_list or not given or not all(isinstance(x, jax.Device) for x in given):
            raise ValueError(
                "devices must be at least one device, in a list such as "
                f"`jax.local_devices()`, but they are {given!r}."
            )
        if len(set(given)) < len(given):
            raise ValueError(f"devices must be distinct, but they are {list(given)}.")

    def on(self) -> tuple[Any, ...]:
        """The devices."""
        return tuple(jax.local_devices() if self.devices is None else self.devices)


@dataclasses.dataclass(frozen=True)
class Choice:
    """How the lanes of a strategy are run; what a resumed study repeats.

    **Attributes:**

    - `loop`, `lanes_at_once`, `workers`: as in [`curvopt.Execution`][].
    - `devices`: how many devices run lanes side by side.
    - `longest`: the most steps that its compiled program makes in one call.
    - `evaluate_at_once`: whether the metrics of a group's lanes are evaluated together.
    - `reason`: why.
    - `compile_seconds`: how long it took to compile the program, and those that it was
        measured against.
    """

    loop: Loop
    lanes_at_once: int
    workers: int
    devices: int
    longest: int
    evaluate_at_once: bool
    reason: str
    compile_seconds: float = 0.0

    def __str__(self) -> str:
        many = self.lanes_at_once > 1
        lanes = f"{self.lanes_at_once} lanes at once" if many else "one lane after another"
        loop = "steps in a compiled loop" if self.loop == "scan" else "a call for each step"
        on = f" on each of {self.devices} devices" if self.devices > 1 else ""
        side = f", {self.workers} groups side by side" if self.workers > 1 else ""
        return f"{lanes}{on}{side}, {loop} ({self.reason})"


def check_devices(choice: Choice, execution: Execution) -> None:
    """Refuse to go on with a study on another number of devices.

    **Raises:**

    `ValueError` naming both.
    """
    devices = len(execution.on())
    if devices != choice.devices:
        raise ValueError(
            f"the study was begun on {choice.devices} devices, but there are {devices}: "
            "its numbers would not be the same. Go on with as many, or in another folder."
        )


# What allocators and everything else on the machine keep for themselves.
_USABLE = 0.8


# A measurement compiles one or two more programs: it pays in runs that take longer.
_WORTH_MEASURING = 20.0
# How many programs are compiled to find how many lanes fit: memory is nearly linear.
_TRIALS = 4
# How long a program is measured, and by how much it must win.
_MEASURE_SECONDS = 0.5
_MARGIN = 0.97


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to run the lanes: the loop, how many lanes at once, and how many such groups
    side by side."""

    loop: Loop
    width: int
    workers: int = 1

    def __str__(self) -> str:
        side = f" × {self.workers} workers" if self.workers > 1 else ""
        return f"{self.loop} × {self.width}{side}"


def available_memory(devices: tuple[Any, ...]) -> int:
    """Bytes that one of the devices can give to arrays."""
    found = []
    for device in devices:
        stats = device.memory_stats() if device.platform != "cpu" else None
        if stats and "bytes_limit" in stats:
            found.append(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    if len(found) < len(devices):  # the host's memory, which its devices share
        found.append(psutil.virtual_memory().available // len(devices))
    return int(_USABLE * min(found))


def cpu_count() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fitting_width(programs: Programs, loop: Loop, most: int, budget: int | float) -> int:
    """The most lanes at once whose program needs no more memory than there is; 0 if a
    single one needs more."""
    bytes_of = lambda width: programs(loop, width).bytes
    if not bytes_of(most) > budget:  # nan: the backend gives no analysis
        return most
    if bytes_of(1) > budget:
        return 0
    fits, fails = 1, most
    for _ in range(_TRIALS):
        if fails - fits < 2:
            break
        slope = (bytes_of(fails) - bytes_of(fits)) / (fails - fits)
        width = fits + int((budget - bytes_of(fits)) / slope)
        width = min(max(width, fits + 1), fails - 1)
        if bytes_of(width) > budget:
            fails = width
        else:
            fits = width
    return fits


def _seconds_of_a_step(way: Candidate, programs: Programs) -> float:
    """Of one step of one lane, by running the first steps of as many groups as run side by
    side."""
    program = programs(way.loop, way.width)
    steps, lanes = 1, program.layout.lanes * way.workers
    programs.time(program, way.workers, 1)  # what the first call alone has to do
    while True:
        seconds = min(programs.time(program, way.workers, steps) for _ in range(2))
        if seconds > _MEASURE_SECONDS or steps == program.longest:
            return seconds / (steps * lanes)
        target = 1.5 * _MEASURE_SECONDS / max(seconds, 1e-6)
        steps = min(program.longest, max(2 * steps, int(steps * min(target, 10))))


def _even(lanes: int, width: int) -> int:
    """The same number of groups, as even as they can be."""
    return math.ceil(lanes / math.ceil(lanes / width))


@dataclasses.dataclass(frozen=True)
class _Room:
    """What there is to choose from.

    **Attributes:**

    - `execution`: what is given.
    - `programs`: the strategy's programs.
    - `lanes`: how many lanes each device has to run.
    - `budget`: bytes of memory.
    """

    execution: Execution
    programs: Programs
    lanes: int
    budget: int | float

    def way(self, loop: Loop, workers: int, *, vmapped: bool) -> Candidate:
        """A candidate with as many lanes at once as fit, or with one.

        **Raises:**

        `ValueError` if not even one fits.
        """
        given = self.execution
        if given.lanes_at_once is not None:
            return Candidate(loop, min(given.lanes_at_once, self.lanes), workers)
        share = math.ceil(self.lanes / workers) if vmapped else 1
        width = fitting_width(self.programs, loop, share, self.budget / workers)
        if width == 0:
            needed = self.programs(loop, 1).bytes
            fewer = int(self.budget // needed)
            if fewer == 0 or given.workers is not None:
                raise ValueError(
                    f"one lane needs {needed / 1e6:,.3g} MB of memory, but there are "
                    f"{self.budget / 1e6:,.3g} MB for {workers} at a time. Make the "
                    "problem or its batches smaller, or allow more: "
                    "`curvopt.Execution(memory=...)`, in bytes."
                )
            return self.way(loop, fewer, vmapped=vmapped)
        return Candidate(
            loop, width if width == share else _even(self.lanes, width), workers
        )


def choose(
    execution: Execution,
    programs: Programs,
    *,
    lanes: int,
    steps: int,
    convolutions: bool,
) -> Choice:
    """Choose how to run.

    **Arguments:**

    - `execution`: what is given.
    - `programs`: the strategy's programs.
    - `lanes`: how many lanes this process has to run.
    - `steps`: how many steps each makes.
    - `convolutions`: whether the loss has any.
    """
    devices = execution.on()
    cpu = devices[0].platform == "cpu"
    slow = cpu and convolutions
    each = math.ceil(lanes / len(devices))
    cores = cpu_count() if cpu and len(devices) == 1 else 1
    workers = min(each, execution.workers or cores)
    budget = execution.memory or available_memory(devices)
    room = _Room(execution, programs, each, budget)

    best = room.way(
        execution.loop or ("dispatch" if slow else "scan"), workers, vmapped=not slow
    )
    workers = best.workers
    reason = "convolutions on a CPU" if slow else "the default of the backend"
    if execution.lanes_at_once is not None:
        reason = "as given"
    elif not slow and best.width < math.ceil(each / workers):
        reason = f"as many as {budget / 1e6:,.3g} MB hold"
    free = None in (execution.loop, execution.lanes_at_once, execution.workers)
    pays = lambda: _expected(best, programs, each, steps) > _WORTH_MEASURING
    if execution.measure is None:
        measure = cpu and free and pays()
    else:
        measure = execution.measure and free
    if measure:
        best, reason = _measured(room, best, slow)
    program = programs(best.loop, best.width)
    return Choice(
        best.loop,
        best.width,
        best.workers,
        len(devices),
        program.longest,
        not program.evaluation_bytes > budget / best.workers,
        reason,
    )


def _expected(way: Candidate, programs: Programs, lanes: int, steps: int) -> float:
    """About how long all steps of all lanes will take; measured, if it can be long."""
    program = programs(way.loop, way.width)
    repeated = steps * math.ceil(lanes / (way.width * way.workers))
    at_most = program.seconds_at_most * repeated
    if at_most < _WORTH_MEASURING:
        return at_most
    programs.time(program, way.workers, 1)  # what the first call alone has to do
    return programs.time(program, way.workers, 1) * repeated


def _measured(room: _Room, default: Candidate, slow: bool) -> tuple[Candidate, str]:
    """The fastest of a few: one lane or all at once, then the other loop, then without
    groups side by side."""
    given, times = room.execution, {}

    def better(best: Candidate, rival: Candidate) -> Candidate:
        for way in (best, rival):
            if way not in times:
                times[way] = _seconds_of_a_step(way, room.programs)
        return rival if times[rival] < _MARGIN * times[best] else best

    best, workers = default, default.workers
    if given.lanes_at_once is None and room.lanes > 1:
        best = better(best, room.way(best.loop, workers, vmapped=slow))
    if given.loop is None and not slow:
        best = better(best, Candidate("dispatch", best.width, workers))
    if given.workers is None and workers > 1:
        best = better(best, room.way(best.loop, 1, vmapped=best.width > 1))
    found = ", ".join(f"{k} {t * 1e3:.3g} ms" for k, t in times.items())
    return best, f"measured, a step of a lane: {found or 'nothing to choose'}"
