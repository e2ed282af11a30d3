"""The command: questions asked of settings."""

import dataclasses
import time
from pathlib import Path

from .._folder import save_dataset
from .._names import choose, UsageError
from .._origin import origin as _origin
from ..data import data_folder
from ._bench import Bench
from ._question import Measurement, Question
from ._settings import Setting, SETTINGS
from ._tracked import Tracked
from .questions import QUESTIONS


_QUICK = Path("results") / "research-quick"

# Where things are is no part of how a result is made.
_PLACES = ("--data-dir", "--out", "--runs")


@dataclasses.dataclass(frozen=True)
class Research:
    """Ask the questions of the research.

    Every question is asked of every setting, a problem at one size; that of cost has
    workloads of its own, and is asked once. What the paper needs is written
    to --out, one small file for each question and setting. On 2 cores a question takes 3 to
    70 minutes on a setting, cost takes 24 minutes, and everything some twelve hours.
    """

    questions: tuple[str, ...] = tuple(QUESTIONS)
    """The questions to ask."""

    settings: tuple[str, ...] = tuple(name for name, s in SETTINGS.items() if s.core)
    """The settings to ask them of. Those for the question of scale alone run if they are
    named: --questions scale --settings mlp-width-16 mlp-width-256 mlp-batch-32
    mlp-batch-512 mlp-relu lenet-relu resnet transformer."""

    quick: bool = False
    """Small problems on the included data, a few steps: only to see that everything works.
    Written to results/research-quick."""

    data_dir: Path | None = None
    """The folder with data sets (default: the variable CURVOPT_DATA)."""

    out: Path = Path("paper") / "results"
    """The folder that gets the small files."""

    runs: Path = Path("results") / "research"
    """The folder in which runs are saved. The same command resumes them."""


def _bench(name: str, setting: Setting, config: Research) -> Bench | None:
    """A setting, ready to be run on; `None` if it is not there in a quick run."""
    if not config.quick:
        problem = Tracked(setting.problem(config.data_dir))
        return Bench(name, setting, problem, config.runs / name, quick=False)
    if setting.quick is None:
        return None
    return Bench(name, setting, Tracked(setting.quick()), _QUICK / "runs" / name, True)


def origin() -> dict[str, str]:
    """What made a result: command, commit, versions and machine."""
    return _origin(without=_PLACES)


def provenance(bench: Bench) -> dict[str, str]:
    """What made a result, and on what."""
    return origin() | {
        "setting": bench.name,
        "label": bench.setting.label,
        "metric": bench.setting.metric,
        "steps": str(bench.steps),
        "quick": str(bench.quick),
    }


def _answered(name: str, began: float) -> None:
    print(f"{name}: {time.perf_counter() - began:,.0f} s", flush=True)


def research(config: Research) -> None:
    """Ask, and write what is kept.

    **Raises:**

    `UsageError` or `DataError`, before anything is compiled. [`curvopt.StudyError`][] if a
    folder of runs holds another study.
    """
    if config.data_dir is not None:
        data_folder(config.data_dir)
    questions = choose("question", QUESTIONS, config.questions)
    settings = choose("setting", SETTINGS, config.settings)
    measured = [q for q in questions.values() if isinstance(q, Measurement)]
    of_settings = [q for q in questions.values() if isinstance(q, Question)]
    asked = {
        name: [q for q in of_settings if q.asked_of(name, setting)]
        for name, setting in settings.items()
    }
    if not measured and not any(asked.values()):
        raise UsageError(
            f"none of {', '.join(questions)} is asked of {', '.join(settings)}."
        )
    out = _QUICK if config.quick else config.out
    for question in measured:
        began = time.perf_counter()
        data = question.measure(config.quick)
        path = out / question.name / f"{question.name}.nc"
        save_dataset(path, data.assign_attrs(origin()))
        _answered(question.name, began)
    if not of_settings:
        return
    for name, setting in settings.items():
        bench = _bench(name, setting, config) if asked[name] else None
        if bench is None:
            print(f"{name}: left out", flush=True)
            continue
        for question in asked[name]:
            began = time.perf_counter()
            data = question.ask(bench)
            path = out / question.name / f"{name}.nc"
            save_dataset(path, data.assign_attrs(provenance(bench)))
            _answered(f"{question.name}, {name}", began)
