"""Choosing how lanes are run: by the backend, by memory, by a short measurement."""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from .. import _compat
from .._problem import AbstractProblem
from ._execution import Choice, Execution
from ._lane import Lane
from ._machine import available_memory, cpu_count
from ._program import Loop, Program


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


# From a candidate to its program; and, from a program, a number of workers and one of
# steps, to the seconds that the first steps take.
Programs = Callable[[Candidate], Program]
Timer = Callable[[Program, int, int], float]


def has_convolutions(problem: AbstractProblem, lane: Lane) -> bool:
    """Whether the problem's loss has a convolution in it."""

    def loss(lane: Lane) -> PyTree:
        batch = problem.batch(lane.batch_key, jnp.array(0, jnp.int32))
        return problem.loss(lane.params, (batch, lane.model_state, lane.loss_key))

    jaxpr, _, _ = eqx.filter_make_jaxpr(loss)(lane)
    return _compat.contains_convolution(jaxpr)


def fitting_width(programs: Programs, loop: Loop, most: int, budget: int | float) -> int:
    """The most lanes at once whose program needs no more memory than there is; 0 if a
    single one needs more."""
    bytes_of = lambda width: programs(Candidate(loop, width)).bytes
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


def _seconds_of_a_step(way: Candidate, programs: Programs, timer: Timer) -> float:
    """Of one step of one lane, by running the first steps of as many groups as run side by
    side."""
    program = programs(way)
    steps, lanes = 1, program.layout.lanes * way.workers
    timer(program, way.workers, 1)  # what the first call alone has to do
    while True:
        seconds = min(timer(program, way.workers, steps) for _ in range(2))
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
    - `programs`: the compiled program of a candidate.
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
            needed = self.programs(Candidate(loop, 1)).bytes
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
    timer: Timer,
    *,
    lanes: int,
    steps: int,
    convolutions: bool,
) -> Choice:
    """Choose how to run.

    **Arguments:**

    - `execution`: what is given.
    - `programs`: the compiled program of a candidate.
    - `timer`: runs the first steps of a program.
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
    pays = lambda: _expected(best, programs, timer, each, steps) > _WORTH_MEASURING
    if execution.measure is None:
        measure = cpu and free and pays()
    else:
        measure = execution.measure and free
    if measure:
        best, reason = _measured(room, timer, best, slow)
    return Choice(
        best.loop,
        best.width,
        best.workers,
        len(devices),
        programs(best).longest,
        not programs(best).evaluation_bytes > budget / best.workers,
        reason,
    )


def _expected(
    way: Candidate, programs: Programs, timer: Timer, lanes: int, steps: int
) -> float:
    """About how long all steps of all lanes will take; measured, if it can be long."""
    program = programs(way)
    repeated = steps * math.ceil(lanes / (way.width * way.workers))
    at_most = program.seconds_at_most * repeated
    if at_most < _WORTH_MEASURING:
        return at_most
    timer(program, way.workers, 1)  # what the first call alone has to do
    return timer(program, way.workers, 1) * repeated


def _measured(
    room: _Room, timer: Timer, default: Candidate, slow: bool
) -> tuple[Candidate, str]:
    """The fastest of a few: one lane or all at once, then the other loop, then without
    groups side by side."""
    given, times = room.execution, {}

    def better(best: Candidate, rival: Candidate) -> Candidate:
        for way in (best, rival):
            if way not in times:
                times[way] = _seconds_of_a_step(way, room.programs, timer)
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
