"""The host's side of a run: groups of lanes, chunks of steps, evaluations, saving."""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
import tqdm
from jax.sharding import Mesh
from jaxtyping import Array, Int

from .._checks import check_metrics
from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from . import _lane
from ._choose import Candidate, choose, has_convolutions
from ._execution import check_devices, Choice, Execution
from ._history import History
from ._host import to_device, to_host
from ._interrupt import Interrupt
from ._processes import agreed, gathered, own_share
from ._program import Layout, Program
from ._schedule import evaluation_schedule, Pace
from ._store import GroupFolder, Saved, StrategyFolder


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


@dataclasses.dataclass(frozen=True)
class Lanes:
    """The lanes of a strategy: which solver, from which key.

    **Attributes:**

    - `solver`: the solver; with `per_lane`, its arrays have an axis in front, of the points
        of a grid.
    - `keys`: random keys.
    - `point`, `seed`: of each lane, which of the solver's points and which of the keys.
    - `per_lane`: whether the solver has points.
    """

    solver: LineSearchMinimiser
    keys: Array
    point: Int[np.ndarray, " lanes"]
    seed: Int[np.ndarray, " lanes"]
    per_lane: bool

    def __len__(self) -> int:
        return len(self.seed)

    def solvers(self, chosen: Int[np.ndarray, " n"]) -> LineSearchMinimiser:
        """The solver of some lanes, with an axis of lanes if it has points."""
        if not self.per_lane:
            return self.solver
        take = lambda x: x[self.point[chosen]] if eqx.is_array(x) else x
        return jtu.tree_map(take, self.solver)

    def start(self, problem: AbstractProblem, k: int) -> _lane.Lane:
        """A lane at its start."""
        at = lambda x: x[self.point[k]] if eqx.is_array(x) else x
        solver = jtu.tree_map(at, self.solver) if self.per_lane else self.solver
        return _lane.lane(solver, _lane.start(problem, self.keys[self.seed[k]]))


class _Programs:
    """The programs of a strategy, each compiled when first asked for."""

    def __init__(
        self, problem: AbstractProblem, lanes: Lanes, execution: Execution, steps: int
    ):
        self._problem, self._lanes, self._execution = problem, lanes, execution
        self._steps = steps
        self.first = lanes.start(problem, 0)
        self._known: dict[tuple[str, int], Program] = {}

    def __call__(self, candidate: Candidate) -> Program:
        key = candidate.loop, candidate.width
        if key not in self._known:
            devices = self._execution.on()
            only_default = devices == (jax.local_devices()[0],)
            mesh = None if only_default else Mesh(np.array(devices), ("lanes",))
            layout = Layout(candidate.width, self._lanes.per_lane, mesh)
            fitting = _HISTORY_BYTES // (_ROW_BYTES * layout.width)
            longest = min(self._steps, self._execution.chunk or _LONGEST, fitting)
            arguments = (self._problem, self._lanes.solver, self.first, layout)
            program = Program(*arguments, candidate.loop, max(1, longest))
            self._known[key] = program
        return self._known[key]

    @property
    def compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self._known.values())


def _groups(lanes: int, size: int) -> list[Int[np.ndarray, " size"]]:
    """Lanes in groups of one size; the last is filled up with lanes that it has already."""
    groups = []
    for first in range(0, lanes, size):
        own = np.arange(first, min(first + size, lanes))
        groups.append(np.resize(own, size))
    return groups


def _started(
    problem: AbstractProblem, lanes: Lanes, chosen: Int[np.ndarray, " n"]
) -> list[np.ndarray]:
    """The arrays of some lanes at their start, stacked."""
    starts = {k: to_host(lanes.start(problem, k)) for k in np.unique(chosen).tolist()}
    return [np.stack(xs) for xs in zip(*(starts[k] for k in chosen.tolist()))]


def _side_by_side(tasks: Sequence[Callable[[], Any]]) -> None:
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


def _timer(
    problem: AbstractProblem, lanes: Lanes, first: _lane.Lane
) -> Callable[[Program, int, int], float]:
    """Runs the first steps of groups of lanes, and says how long they took."""
    known: dict[int, list[np.ndarray]] = {}

    def timer(program: Program, workers: int, steps: int) -> float:
        size = program.layout.lanes
        chosen = np.resize(np.arange(len(lanes)), size)
        if size not in known:
            known[size] = _started(problem, lanes, chosen)
        solver = program.place_solver(lanes.solvers(chosen))
        tasks = []
        for _ in range(workers):
            group = to_device(known[size], first, program.layout.over_lanes)
            jax.block_until_ready(eqx.filter(group, eqx.is_array))
            tasks.append(lambda group=group: program.advance(solver, group, 0, steps))
        began = time.perf_counter()
        _side_by_side(tasks)
        return time.perf_counter() - began

    return timer


def _dead(lanes: _lane.Lane, loss: np.ndarray) -> bool:
    """Whether every lane of a group has diverged for good: its loss is not finite, nor are
    its parameters, and no step makes them so again."""
    if np.isfinite(loss).any():
        return False
    broken = np.zeros(loss.shape, bool)
    for x in jax.device_get(jtu.tree_leaves(lanes.params)):
        finite = np.isfinite(np.asarray(x, np.float32))
        broken |= ~finite.reshape(len(loss), -1).all(axis=1)
    return bool(broken.all())


def _blank(rows: dict[str, np.ndarray], steps: int) -> dict[str, np.ndarray]:
    """Rows of steps that were not made: not a number, or none."""
    blank = lambda x: np.nan if x.dtype.kind == "f" else 0
    return {k: np.full((len(x), steps), blank(x), x.dtype) for k, x in rows.items()}


class _Group:
    """One group of lanes, on its way from the first step to the last."""

    def __init__(
        self,
        program: Program,
        lanes: _lane.Lane,
        solver: Any,
        records: "_Records",
        rows: slice,
        choice: Choice,
    ):
        self._program, self.lanes, self._solver = program, lanes, solver
        self._records, self.rows, self._choice = records, rows, choice
        self.step = self._saved_at = 0
        self.pace = Pace(program.longest)

    @property
    def schedule(self) -> Int[np.ndarray, " evaluations"]:
        return self._records.schedule

    @property
    def finished(self) -> bool:
        return self.step == self._records.last_step

    @property
    def lanes_count(self) -> int:
        return self.rows.stop - self.rows.start

    def restore(self, saved: Saved) -> None:
        """Go on from what was saved."""
        self.step = self._saved_at = saved.step
        self.pace.seconds = saved.seconds
        self._records.steps.put(self.rows, 0, saved.history)
        self._records.evaluations.put(self.rows, 0, saved.evaluations)

    def save(self, folder: GroupFolder) -> None:
        """Save where it is, and the records since it was saved last."""
        records, since = self._records, self._saved_at
        evaluated = records.evaluated(since) if since else 0
        saved = Saved(
            self.step,
            self.pace.seconds,
            to_host(self.lanes),
            records.steps.rows(self.rows, since, self.step),
            records.evaluations.rows(self.rows, evaluated, records.evaluated(self.step)),
        )
        folder.save(since, saved)
        self._saved_at = self.step

    def evaluate(self) -> None:
        """The problem's metrics where it is."""
        metrics = self._program.evaluate(self.lanes, self._choice.evaluate_at_once)
        check_metrics(metrics, (self._program.layout.lanes,))
        rows = {k: np.asarray(x)[: self.lanes_count, None] for k, x in metrics.items()}
        at = self._records.evaluated(self.step) - 1
        self._records.evaluations.put(self.rows, at, rows)

    def advance(self, last: int) -> float:
        """Make the next chunk of steps, at most until `last`; the lowest loss there, `nan`
        if none is finite."""
        n = self.pace(last - self.step)
        self.pace.begin()
        self.lanes, history = self._program.advance(
            self._solver, self.lanes, self.step, self.step + n
        )
        self.pace.end(n)
        rows = {k: x.T[: self.lanes_count] for k, x in history.items()}
        self._records.steps.put(self.rows, self.step, rows)
        self.step += n
        if _dead(self.lanes, history["loss"][-1]):
            self._give_up(rows)
        loss = rows["loss"][:, -1]
        return float(np.min(loss, where=np.isfinite(loss), initial=np.inf))

    def _give_up(self, rows: dict[str, np.ndarray]) -> None:
        """Leave out all further steps: every lane has diverged."""
        records, end = self._records, self._records.last_step
        begun = records.evaluated(self.step)
        records.steps.put(self.rows, self.step, _blank(rows, end - self.step))
        self.step = end
        self.evaluate()
        at_end = records.evaluated(end) - 1
        final = records.evaluations.rows(self.rows, at_end, at_end + 1)
        for k in range(begun, at_end):
            records.evaluations.put(self.rows, k, final)


class _Records:
    """The records of all lanes of a strategy."""

    def __init__(self, lanes: int, schedule: Int[np.ndarray, " evaluations"]):
        self.schedule = schedule
        self.last_step = int(schedule[-1])
        self.steps = History(lanes, self.last_step)
        self.evaluations = History(lanes, len(schedule))

    def evaluated(self, step: int) -> int:
        """How many evaluations there are when so many steps were made."""
        return int(np.searchsorted(self.schedule, step, side="right"))


def _begun(
    program: Program,
    problem: AbstractProblem,
    lanes: Lanes,
    first: _lane.Lane,
    chosen: Int[np.ndarray, " n"],
    records: _Records,
    choice: Choice,
    folder: GroupFolder | None,
) -> _Group:
    """A group where it was saved, or at its start."""
    saved = folder.load(to_host(first)) if folder else None
    arrays = saved.state if saved else _started(problem, lanes, chosen)
    group = _Group(
        program,
        to_device(arrays, first, program.layout.over_lanes),
        program.place_solver(lanes.solvers(chosen)),
        records,
        slice(int(chosen[0]), int(chosen.max()) + 1),
        choice,
    )
    if saved:
        group.restore(saved)
    return group


def _finish(
    group: _Group,
    folder: GroupFolder | None,
    *,
    bar: tqdm.tqdm,
    interrupt: Interrupt,
    save_every: float,
) -> None:
    """Bring a group to its last step. If it fails, the groups beside it are interrupted.

    **Raises:**

    `KeyboardInterrupt` if that was asked for, when it has saved where it is.
    """
    try:
        _advance_to_the_end(group, folder, bar, interrupt, save_every)
    except BaseException:
        interrupt.asked = True
        raise


def _advance_to_the_end(
    group: _Group,
    folder: GroupFolder | None,
    bar: tqdm.tqdm,
    interrupt: Interrupt,
    save_every: float,
) -> None:
    if group.step == 0:
        group.evaluate()
    saved_at = time.monotonic()
    for last in (int(step) for step in group.schedule):
        while group.step < last:
            before = group.step
            best = group.advance(last)
            if group.step == last:
                group.evaluate()
            if np.isfinite(best):
                bar.set_postfix_str(f"best loss {best:.4g}", refresh=False)
            bar.update((group.step - before) * group.lanes_count)
            late = time.monotonic() - saved_at >= save_every
            if folder and (group.finished or late or interrupt.asked):
                group.save(folder)
                saved_at = time.monotonic()
            if interrupt.asked:
                raise KeyboardInterrupt


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
    program = programs(Candidate(choice.loop, choice.lanes_at_once))
    if not bar.disable:
        bar.write(f"{bar.desc.removesuffix(': ')}: {choice}", file=sys.stderr)

    records = _Records(len(lanes), evaluation_schedule(steps, evaluations))
    groups = _groups(len(lanes), program.layout.lanes)
    own = [k for k in range(len(groups)) if k % jax.process_count() == jax.process_index()]
    seconds, checked, last = 0.0, False, first
    # Groups that run side by side are started here: jax's settings are this thread's.
    for wave in (own[k : k + choice.workers] for k in range(0, len(own), choice.workers)):
        begun = []
        for k in wave:
            place = folder.group(k) if folder else None
            group = _begun(
                program, problem, lanes, first, groups[k], records, choice, place
            )
            bar.update(group.step * group.lanes_count)
            begun.append((k, group, place))
        if any(group.step < steps for _, group, _ in begun):
            program.compile(choice.evaluate_at_once)
            if folder and not checked:
                folder.check_program(program.fingerprint)
                checked = True
        finish = partial(_finish, bar=bar, interrupt=interrupt, save_every=save_every)
        _side_by_side([partial(finish, group, place) for _, group, place in begun])
        seconds += max(group.pace.seconds for _, group, _ in begun)
        if begun[0][0] == 0:
            arrays = to_host(begun[0][1].lanes)
            last = to_device([np.asarray(x[0]) for x in arrays], first)
    owner = np.repeat(np.arange(len(groups)) % jax.process_count(), program.layout.lanes)
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
