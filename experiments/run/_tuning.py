"""The strategies of a file that are found on seeds of their own."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import curvopt

from .._catalogue import UsageError
from ._file import numbers, seed_list, StudyFile, TuningTable
from ._names import schedule
from ._objects import Scope
from ._strategies import check_points, composed, Family, refers_to
from ._validation import quoted


RATE = "learning_rate"

# Tuning seeds are drawn from here on: never among the reported ones, unless asked for.
_FIRST_SEED = 1_000_000


def slug(name: str) -> str:
    """A name as that of a file; no two are the same."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _families(table: TuningTable, path: str, scope: Scope) -> dict[str, Family]:
    """By schedule, the function from a learning rate to a solver."""

    def family(kind: str) -> Family:
        fixed = scope.plus({"schedule": schedule(kind, scope.steps)}, swept=False)
        return lambda **point: composed(
            table.direction,
            table.line_search,
            table.curvature,
            path,
            fixed.plus(point, swept=True),
        )

    return {kind: family(kind) for kind in table.schedules}


def _check(table: TuningTable, study: StudyFile, path: str) -> None:
    line_search = f"{path}.line_search"
    if not refers_to(table.line_search, f"${RATE}"):
        raise UsageError(
            f'{line_search} must have "${RATE}" in it, which is what is tuned, but it is '
            f"{table.line_search!r}."
        )
    if len(table.schedules) > 1 and not refers_to(table.line_search, "$schedule"):
        raise UsageError(
            f'{line_search} must have "$schedule" in it, of which {len(table.schedules)} '
            "are tried. Name one of them in `schedules` if it has none."
        )
    reported = set(seed_list(study.seeds))
    both = sorted(reported & set(seed_list(table.seeds, _FIRST_SEED)))
    if both:
        raise UsageError(
            f"{path}.seeds: seeds that are reported must not be tuned on, but {both} are "
            "in `seeds` too. Take others, or a number, for so many from 1,000,000 on."
        )


def families_of(study: StudyFile, scope: Scope) -> dict[str, dict[str, Family]]:
    """What each table of the tuning tries.

    **Raises:**

    `UsageError` naming the table, the field and its value.
    """
    found = {}
    for name, table in study.tuning.items():
        path = quoted("tuning", name)
        _check(table, study, path)
        found[name] = _families(table, path, scope)
        for family in found[name].values():
            check_points(family, {RATE: numbers(table.learning_rates)})
    return found


def tune(
    problem: curvopt.AbstractProblem,
    study: StudyFile,
    families: Mapping[str, Mapping[str, Family]],
    execution: curvopt.Execution,
    folder: Path,
) -> dict[str, curvopt.Tuning]:
    """What was found for each table of the tuning; saved in folders of their own."""
    return {
        name: curvopt.tune(
            problem,
            families[name],
            {RATE: numbers(table.learning_rates)},
            metric=study.metric,
            seeds=seed_list(table.seeds, _FIRST_SEED),
            reported_seeds=seed_list(study.seeds),
            steps=study.steps,
            lower_is_better=study.lower_is_better,
            execution=execution,
            folder=folder / slug(name),
        )
        for name, table in study.tuning.items()
    }


def found_by(tuning: curvopt.Tuning) -> Family:
    """What was found, for a study with hyper-parameters: whatever they are."""
    return lambda **_: tuning.solver
