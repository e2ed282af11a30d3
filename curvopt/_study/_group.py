"""A group of lanes on its way: chunks of steps, evaluations, saving."""

import time
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np
import tqdm
from jaxtyping import Int

from .._problem import AbstractProblem
from . import _lane
from ._execution import Choice
from ._history import History
from ._host import to_device, to_host
from ._interrupt import Interrupt
from ._lanes import Lanes
from ._program import Program
from ._schedule import Pace
from ._store import GroupFolder, Saved


class Records:
    """The records of all lanes of a strategy."""

    def __init__(self, lanes: int, schedule: Int[np.ndarray, " evaluations"]):
        self.schedule = schedule
        self.last_step = int(schedule[-1])
        self.steps = History(lanes, self.last_step)
        self.evaluations = History(lanes, len(schedule))

    def evaluated(self, step: int) -> int:
        """How many evaluations there are when so many steps were made."""
        return int(np.searchsorted(self.schedule, step, side="right"))


def _dead(lanes: _lane.Lane, loss: np.ndarray) -> bool:
    """Whether every lane of a group has diverged for good: its loss is not finite, nor is
    a single one of its parameters, and no step makes them so again."""
    if np.isfinite(loss).any():
        return False
    arrays = jax.device_get(jtu.tree_leaves(lanes.params))
    return not any(np.isfinite(np.asarray(x, np.float64)).any() for x in arrays)


def _blank(rows: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Records of what was not made: not a number, or none."""
    blank = lambda x: np.nan if x.dtype.kind == "f" else 0
    return {k: np.full((len(x), count), blank(x), x.dtype) for k, x in rows.items()}


class Group:
    """One group of lanes, on its way from the first step to the last."""

    def __init__(
        self,
        program: Program,
        lanes: _lane.Lane,
        solver: Any,
        records: Records,
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
        rows = {k: np.asarray(x)[: self.lanes_count, None] for k, x in metrics.items()}
        at = self._records.evaluated(self.step) - 1
        self._records.evaluations.put(self.rows, at, rows)

    def advance(self, last: int) -> float:
        """Make the next chunk of steps, at most until `last`; the lowest loss there,
        infinite if none is finite."""
        n = self.pace(last - self.step)
        self.pace.begin()
        self.lanes, history = self._program.advance(
            self._solver, self.lanes, self.step, self.step + n
        )
        self.pace.end(n)
        rows = {k: x.T[: self.lanes_count] for k, x in history.items()}
        self._records.steps.put(self.rows, self.step, rows)
        self.step += n
        if self.step in self.schedule:
            self.evaluate()
        if _dead(self.lanes, history["loss"][-1]):
            self._give_up(rows)
        loss = rows["loss"][:, -1]
        return float(np.min(loss, where=np.isfinite(loss), initial=np.inf))

    def _give_up(self, rows: dict[str, np.ndarray]) -> None:
        """Leave out all further steps and evaluations: every lane has diverged."""
        records, end = self._records, self._records.last_step
        made = records.evaluated(self.step)
        steps, looks = end - self.step, len(self.schedule) - made
        records.steps.put(self.rows, self.step, _blank(rows, steps))
        metrics = records.evaluations.rows(self.rows, 0, 1)
        records.evaluations.put(self.rows, made, _blank(metrics, looks))
        self.step = end


def begun(
    program: Program,
    problem: AbstractProblem,
    lanes: Lanes,
    first: _lane.Lane,
    chosen: Int[np.ndarray, " n"],
    records: Records,
    choice: Choice,
    folder: GroupFolder | None,
) -> Group:
    """A group where it was saved, or at its start."""
    saved = folder.load(to_host(first)) if folder else None
    arrays = saved.state if saved else lanes.started(problem, chosen)
    group = Group(
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


def finish(
    group: Group,
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
    group: Group,
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
            if np.isfinite(best):
                bar.set_postfix_str(f"best loss {best:.4g}", refresh=False)
            bar.update((group.step - before) * group.lanes_count)
            late = time.monotonic() - saved_at >= save_every
            if folder and (group.finished or late or interrupt.asked):
                group.save(folder)
                saved_at = time.monotonic()
            if interrupt.asked:
                raise KeyboardInterrupt
