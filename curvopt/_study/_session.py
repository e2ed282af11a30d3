"""From a study to its results: finds out what is saved, and runs what is missing."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TYPE_CHECKING

import jax
import jax.random as jr
import numpy as np
import xarray as xr

from .._describe import differences, digest, fields, readable
from .._environment import settings, versions
from .._host_data import first_batch_fields
from .._problem import AbstractProblem
from .._solver import LineSearchMinimiser
from ..cost import EvaluationCosts
from ._dataset import dataset, Outcome, Point
from ._engine import run, Work
from ._execution import Choice, choose
from ._fingerprint import fingerprint
from ._host import (
    broadcast,
    company,
    gather,
    Interrupt,
    Interrupted,
    meet,
    own_errors,
    own_share,
    postponed_signals,
    Progress,
    sent,
)
from ._lane import Lane, Lanes, layout_of, Origin, seed_key, to_device, to_host, unpacked
from ._load import attributes_of, cohort_runs, outcome_of, run_key
from ._options import Options
from ._part import Part
from ._program import lowered_draw, Program, Programs
from ._records import COUNTS, Records
from ._store import DamagedRun, FORMAT, Store, StudyError


if TYPE_CHECKING:
    from ._study import Strategy, Study


# The most steps of a chunk by default.
LONGEST = 1000


def evaluation_schedule(steps: int, evaluations: int) -> list[int]:
    """The steps after which to evaluate: the start, the end, and evenly spaced between."""
    return np.unique(np.linspace(0, steps, evaluations + 1).round().astype(int)).tolist()


def prices(
    problem: AbstractProblem,
    solver: LineSearchMinimiser,
    records: Records,
    known: Mapping[str, float],
) -> dict[str, float]:
    """The costs of a step and of each kind of evaluation used, in gradient-equivalents."""
    costs, price = dict(known), EvaluationCosts(problem, solver.curvature)
    if "step" not in costs:
        costs["step"] = price.of_direction(solver.direction)
    for count, kind in COUNTS.items():
        if kind not in costs and records.steps[f"evaluated_{count}"].any():
            costs[kind] = price[kind]
    return costs


_RESUME = "Resume it as it was begun, choose another folder, or delete the study."


class Session:
    """A running study: a function in stages, each of which reads what the last one made.

    **Arguments:**

    - `study`: the study.
    - `store`: its folder, if it has one.
    - `options`: how it is run.
    - `origin`: if given, that of its single run, whose lane is kept at the end.
    """

    def __init__(
        self,
        study: "Study",
        store: Store | None,
        options: Options,
        origin: Origin | None = None,
    ):
        self._study, self._store, self._options = study, store, options
        self._execution, self._origin = options.execution, origin
        self._document = self._agreed_study()
        cohorts = store.cohorts() if store else {}
        saved = store.strategies() if store else {}
        self._parts = [
            self._part(strategy, saved.get(strategy.name), cohorts)
            for strategy in study.parts()
        ]
        self._next = max(cohorts, default=-1) + 1
        self._same_versions = self._agreed_versions(options.accept_versions)

    def _agreed_study(self) -> dict[str, Any]:
        """The saved document of the study; raise if the folder holds another study."""
        study = self._study
        document = {
            "format": FORMAT,
            "text": readable(study.problem),
            "settings": settings(),
            "versions": [versions()],
            "steps": study.steps,
            "schedule": evaluation_schedule(study.steps, study.evaluations),
        }
        if self._store is None:
            return document
        document |= {
            "problem": self._problem(),
            "initialisation": self._initialisation(),
            "origin": described(self._origin),
        }
        known = self._store.study
        if not known:
            return document
        lines = differences(known["problem"], document["problem"])
        lines += differences(known.get("origin", {}), document["origin"])
        lines += differences(known["settings"], document["settings"])
        # Other versions lower the same code to other text: it cannot be compared.
        same = known["versions"][-1] == document["versions"][-1]
        if same and known["initialisation"] != document["initialisation"]:
            lines.append("the code of the problem's `init`: changed")
        if lines:
            raise self._refused("another study", lines)
        # Runs that are already made keep the evaluations of their old schedule.
        schedule = sorted({*known["schedule"], *document["schedule"]})
        return known | {
            "steps": max(known["steps"], document["steps"]),
            "schedule": schedule,
        }

    def _problem(self) -> dict[str, str]:
        """The problem by field, and what is compared of data on the host."""
        problem = self._study.problem
        data = problem.host_data
        return fields(problem) | ({} if data is None else first_batch_fields(data))

    def _initialisation(self) -> str:
        """A digest of the problem's `init`."""
        return fingerprint(lowered_draw(self._study.problem))

    def _refused(
        self, what: str, lines: Sequence[str], remedy: str = _RESUME
    ) -> StudyError:
        assert self._store is not None
        listed = "\n  ".join(dict.fromkeys(lines))
        return StudyError(f"{self._store.path} holds {what}:\n  {listed}\n{remedy}")

    def _part(
        self, strategy: "Strategy", known: Any | None, cohorts: Mapping[int, Any]
    ) -> Part:
        """A strategy with its saved runs; raise if the folder holds another strategy."""
        document = known or {"hyperparameters": list(strategy.points[0]), "points": []}
        lines = []
        if document["hyperparameters"] != list(strategy.points[0]):
            before, now = document["hyperparameters"], list(strategy.points[0])
            listed = lambda names: ", ".join(names) or "none"
            lines.append(f"hyper-parameters: {listed(before)} → {listed(now)}")
        else:
            for point in document["points"]:
                own = fields(strategy.at(point["values"]))
                lines += differences(point["fields"], own)
        if lines:
            what = f"another strategy named {strategy.name!r}"
            raise self._refused(what, lines)
        stored = {run_key(point["values"]) for point in document["points"]}
        new = [p for p in strategy.points if run_key(p) not in stored]
        points = [{"values": p, "fields": fields(strategy.at(p))} for p in new]
        if points:
            document |= {"text": strategy.text, "points": [*document["points"], *points]}
        wanted = [(p, seed) for p in strategy.points for seed in self._study.seeds]
        own = {k: c for k, c in cohorts.items() if c["strategy"] == strategy.name}
        at = {
            (run_key(p), seed): (number, run)
            for number, cohort in own.items()
            for run, (p, seed) in enumerate(cohort_runs(document, cohort))
        }
        place = [at.get((run_key(p), seed)) for p, seed in wanted]
        outcome = self._saved(strategy.name, document, own, wanted)
        return Part(strategy, document, wanted, outcome, own, place)

    def _saved(
        self,
        name: str,
        document: dict[str, Any],
        cohorts: Mapping[int, Any],
        wanted: Sequence[tuple[Point, int]],
    ) -> Outcome:
        """The results of the wanted runs so far."""
        steps = self._study.steps
        schedule = np.array([x for x in self._document["schedule"] if x <= steps])
        if self._store is None or not cohorts:
            records = Records(len(wanted), steps, schedule)
            points, seeds = zip(*wanted)
            return Outcome(document["text"], points, seeds, records, {}, 0.0, 0.0, None)
        while True:
            try:
                return outcome_of(
                    self._store, name, document, cohorts, wanted, steps, schedule
                )
            except DamagedRun as error:
                if not self._options.rerun_damaged:
                    raise
                self._store.drop(error.cohort, error.run)

    def _agreed_versions(self, accept: bool) -> bool:
        """Whether the versions are the saved ones; raise if steps would be made under other
        versions, unless `accept`."""
        before, now = self._document["versions"][-1], versions()
        lines = differences(before, now)
        if not lines:
            return True
        if any(part.unfinished for part in self._parts):
            if not accept:
                raise self._refused(
                    "a study of other versions",
                    lines,
                    "Its numbers would come from both. Resume it under the versions it was "
                    "begun with, or accept that: `accept_versions=True`, which is "
                    "recorded.",
                )
            self._document |= {
                "versions": [*self._document["versions"], now],
                "initialisation": self._initialisation(),
            }
        return False

    def _prepared(self, interrupt: Interrupt) -> list[tuple[Part, Work]]:
        """Choose how to run what is not begun yet, and save all choices at once; return the
        work to do, in order."""
        work: list[tuple[Part, int, Programs, Lanes]] = []
        documents: dict[str, Any] = {"study": self._document}
        for part in self._parts:
            if interrupt.asked:
                raise Interrupted
            # A finished part is compared too: its strategy may have changed since.
            if not part.unfinished and not (self._store and self._same_versions):
                continue
            lanes = self._lanes(part)
            devices, chunk = self._execution.on(), self._execution.chunk
            programs = Programs(lanes, devices, min(chunk or LONGEST, self._study.steps))
            for number, cohort in part.cohorts.items():
                self._resume(part, number, cohort, programs)
            missing = [k for k, place in enumerate(part.place) if place is None]
            if missing:
                self._begin(part, missing, programs)
            name = part.strategy.name
            documents[f"strategy/{name}"] = part.document
            for number, cohort in part.cohorts.items():
                documents[f"cohort/{number}"] = cohort
                work.append((part, number, programs, lanes))
        if self._store and any(part.unfinished for part in self._parts):
            if jax.process_index() == 0:
                self._store.put(documents)
            meet("begun")
        return [
            (part, self._work(part, number, programs, lanes))
            for part, number, programs, lanes in work
            if part.records.unfinished[part.rows(number)].any()
        ]

    def _origins(self) -> list[Origin]:
        if self._origin is not None:
            return [self._origin]
        return [Origin(seed_key(seed)) for seed in self._study.seeds]

    def _lanes(self, part: Part) -> Lanes:
        keys = {seed: k for k, seed in enumerate(self._study.seeds)}
        points = {run_key(p): k for k, p in enumerate(part.strategy.points)}
        return Lanes(
            self._study.problem,
            part.strategy.solver,
            part.strategy.family,
            self._origins(),
            np.array([points[run_key(p)] for p, _ in part.wanted]),
            np.array([keys[seed] for _, seed in part.wanted]),
            self._execution.sharding,
        )

    def _resume(
        self, part: Part, number: int, cohort: dict[str, Any], programs: Programs
    ) -> None:
        """Note where the runs of a cohort go on, if it is elsewhere; raise if the code of
        the loss, the evaluation or the strategy has changed."""
        choice = Choice(**cohort["choice"])
        program = programs(choice.loop, choice.lanes_at_once, choice.longest)
        goes_on = part.records.unfinished[part.rows(number)].any()
        now = len(self._document["versions"]) - 1
        # Under other versions, or split otherwise, the same code lowers to other text.
        same_split = cohort.get("split", "") == program.layout.split
        if cohort["versions"] == now and same_split:
            if program.fingerprint != cohort["program"]:
                raise self._refused(
                    f"another program of {part.strategy.name!r}",
                    ["the code of the loss, the evaluation or the strategy: changed"],
                )
        elif goes_on or not self._same_versions:
            cohort |= self._identity(program)
        place = program.layout.place
        if goes_on and choice.places[:1] != [place]:
            places = [place, *choice.places]
            devices = self._execution.lanes_side_by_side
            choice = dataclasses.replace(choice, devices=devices, places=places)
            cohort["choice"] = dataclasses.asdict(choice)

    def _identity(self, program: Program) -> dict[str, Any]:
        """What tells whether the code of a cohort has changed."""
        return {
            "program": program.fingerprint if self._store else "",
            "split": program.layout.split,
            "versions": len(self._document["versions"]) - 1,
        }

    def _begin(self, part: Part, missing: list[int], programs: Programs) -> None:
        """Make a cohort of the missing runs."""
        choice = self._choice(part, len(missing), programs)
        program = programs(choice.loop, choice.lanes_at_once, choice.longest)
        at = {run_key(p["values"]): k for k, p in enumerate(part.document["points"])}
        runs = [(at[run_key(part.wanted[k][0])], part.wanted[k][1]) for k in missing]
        part.cohorts[self._next] = {
            "strategy": part.strategy.name,
            "runs": runs,
            "choice": dataclasses.asdict(choice) | {"places": [program.layout.place]},
            **self._identity(program),
        }
        for number, k in enumerate(missing):
            part.place[k] = self._next, number
        self._next += 1

    def _choice(self, part: Part, runs: int, programs: Programs) -> Choice:
        """The choice of an earlier cohort, if the new runs fill a group: an added seed is
        then bit for bit what it would have been. Otherwise a new choice."""
        devices = self._execution.lanes_side_by_side
        for cohort in part.cohorts.values():
            before = Choice(**cohort["choice"])
            if before.devices == devices and runs >= before.lanes_at_once * devices:
                return dataclasses.replace(before, compile_seconds=0.0)
        choice = choose(
            self._execution,
            programs,
            lanes=own_share(runs),
            steps=self._study.steps,
            convolutions=self._study.convolutions,
        )
        choice = dataclasses.replace(choice, compile_seconds=programs.compile_seconds)
        return Choice(**broadcast(dataclasses.asdict(choice)))

    def _work(self, part: Part, number: int, programs: Programs, lanes: Lanes) -> Work:
        choice = Choice(**part.cohorts[number]["choice"])
        program = programs(choice.loop, choice.lanes_at_once, choice.longest)
        store, options = self._store, self._options
        saver = part.keeper() if self._origin is not None else None
        if store is not None:
            saver = part.saver(store, number, layout_of(lanes.first), options.save_every)
        function = options.on_evaluation
        watch = None if function is None else part.watch(store, number, function)
        rows = part.rows(number)
        return Work(program, choice, part.records, rows, saver, watch)

    def run(self, progress: Progress, interrupt: Interrupt) -> None:
        """Make the missing steps."""
        try:
            self._advance(progress, interrupt)
        except Interrupted:
            saved = self._store and f"; saved in {self._store.path}, to resume from there"
            progress.interrupted(f"{saved or ''}.")
            begun = any(part.records.steps for part in self._parts)
            if not begun or not interrupt.ends_the_run_only():
                raise
        # First: the collectives of `gather` would wait for a process that has ended.
        meet("finished")
        for part in self._parts:
            gather(part.records)
            if part.records.steps:
                self._price(part)

    def _advance(self, progress: Progress, interrupt: Interrupt) -> None:
        work = self._prepared(interrupt)
        for part in self._parts:
            records = part.records
            made = np.where(records.unfinished, records.made, records.length)
            progress.already(int(made.sum()))
        for part, own in work:
            if interrupt.asked:
                raise Interrupted
            name = part.strategy.name
            progress.strategy(name)
            progress.say(str(own.choice))
            before = self._store.own(f"seconds/{name}") if self._store else None
            seconds = run(own, before or part.outcome.seconds, progress, interrupt)
            part.outcome = dataclasses.replace(part.outcome, seconds=seconds)

    def _price(self, part: Part) -> None:
        """Set what a strategy's runs cost, and how they were run."""
        solver = part.strategy.at(part.strategy.points[0])
        costs = prices(self._study.problem, solver, part.records, part.outcome.costs)
        choices = [cohort["choice"] for cohort in part.cohorts.values()]
        part.outcome = dataclasses.replace(
            part.outcome,
            costs=costs,
            compile_seconds=sum(choice["compile_seconds"] for choice in choices),
            execution=choices[0] if len(choices) == 1 else choices,
        )
        name = part.strategy.name
        if self._store and self._store.own(f"costs/{name}") != costs:
            self._store.put({f"costs/{name}": costs})

    def dataset(self) -> xr.Dataset:
        """The dataset of the wanted runs; without strategies that were not begun."""
        begun = (part for part in self._parts if part.records.steps)
        outcomes = {part.strategy.name: part.outcome for part in begun}
        attributes = attributes_of(self._document)
        return dataset(outcomes, self._study.seeds, attributes)

    def lane(self) -> Lane:
        """The lane of the single run of a study with an origin."""
        (part,) = self._parts
        lanes = self._lanes(part)
        if self._store is not None:
            (place,) = part.place
            assert place is not None
            arrays = unpacked(layout_of(lanes.first), self._store.state(*place))
        else:
            arrays = sent(part.states.get(0) or to_host(lanes.first))
        sharding, first = self._execution.sharding, lanes.first
        places = sharding and sharding.shardings(first.params, first)
        return to_device(arrays, first, places)


def described(origin: Origin | None) -> dict[str, str]:
    """An origin by field; the seeds of a study need no description."""
    if origin is None:
        return {}

    def start(given: Any) -> str:
        if given is None:
            return "drawn by `init`"
        data = b"".join(x.tobytes() for x in to_host(given))
        return f"given, of digest {digest(np.frombuffer(data, np.uint8))}"

    return {
        "key": f"{jr.key_impl(origin.key)} {jr.key_data(origin.key).tolist()}",
        "params": start(origin.params),
        "model_state": start(origin.model_state),
    }


def _check_stream(study: "Study", folder: str | os.PathLike | None) -> None:
    """Refuse a stream where its batches would have to come twice."""
    data = study.problem.host_data
    if data is None or data.repeatable:
        return
    runs = sum(len(part.points) for part in study.parts())
    if runs > 1 or folder is not None:
        what = f"{runs} runs of each seed" if runs > 1 else f"the folder {str(folder)!r}"
        raise ValueError(
            f"a stream cannot go back, but there is {what}: other runs would see other "
            "batches, and so would a run that resumes. Give batches by seed and step, "
            "`curvopt.HostData(batch, ...)`; or, if the iterator of a seed begins again "
            "with the same batches, say `repeatable=True`."
        )


@contextlib.contextmanager
def _opened(folder: str | os.PathLike | None) -> Iterator[Store | None]:
    if folder is None:
        yield None
        return
    # The first process creates the files; the others open them afterwards.
    index = jax.process_index()
    if index:
        meet("opened")
    with Store(folder, index) as store:
        if not index:
            meet("opened")
        yield store


@contextlib.contextmanager
def finished_session(
    study: "Study",
    folder: str | os.PathLike | None,
    options: Options,
    origin: Origin | None = None,
) -> Iterator[Session]:
    """A context with a session that has run the missing part of a study."""
    _check_stream(study, folder)
    total = study.steps * len(study.seeds) * sum(len(x.points) for x in study.parts())
    # Errors and signals outermost: when they take effect, the folder is already closed.
    with (
        own_errors(),
        postponed_signals() as interrupt,
        company(),
        _opened(folder) as store,
    ):
        session = Session(study, store, options, origin)
        with Progress(total, options.progress) as bar:
            session.run(bar, interrupt)
        yield session
