"""An experiment from the tables of a file."""

from pathlib import Path
from typing import Any

import msgspec

import curvopt

from .._catalogue import known_problems
from .._experiment import Experiment, Strategy, Tuned
from .._names import UsageError
from .._origin import command, origin
from .._outline import is_loss, Outline
from ._file import numbers, StrategyTable, StudyFile
from ._objects import family_of, problem_of, schedule, scope_of
from ._validation import quoted


RATE = "learning_rate"


def _refers_to(value: Any, variable: str) -> bool:
    """Whether a variable, `"$name"`, occurs anywhere in a value of a file."""
    if isinstance(value, dict):
        return any(_refers_to(x, variable) for x in value.values())
    if isinstance(value, list):
        return any(_refers_to(x, variable) for x in value)
    return value == variable


def _grids(study: StudyFile) -> dict[str, dict[str, list[float]]]:
    """The values of the hyper-parameters that each strategy refers to."""
    found = {
        name: {RATE: numbers(table.learning_rates)} for name, table in study.tuning.items()
    }
    for name, table in study.strategies.items():
        written = msgspec.to_builtins(table)
        given = study.hyperparameters | table.hyperparameters
        own = {k: numbers(x) for k, x in given.items() if _refers_to(written, f"${k}")}
        unused = [k for k in table.hyperparameters if k not in own]
        if unused:
            path = f"{quoted('strategies', name)}.hyperparameters.{unused[0]}"
            raise _unused(path, "the strategy does not refer to", unused[0])
        found[name] = own
    for name in study.hyperparameters:
        if not any(name in found[strategy] for strategy in study.strategies):
            raise _unused(f"hyperparameters.{name}", "no strategy refers to", name)
    return found


def _unused(path: str, who: str, name: str) -> UsageError:
    return UsageError(
        f'{path}: {who} "${name}", so that all its values would give the same run. Remove '
        "it, or refer to it."
    )


def _check_tuning(study: StudyFile) -> None:
    for name, table in study.tuning.items():
        path = quoted("tuning", name)
        if not _refers_to(table.line_search, f"${RATE}"):
            raise UsageError(
                f'{path}.line_search must contain "${RATE}", the hyper-parameter that is '
                f"tuned, but it is {table.line_search!r}."
            )
        if len(set(table.schedules)) < len(table.schedules):
            raise UsageError(
                f"{path}.schedules must be distinct, but they are {table.schedules}."
            )
        if len(table.schedules) > 1 and not _refers_to(table.line_search, "$schedule"):
            raise UsageError(
                f'{path}.line_search must contain "$schedule", because `schedules` lists '
                f"{len(table.schedules)} of them. If the rule has none, list only one."
            )


def experiment_of(
    study: StudyFile, text: str, title: str, data_dir: Path | None
) -> Experiment:
    """The experiment that a file describes, checked as a whole; nothing is compiled.

    **Arguments:**

    - `study`, `text`: the file, parsed and as text.
    - `title`: the heading of its report.
    - `data_dir`: the folder with the data of the project's problems.

    **Raises:**

    `ValueError` naming the field, its value and what is valid; `DataError` if the data
    cannot be loaded.
    """
    grids = _grids(study)
    _check_tuning(study)
    outline = Outline(
        metric=study.metric,
        lower_is_better=is_loss(study.metric, study.lower_is_better),
        baseline=study.baseline,
        title=title,
        command=command(),
        text=text,
        origin=origin(),
    )
    problem = problem_of(study.problem, known_problems(data_dir))
    scope = scope_of(problem, study.steps)
    strategies: dict[str, Strategy] = {}
    for name, table in study.tuning.items():
        plain = StrategyTable(
            table.direction,
            line_search=table.line_search,
            curvature=table.curvature,
            average=table.average,
        )
        families = {}
        for kind in table.schedules:
            fixed = scope.plus({"schedule": schedule(kind, study.steps)}, swept=False)
            made = family_of(plain, quoted("tuning", name), fixed, grids[name])
            assert isinstance(made, curvopt.Family)
            families[kind] = made
        strategies[name] = Tuned(families, table.seeds)
    for name, table in study.strategies.items():
        path = quoted("strategies", name)
        strategies[name] = family_of(table, path, scope, grids[name])
    return Experiment(
        problem,
        strategies,
        study.seeds,
        study.steps,
        study.evaluations,
        outline,
        curvopt.Execution(**msgspec.structs.asdict(study.execution)),
    )
