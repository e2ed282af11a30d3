"""The command that asks questions of settings."""

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

# Where files are does not affect a result, and is left out of its origin.
_PLACES = ("--data-dir", "--out", "--runs")


@dataclasses.dataclass(frozen=True)
class Research:
    """Run the research questions of the paper.

    Each question is asked of each setting, which is a problem at one size. The question of
    cost is asked once, on workloads of its own. Writes the results that the paper needs to
    --out, one small file for each question and setting. On 2 cores a question takes 3 to
    70 minutes on a setting, cost takes 24 minutes, and everything some fifteen hours.
    """

    questions: tuple[str, ...] = tuple(QUESTIONS)
    """The questions to ask."""

    settings: tuple[str, ...] = tuple(name for name, s in SETTINGS.items() if s.core)
    """The settings to ask them of. The settings that only the questions of scale, heldout
    and radial use must be named: --questions scale heldout radial --settings mlp-width-16
    mlp-width-256 mlp-batch-32 mlp-batch-512 mlp-relu lenet-relu resnet transformer; and
    --questions heldout --settings conv-autoencoder vit."""

    quick: bool = False
    """Run a smoke test: small problems on the included data, a few steps. Writes to
    results/research-quick."""

    data_dir: Path | None = None
    """The folder with data sets (default: the environment variable CURVOPT_DATA)."""

    out: Path = Path("paper") / "results"
    """The output folder for the results."""

    runs: Path = Path("results") / "research"
    """The folder in which runs are saved. The same command resumes them."""


def _bench(name: str, setting: Setting, config: Research) -> Bench | None:
    """A setting, ready to run; `None` if a quick run does not have it."""
    if not config.quick:
        problem = Tracked(setting.problem(config.data_dir))
        return Bench(name, setting, problem, config.runs / name, quick=False)
    if setting.quick is None:
        return None
    return Bench(name, setting, Tracked(setting.quick()), _QUICK / "runs" / name, True)


def origin() -> dict[str, str]:
    """The origin of a result: command, commit, versions and machine."""
    return _origin(without=_PLACES)


def provenance(bench: Bench) -> dict[str, str]:
    """The origin of a result, and its setting."""
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
    """Ask the questions and write their results.

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
            print(f"{name}: skipped", flush=True)
            continue
        for question in asked[name]:
            began = time.perf_counter()
            data = question.ask(bench)
            path = out / question.name / f"{name}.nc"
            save_dataset(path, data.assign_attrs(provenance(bench)))
            _answered(f"{question.name}, {name}", began)
