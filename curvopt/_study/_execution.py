"""How lanes are run: as the user asks, or as chosen by backend, memory and a short
measurement."""

import dataclasses
import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import psutil

from .._checks import check_choice, check_count, check_instance
from ._program import Program, Programs
from ._sharding import Sharding
from ._steps import Loop


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the lanes of a study are run.

    A field that is `None` is chosen automatically: by the backend, by XLA's memory analysis
    of the compiled program and, if it pays, by a short measurement. A study resumed from
    its folder runs as it was begun, whatever is given here, except for `devices` and
    `sharding`: on others its numbers are the same to rounding, and the change is recorded.

    **Arguments:**

    - `loop`: `"scan"`, many steps in one call of the compiled program, or `"dispatch"`, a
        call for each step. XLA on CPU runs a convolution inside a loop many times slower
        than a dispatched one. With data from the host it is `"dispatch"`.
    - `lanes_at_once`: how many lanes a device runs at once, vmapped; 1 runs them one after
        another. Results of different choices differ by rounding.
    - `workers`: how many groups of lanes run side by side, each in its own thread. XLA on
        CPU runs small programs on one core, so the default on a single CPU device is one
        worker per core.
    - `measure`: whether to measure a few candidates, however long that takes; by default
        only on CPU, and for at most 5 % of the time that the run is expected to take.
    - `chunk`: the most steps between two updates of the progress bar. It does not change
        the results.
    - `memory`: how many bytes of each device's memory the lanes may use.
    - `devices`: which of `jax.local_devices()` to use; default all of them.
    - `sharding`: how one model spans several devices, a [`curvopt.Sharding`][], whose
        mesh has the devices. By default each lane runs on one device.

    **Raises:**

    `ValueError` if a field has any other value.
    """

    loop: Loop | None = None
    lanes_at_once: int | None = None
    workers: int | None = None
    measure: bool | None = None
    chunk: int | None = None
    memory: int | None = None
    devices: Sequence[Any] | None = None
    sharding: Sharding | None = None

    def __post_init__(self) -> None:
        if self.loop is not None:
            check_choice("loop", self.loop, ("scan", "dispatch"))
        for name in ("lanes_at_once", "workers", "chunk", "memory"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check_count(name, value))
        if not isinstance(self.measure, (bool, type(None))):
            raise ValueError(
                f"measure must be True, False or None, but it is {self.measure!r}."
            )
        if self.devices is not None:
            self._check_devices()
        if self.sharding is not None:
            check_instance("sharding", self.sharding, Sharding)
            if not set(self.sharding.mesh.devices.flat) <= set(jax.local_devices()):
                raise ValueError(
                    "sharding must have a mesh of this process's devices, "
                    "`jax.local_devices()`: in `train` and studies several processes share "
                    "the lanes, not one model. A loop of your own runs one model over "
                    "processes: `sharding.put` places its arrays."
                )
            if self.devices is not None:
                raise ValueError(
                    "devices must be left out beside a sharding, whose mesh has them, but "
                    f"they are {list(self.devices)}."
                )

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
        if self.sharding is not None:
            return tuple(self.sharding.mesh.devices.flat)
        return tuple(jax.local_devices() if self.devices is None else self.devices)

    @property
    def lanes_side_by_side(self) -> int:
        """How many devices, or groups of devices, run lanes of their own."""
        return len(self.on()) if self.sharding is None else self.sharding.lanes


@dataclasses.dataclass(frozen=True)
class Choice:
    """How the lanes of a strategy are run, which a resumed study repeats.

    **Attributes:**

    - `loop`, `lanes_at_once`, `workers`: as in [`curvopt.Execution`][].
    - `devices`: how many devices, or groups of them, run lanes side by side.
    - `longest`: the most steps that the compiled program makes in one call.
    - `evaluate_at_once`: whether the metrics of a group's lanes are evaluated together.
    - `reason`: why this was chosen.
    - `places`: on which devices, and how split over them: at last, and before.
    - `compile_seconds`: the time to compile the program, and those that it was measured
        against.
    """

    loop: Loop
    lanes_at_once: int
    workers: int
    devices: int
    longest: int
    evaluate_at_once: bool
    reason: str
    compile_seconds: float = 0.0
    places: Sequence[str] = ()

    def __str__(self) -> str:
        many = self.lanes_at_once > 1
        lanes = f"{self.lanes_at_once} lanes at once" if many else "one lane after another"
        loop = "steps in a compiled loop" if self.loop == "scan" else "a call for each step"
        on = f" on each of {self.devices} devices" if self.devices > 1 else ""
        side = f", {self.workers} groups side by side" if self.workers > 1 else ""
        before = f"; before on {' and '.join(self.places[1:])}" if self.places[1:] else ""
        return f"{lanes}{on}{side}, {loop} ({self.reason}{before})"


# The rest is left to allocators and to other programs.
_USABLE = 0.8


# The share of a run's time that measuring may take.
_SHARE = 0.05
# How many programs are compiled to find how many lanes fit. Memory is nearly linear in the
# number of lanes, so a few interpolations are enough.
_TRIALS = 4
# How long a program is measured, and the factor on time by which a rival must win.
_MEASURE_SECONDS = 0.5
_MARGIN = 0.97
# The factor between the numbers of lanes at once that are tried.
_WIDER = 4


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to run the lanes: the loop, how many lanes at once, and how many such groups
    side by side."""

    loop: Loop
    width: int
    workers: int = 1

    def __str__(self) -> str:
        side = f" × {self.workers} workers" if self.workers > 1 else ""
        return f"{self.loop} × {self.width}{side}"


def available_memory(devices: tuple[Any, ...]) -> int:
    """The bytes available to arrays on the device that has the least."""
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
    """The most lanes at once whose program fits into `budget` bytes; 0 if not even one
    does."""
    bytes_of = lambda width: programs(loop, width).bytes
    if not bytes_of(most) > budget:  # nan: the backend gives no analysis
        return most
    if bytes_of(1) > budget:
        return 0
    # Interpolate between a width that fits and one that does not.
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
    """The time for one step of one lane, measured on the first steps of as many groups as
    run side by side."""
    program = programs(way.loop, way.width)
    steps, lanes = 1, program.layout.lanes * way.workers
    programs.time(program, way.workers, 1)  # warm up: the first call is slower
    while True:
        seconds = min(programs.time(program, way.workers, steps) for _ in range(2))
        if seconds > _MEASURE_SECONDS or steps == program.longest:
            return seconds / (steps * lanes)
        target = 1.5 * _MEASURE_SECONDS / max(seconds, 1e-6)
        steps = min(program.longest, max(2 * steps, int(steps * min(target, 10))))


def _even(lanes: int, width: int) -> int:
    """The smallest width with the same number of groups: these are then about equal."""
    return math.ceil(lanes / math.ceil(lanes / width))


@dataclasses.dataclass(frozen=True)
class _Room:
    """The candidates that fit into memory.

    **Attributes:**

    - `execution`: what the user gave.
    - `programs`: the strategy's programs.
    - `lanes`: how many lanes each device has to run.
    - `budget`: bytes of memory.
    """

    execution: Execution
    programs: Programs
    lanes: int
    budget: int | float

    def way(self, loop: Loop, workers: int, *, vmapped: bool) -> Candidate:
        """A candidate with as many lanes at once as fit, or a single one without `vmapped`.

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
                    "problem or its batches smaller, or allow more memory: "
                    "`curvopt.Execution(memory=...)`, in bytes."
                )
            return self.way(loop, fewer, vmapped=vmapped)
        return Candidate(
            loop, width if width == share else _even(self.lanes, width), workers
        )

    def fits(self, loop: Loop, width: int, workers: int) -> bool:
        """Whether so many lanes at once fit into memory."""
        return not self.programs(loop, width).bytes > self.budget / workers

    def alone(self, way: Candidate) -> Candidate:
        """A single group: as wide as the groups, or of all lanes if they were in these."""
        if self.execution.lanes_at_once or way.width * way.workers < self.lanes:
            return dataclasses.replace(way, workers=1)
        return self.way(way.loop, 1, vmapped=way.width > 1)


def choose(
    execution: Execution,
    programs: Programs,
    *,
    lanes: int,
    steps: int,
    convolutions: bool,
) -> Choice:
    """Choose how to run the lanes of a strategy.

    **Arguments:**

    - `execution`: what the user gave.
    - `programs`: the strategy's programs.
    - `lanes`: how many lanes this process has to run.
    - `steps`: how many steps each makes.
    - `convolutions`: whether the loss has convolutions.
    """
    devices = execution.on()
    cpu = devices[0].platform == "cpu"
    # XLA on CPU is slow at convolutions in a loop, and at vmapped (so grouped) ones.
    slow = cpu and convolutions
    each = math.ceil(lanes / execution.lanes_side_by_side)
    cores = cpu_count() if cpu and len(devices) == 1 else 1
    workers = min(each, execution.workers or cores)
    budget = execution.memory or available_memory(devices)
    room = _Room(execution, programs, each, budget)

    if programs.from_host and execution.loop == "scan":
        raise ValueError(
            "loop must be 'dispatch' or None, but it is 'scan': with data from the host "
            "each step is a call of its own, which takes its batch."
        )
    called = slow or programs.from_host
    best = room.way(
        execution.loop or ("dispatch" if called else "scan"), workers, vmapped=not slow
    )
    workers = best.workers
    reason = "convolutions on a CPU" if slow else "the default of the backend"
    if programs.from_host and not slow:
        reason = "data from the host"
    if execution.lanes_at_once is not None:
        reason = "as given"
    elif not slow and best.width < math.ceil(each / workers):
        reason = f"as many as {budget / 1e6:,.3g} MB hold"
    # Measure only if something is left to choose.
    free = None in (execution.loop, execution.lanes_at_once, execution.workers)
    if execution.measure is None:
        measure = cpu and free and _pays(best, programs, each, steps)
    else:
        measure = execution.measure and free
    if measure:
        share = math.inf if execution.measure else _SHARE
        best, reason = _measured(room, _Trials(room, best, steps, share), slow)
    if execution.sharding is not None:
        reason = (
            f"each over {len(devices) // execution.lanes_side_by_side} devices; {reason}"
        )
    program = programs(best.loop, best.width)
    return Choice(
        best.loop,
        best.width,
        best.workers,
        execution.lanes_side_by_side,
        program.longest,
        not program.evaluation_bytes > budget / best.workers,  # true for nan as well
        reason,
    )


def _cost(program: Program) -> float:
    """The seconds to compile and to measure a rival of a program, about."""
    return program.compile_seconds + 3 * _MEASURE_SECONDS


def _pays(way: Candidate, programs: Programs, lanes: int, steps: int) -> bool:
    """Whether the run is so long that there is time to measure a rival."""
    program = programs(way.loop, way.width)
    worth = _cost(program) / _SHARE
    repeated = steps * math.ceil(lanes / (way.width * way.workers))
    if program.seconds_at_most * repeated < worth:
        return False
    programs.time(program, way.workers, 1)  # warm up: the first call is slower
    return programs.time(program, way.workers, 1) * repeated > worth


class _Trials:
    """Candidates that are measured, for as long as that pays.

    **Arguments:**

    - `room`: the candidates that fit into memory.
    - `default`: the first candidate.
    - `steps`: how many steps each lane makes.
    - `share`: the share of the run's time that measuring may take.

    **Attributes:**

    - `best`: the fastest candidate so far.
    - `times`: the seconds for a step of a lane, with those of places that stay empty.
    """

    def __init__(self, room: _Room, default: Candidate, steps: int, share: float):
        self._room, self._lane_steps, self._share = room, room.lanes * steps, share
        self._began = time.perf_counter()
        self.best, self.times = default, {default: self._seconds(default)}

    def _seconds(self, way: Candidate) -> float:
        together, lanes = way.width * way.workers, self._room.lanes
        places = math.ceil(lanes / together) * together
        return places / lanes * _seconds_of_a_step(way, self._room.programs)

    @property
    def _pays(self) -> bool:
        """Whether another candidate may be measured."""
        program = self._room.programs(self.best.loop, self.best.width)
        spent = time.perf_counter() - self._began
        run = self.times[self.best] * self._lane_steps
        return spent + _cost(program) <= self._share * run

    def __call__(self, way: Candidate) -> float:
        """The seconds of a candidate; nan if it does not pay to measure it."""
        if way not in self.times:
            if not self._pays:
                return math.nan
            self.times[way] = self._seconds(way)
            if self.times[way] < _MARGIN * self.times[self.best]:
                self.best = way
        return self.times[way]


def _widths(most: int) -> Iterator[int]:
    """How many lanes at once are tried: one, some, and at last `most`."""
    width = 1
    while width < most:
        yield width
        width *= _WIDER
    yield most


def _measured(room: _Room, trials: _Trials, slow: bool) -> tuple[Candidate, str]:
    """The fastest of a few candidates: more and more lanes at once while that is faster,
    then the other loop, then without groups side by side."""
    given, (loop, most, workers) = room.execution, dataclasses.astuple(trials.best)
    if given.lanes_at_once is None:
        before, most = math.inf, math.ceil(room.lanes / workers) if slow else most
        for width in _widths(most):
            if not room.fits(loop, width, workers):
                break
            now = trials(Candidate(loop, width, workers))
            if not now < before:
                break
            before = now
    if given.loop is None and not slow:
        trials(Candidate("dispatch", trials.best.width, workers))
    if given.workers is None and workers > 1:
        trials(room.alone(trials.best))
    found = ", ".join(f"{way} {t * 1e3:.3g} ms" for way, t in trials.times.items())
    return trials.best, f"measured, a step of a lane: {found}"
