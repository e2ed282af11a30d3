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
from ._memory import available_memory
from ._program import Loop, Program


# A measurement compiles one or two more programs: it pays in runs that take longer.
_WORTH_MEASURING = 20.0
# How long a program is measured, and by how much it must win.
_MEASURE_SECONDS = 0.5
_MARGIN = 0.97


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to run the lanes."""

    loop: Loop
    width: int

    def __str__(self) -> str:
        return f"{self.loop} × {self.width}"


# From a candidate to its program, and to the seconds that its first `n` steps take.
Programs = Callable[[Candidate], Program]
Timer = Callable[[Program, int], float]


def has_convolutions(problem: AbstractProblem, lane: Lane) -> bool:
    """Whether the problem's loss has a convolution in it."""

    def loss(lane: Lane) -> PyTree:
        batch = problem.batch(lane.batch_key, jnp.array(0, jnp.int32))
        return problem.loss(lane.params, (batch, lane.model_state, lane.loss_key))

    jaxpr, _, _ = eqx.filter_make_jaxpr(loss)(lane)
    return _compat.contains_convolution(jaxpr)


def fitting_width(programs: Programs, loop: Loop, most: int, budget: int | float) -> int:
    """The most lanes at once whose program needs no more memory than there is.

    **Raises:**

    `ValueError` if a single lane needs more.
    """
    needed = programs(Candidate(loop, most)).bytes
    if not needed > budget:  # nan: the backend gives no analysis
        return most
    single = programs(Candidate(loop, 1)).bytes
    if single > budget:
        raise ValueError(
            f"one lane needs {single / 1e6:,.0f} MB of memory, but there are "
            f"{budget / 1e6:,.0f} MB. Make the problem or its batches smaller, or allow "
            "more: `curvopt.Execution(memory=...)`, in bytes."
        )
    each = (needed - single) / (most - 1)
    width = max(1, min(most - 1, int(1 + (budget - single) / each)))
    while width > 1 and programs(Candidate(loop, width)).bytes > budget:
        width = int(0.9 * width)
    return width


def _seconds_of_a_step(program: Program, timer: Timer) -> float:
    """Of one step of one lane, by running the first steps of a group."""
    steps, lanes = 1, program.layout.lanes
    timer(program, 1)  # what the first call alone has to do
    while True:
        seconds = min(timer(program, steps) for _ in range(2))
        if seconds > _MEASURE_SECONDS or steps == program.longest:
            return seconds / (steps * lanes)
        target = 1.5 * _MEASURE_SECONDS / max(seconds, 1e-6)
        steps = min(program.longest, max(2 * steps, int(steps * min(target, 10))))


def _even(lanes: int, width: int) -> int:
    """The same number of groups, as even as they can be."""
    return math.ceil(lanes / math.ceil(lanes / width))


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
    most = math.ceil(lanes / len(devices))
    budget = execution.memory or available_memory(devices)
    slow = cpu and convolutions
    loop: Loop = execution.loop or ("dispatch" if slow else "scan")
    reasons = ["convolutions on a CPU" if slow else "the default of the backend"]

    def fitted(loop: Loop, wanted: int) -> Candidate:
        if execution.lanes_at_once is not None:
            return Candidate(loop, min(wanted, most))
        width = fitting_width(programs, loop, wanted, budget)
        return Candidate(loop, width if width == wanted else _even(most, width))

    if execution.lanes_at_once is not None:
        best = fitted(loop, execution.lanes_at_once)
        reasons = ["as given"]
    else:
        best = fitted(loop, 1 if slow else most)
        if not slow and best.width < most:
            reasons = [f"as many as {budget / 1e6:,.0f} MB hold"]

    free = execution.loop is None or execution.lanes_at_once is None
    if cpu and free and _expected(programs(best), timer, lanes, steps) > _WORTH_MEASURING:
        best, reason = _measured(execution, programs, timer, best, fitted, most, slow)
        reasons = [reason]
    program = programs(best)
    return Choice(
        best.loop,
        best.width,
        len(devices),
        not program.evaluation_bytes > budget,
        ", ".join(reasons),
    )


def _expected(program: Program, timer: Timer, lanes: int, steps: int) -> float:
    """About how long all steps of all lanes will take; measured, if it can be long."""
    repeated = steps * math.ceil(lanes / program.layout.lanes)
    at_most = program.seconds_at_most * repeated
    if at_most < _WORTH_MEASURING:
        return at_most
    timer(program, 1)  # what the first call alone has to do
    return timer(program, 1) * repeated


def _measured(
    execution: Execution,
    programs: Programs,
    timer: Timer,
    default: Candidate,
    fitted: Callable[[Loop, int], Candidate],
    most: int,
    slow: bool,
) -> tuple[Candidate, str]:
    """The fastest of a few: first one or all lanes at once, then the other loop."""
    times: dict[Candidate, float] = {}

    def better(best: Candidate, rival: Candidate) -> Candidate:
        for candidate in (best, rival):
            if candidate not in times:
                times[candidate] = _seconds_of_a_step(programs(candidate), timer)
        return rival if times[rival] < _MARGIN * times[best] else best

    best = default
    if execution.lanes_at_once is None and most > 1:
        best = better(best, fitted(best.loop, most if slow else 1))
    if execution.loop is None and not slow:
        best = better(best, Candidate("dispatch", best.width))
    found = ", ".join(f"{k} {t * 1e3:.3g} ms" for k, t in times.items())
    return best, f"measured, a step of a lane: {found}"
