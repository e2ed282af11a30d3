"""The loop on the host, which runs groups of lanes to their last step."""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Int

from ._evaluation import Watch
from ._execution import Choice
from ._host import check_others, Interrupt, Interrupted, Progress, side_by_side
from ._lane import Lane, to_host
from ._program import Program
from ._records import blank, Records, Rows
from ._turns import Turns


# The target length of a chunk of steps, in seconds: progress is shown, and signals are
# heeded, between chunks.
_PACE = 0.5


class Pace:
    """The length of the next chunk of steps, from the speed of the last.

    **Arguments:**

    - `most`: the most steps in one chunk.
    """

    def __init__(self, most: int):
        self._most, self._next, self._began = most, 1, 0.0
        self.seconds = 0.0

    def __call__(self, left: int) -> int:
        """Begin the next chunk, and return its length, at most `left` steps."""
        self._began = time.perf_counter()
        return min(self._next, left)

    def end(self, steps: int) -> None:
        """End a chunk of `steps` steps."""
        seconds = time.perf_counter() - self._began
        self.seconds += seconds
        fitting = int(steps * _PACE / max(seconds, 1e-9))
        self._next = max(1, min(self._most, fitting, 8 * steps))


@dataclasses.dataclass(frozen=True)
class Saver:
    """How the runs of a cohort are saved.

    **Attributes:**

    - `save`: saves pieces, each `(run, first, last, state)`, and the seconds so far.
    - `state`: returns the arrays of a run's lane at its last save.
    - `every`: seconds between two saves; a finished group is always saved.
    """

    save: Callable[[Sequence[tuple[int, int, int, list[np.ndarray]]], float], None]
    state: Callable[[int], list[np.ndarray]]
    every: float


@dataclasses.dataclass(frozen=True)
class Work:
    """Runs of a strategy that were begun together, and how they are run.

    **Attributes:**

    - `program`: the program of a group of lanes.
    - `choice`: how they are run.
    - `records`: the records of all runs of the strategy, filled in along the way.
    - `runs`: the indices of the runs to finish.
    - `saver`: how they are saved; `None` for not at all.
    - `watch`: is told of each evaluation; `None` if nobody is.
    """

    program: Program
    choice: Choice
    records: Records
    runs: Int[np.ndarray, " n"]
    saver: Saver | None = None
    watch: Watch | None = None


class _Clock:
    """Wall time of groups that run side by side."""

    def __init__(self, seconds: float):
        self._before, self._paces = seconds, list[Pace]()
        self._lock = threading.Lock()

    def add(self, pace: Pace) -> None:
        self._paces.append(pace)

    @property
    def seconds(self) -> float:
        # Groups run side by side: the slowest one counts.
        with self._lock:
            return self._before + max((pace.seconds for pace in self._paces), default=0.0)


def _is_dead(lanes: Lane, loss: np.ndarray) -> bool:
    """Whether every lane of a group has diverged for good: neither its loss nor any of its
    parameters is finite, and no step can change that."""
    if np.isfinite(loss).any():
        return False
    arrays = jax.device_get(jtu.tree_leaves(lanes.params))
    return not any(np.isfinite(np.asarray(x, np.float64)).any() for x in arrays)


class _Group:
    """Lanes that run at once, from their present step to the last one. A lane that ends
    earlier is saved and left out of the records; the program goes on computing it."""

    def __init__(
        self, work: Work, runs: Int[np.ndarray, " n"], clock: _Clock, turns: Turns
    ):
        self._work, self._runs, self._clock, self._turns = work, runs, clock, turns
        self._at = np.arange(len(runs))  # the places of the runs' lanes
        self.step = self._saved_at = int(work.records.made[runs[0]])
        # At step 0 nothing was saved: the lanes start from their seeds.
        saver = work.saver if self.step else None
        saved = saver and [saver.state(run) for run in runs.tolist()]
        self._solver, self.lanes = work.program.place(runs, saved)
        self._feed = work.program.feed(runs, self.step, work.records.length)
        self._pace = Pace(work.program.longest)
        clock.add(self._pace)

    def _evaluate(self) -> None:
        work = self._work
        with self._turns.evaluation():
            metrics = work.program.evaluate(self.lanes, work.choice.evaluate_at_once)
        row = {k: np.asarray(x)[self._at] for k, x in metrics.items()}
        work.records.put_evaluation(self._runs, self.step, row)
        if work.watch is not None:
            try:
                work.watch(self._runs, self._at, self.step, row, self.lanes)
            except BaseException:
                self.save()
                raise

    def _record(self, rows: Rows, steps: int) -> None:
        records = self._work.records
        records.put_steps(self._runs, self.step, rows)
        self.step += steps
        records.made[self._runs] = np.minimum(self.step, records.last[self._runs])

    def _advance(self, last: int) -> float:
        """Make the next chunk of steps, at most until `last`; return the lowest loss at its
        end, infinity if none is finite."""
        work = self._work
        until = self.step + self._pace(last - self.step)
        self._await_data()
        self.lanes, history = work.program.advance(
            self._solver, self.lanes, self.step, until, self._feed
        )
        n = len(history["loss"])  # fewer where the data end in an error
        self._pace.end(n)
        rows = {k: x.T[self._at] for k, x in history.items()}
        self._record(rows, n)
        if self.step in work.records.schedule:
            self._evaluate()
        if _is_dead(self.lanes, history["loss"][-1]):
            self._give_up(rows)
        loss = rows["loss"][:, -1]
        return float(np.min(loss, where=np.isfinite(loss), initial=np.inf))

    def _await_data(self) -> None:
        """Wait for the next step's batch; save everything if it cannot be had."""
        try:
            if self._feed is not None:
                self._feed(self.step)
        except BaseException:
            self.save()
            raise

    def _give_up(self, rows: Rows) -> None:
        """Fill all further steps and evaluations with blanks: every lane has diverged."""
        records = self._work.records
        left = records.length - self.step
        empty = lambda x, *shape: np.full(
            (len(self._runs), *shape), blank(x.dtype), x.dtype
        )
        self._record({k: empty(x, left) for k, x in rows.items()}, left)
        metrics = {k: empty(x) for k, x in records.evaluations.items()}
        for step in records.schedule[records.schedule > self.step - left].tolist():
            records.put_evaluation(self._runs, step, metrics)

    def save(self) -> None:
        """Save the lanes, and the records since the last save."""
        saver = self._work.saver
        if saver is None or self._saved_at == self.step:
            return
        arrays, made = to_host(self.lanes), self._work.records.made
        pieces = [
            (run, self._saved_at, int(made[run]), [np.asarray(x[k]) for x in arrays])
            for k, run in zip(self._at.tolist(), self._runs.tolist())
        ]
        saver.save(pieces, self._clock.seconds)
        self._saved_at = self.step

    def finish(self, progress: Progress, interrupt: Interrupt) -> None:
        """Run to the last step. If it fails, the groups next to it are interrupted.

        **Raises:**

        [`Interrupted`][] after an interruption, once everything is saved.
        """
        with self._turns.group():
            try:
                with self._feed or contextlib.nullcontext():
                    self._go(progress, interrupt)
            except BaseException:
                interrupt.asked = True
                raise

    def _go(self, progress: Progress, interrupt: Interrupt) -> None:
        records, saver = self._work.records, self._work.saver
        if self.step == 0:
            self._evaluate()
        saved_at = time.monotonic()
        # Chunks end at each evaluation.
        for last in np.unique([*records.schedule, records.length]).tolist():
            while self.step < last and len(self._runs):
                before = self.step
                best = self._advance(last)
                progress.advance((self.step - before) * len(self._runs), best)
                ended = ~records.unfinished[self._runs]
                late = saver is not None and time.monotonic() - saved_at >= saver.every
                if ended.any() or late or interrupt.asked:
                    self.save()
                    saved_at = time.monotonic()
                progress.already((records.length - self.step) * int(ended.sum()))
                self._runs, self._at = self._runs[~ended], self._at[~ended]
                if interrupt.asked:
                    raise Interrupted
                check_others()


def groups(work: Work) -> list[Int[np.ndarray, " n"]]:
    """The unfinished runs, in groups that have made the same number of steps."""
    size, made = work.program.layout.lanes, work.records.made
    unfinished = work.runs[work.records.unfinished[work.runs]]
    found = []
    for step in np.unique(made[unfinished]).tolist():
        together = work.program.by_seed(unfinished[made[unfinished] == step])
        found += [together[k : k + size] for k in range(0, len(together), size)]
    return found


def run(work: Work, seconds: float, progress: Progress, interrupt: Interrupt) -> float:
    """Run lanes to their last step.

    **Arguments:**

    - `work`: the runs.
    - `seconds`: the seconds that runs of their strategy took before.
    - `progress`: is told of each chunk.
    - `interrupt`: stops the runs after the present chunk, with everything saved.

    **Returns:**

    The seconds that runs of their strategy have taken now.
    """
    left = groups(work)
    index, count = jax.process_index(), jax.process_count()
    for k, runs in enumerate(left):
        work.records.owner[runs] = k % count
    own = left[index::count]
    if own:
        work.program.compile(work.choice.evaluate_at_once)
    workers = work.choice.workers
    for wave in (own[k : k + workers] for k in range(0, len(own), workers)):
        clock, turns = _Clock(seconds), Turns(len(wave))
        # Made here, not in the threads, because jax's settings are per thread.
        going = [_Group(work, runs, clock, turns) for runs in wave]
        tasks: list[Any] = [partial(g.finish, progress, interrupt) for g in going]
        side_by_side(tasks)
        seconds = clock.seconds
    return seconds
