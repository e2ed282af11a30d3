"""A run of one strategy: its programs, how it is run, its groups of lanes in turn."""

import dataclasses
import sys
import time
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import numpy as np
import tqdm
from jax.sharding import Mesh

from .._problem import AbstractProblem
from . import _lane
from ._choose import Candidate, choose, has_convolutions
from ._execution import check_devices, Choice, Execution
from ._group import begun, finish, Records
from ._host import to_device, to_host
from ._interrupt import Interrupt
from ._lanes import groups, Lanes
from ._layout import AXIS, Layout
from ._processes import agreed, gathered, own_share
from ._program import Program
from ._schedule import evaluation_schedule
from ._store import StrategyFolder
from ._threads import side_by_side


# The history of a chunk on the device has at most so many bytes, and so many steps.
_HISTORY_BYTES, _LONGEST = 2**25, 1000
_ROW_BYTES = 80


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of the runs of one strategy. Arrays are NumPy's, lanes first.

    **Attributes:**

    - `history`: the record of each step, by name, of shape `(lanes, steps)`.
    - `evaluations`: the problem's metrics, of shape `(lanes, evaluations)`.
    - `evaluation_steps`: after how many steps each evaluation was made.
    - `seconds`: wall time of the steps.
    - `choice`: how the lanes were run.
    - `last`: the final state of the first lane, in the process that ran it.
    """

    history: dict[str, np.ndarray]
    evaluations: dict[str, np.ndarray]
    evaluation_steps: np.ndarray
    seconds: float
    choice: Choice
    last: _lane.Lane


class _Programs:
    """The programs of a strategy, each compiled when first asked for."""

    def __init__(
        self, problem: AbstractProblem, lanes: Lanes, execution: Execution, steps: int
    ):
        self._problem, self._lanes, self._execution = problem, lanes, execution
        self._steps = steps
        self.first = lanes.start(problem, 0)
        self._known: dict[tuple[str, int], Program] = {}
        self.longest: int | None = None  # as it was begun with

    def __call__(self, candidate: Candidate) -> Program:
        key = candidate.loop, candidate.width
        if key not in self._known:
            devices = self._execution.on()
            only_default = devices == (jax.local_devices()[0],)
            mesh = None if only_default else Mesh(np.array(devices), (AXIS,))
            layout = Layout(candidate.width, self._lanes.per_lane, mesh)
            fitting = _HISTORY_BYTES // (_ROW_BYTES * layout.width)
            chunk = self._execution.chunk or _LONGEST
            longest = self.longest or max(1, min(self._steps, chunk, fitting))
            arguments = (self._problem, self._lanes.solver, self.first, layout)
            program = Program(*arguments, candidate.loop, longest)
            self._known[key] = program
        return self._known[key]

    @property
    def compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self._known.values())


def _timer(
    problem: AbstractProblem, lanes: Lanes, first: _lane.Lane
) -> Callable[[Program, int, int], float]:
    """Runs the first steps of groups of lanes, and says how long they took."""
    known: dict[int, list[np.ndarray]] = {}

    def timer(program: Program, workers: int, steps: int) -> float:
        size = program.layout.lanes
        chosen = np.resize(np.arange(len(lanes)), size)
        if size not in known:
            known[size] = lanes.started(problem, chosen)
        solver = program.place_solver(lanes.solvers(chosen))
        tasks = []
        for _ in range(workers):
            group = to_device(known[size], first, program.layout.over_lanes)
            jax.block_until_ready(eqx.filter(group, eqx.is_array))
            tasks.append(lambda group=group: program.advance(solver, group, 0, steps))
        began = time.perf_counter()
        side_by_side(tasks)
        return time.perf_counter() - began

    return timer


def run(
    problem: AbstractProblem,
    lanes: Lanes,
    *,
    steps: int,
    evaluations: int,
    execution: Execution,
    bar: tqdm.tqdm,
    interrupt: Interrupt,
    folder: StrategyFolder | None = None,
    save_every: float = 30.0,
) -> Run:
    """Run one strategy over all its lanes.

    **Arguments:**

    - `problem`, `lanes`: what, and from where.
    - `steps`, `evaluations`: how many steps, and how often to evaluate the problem's
        metrics.
    - `execution`: how, as far as it is given.
    - `bar`: advanced by one for each step of each lane.
    - `interrupt`: ends it, with everything saved, at the next look.
    - `folder`, `save_every`: where to save, and after how many seconds.
    """
    programs = _Programs(problem, lanes, execution, steps)
    first = programs.first
    choice = folder.choice() if folder else None
    if choice is None:
        choice = agreed(lambda: _chosen(problem, lanes, programs, execution, steps))
        if folder:
            folder.save_choice(choice)
    check_devices(choice, execution)
    programs.longest = choice.longest
    program = programs(Candidate(choice.loop, choice.lanes_at_once))
    if folder:
        folder.check_program(program.fingerprint)
    if not bar.disable:
        bar.write(f"{bar.desc.removesuffix(': ')}: {choice}", file=sys.stderr)

    records = Records(len(lanes), evaluation_schedule(steps, evaluations))
    of_group = groups(len(lanes), program.layout.lanes)
    own = range(jax.process_index(), len(of_group), jax.process_count())
    seconds, last = 0.0, first
    # Groups that run side by side are started here: jax's settings are this thread's.
    for wave in (own[k : k + choice.workers] for k in range(0, len(own), choice.workers)):
        going = []
        for k in wave:
            place = folder.group(k) if folder else None
            group = begun(
                program, problem, lanes, first, of_group[k], records, choice, place
            )
            bar.update(group.step * group.lanes_count)
            going.append((k, group, place))
        if any(group.step < steps for _, group, _ in going):
            program.compile(choice.evaluate_at_once)
        to_the_end = partial(finish, bar=bar, interrupt=interrupt, save_every=save_every)
        side_by_side([partial(to_the_end, group, place) for _, group, place in going])
        seconds += max(group.pace.seconds for _, group, _ in going)
        if going[0][0] == 0:
            arrays = to_host(going[0][1].lanes)
            last = to_device([np.asarray(x[0]) for x in arrays], first)
    owner = np.repeat(np.arange(len(of_group)) % jax.process_count(), program.layout.lanes)
    return Run(
        history=gathered(records.steps.arrays, owner[: len(lanes)]),
        evaluations=gathered(records.evaluations.arrays, owner[: len(lanes)]),
        evaluation_steps=records.schedule,
        seconds=seconds,
        choice=choice,
        last=last,
    )


def _chosen(
    problem: AbstractProblem,
    lanes: Lanes,
    programs: _Programs,
    execution: Execution,
    steps: int,
) -> Choice:
    choice = choose(
        execution,
        programs,
        _timer(problem, lanes, programs.first),
        lanes=own_share(len(lanes)),
        steps=steps,
        convolutions=has_convolutions(problem, programs.first),
    )
    return dataclasses.replace(choice, compile_seconds=programs.compile_seconds)


def progress_bar(total: int, description: str, progress: bool) -> tqdm.tqdm:
    """A bar over the steps of all lanes; none if it is not wanted or there is no
    terminal."""
    disable = None if progress else True
    return tqdm.tqdm(
        total=total, desc=description, unit="step", unit_scale=True, disable=disable
    )
