"""What a file of a study can say."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from .._catalogue import UsageError
from ._validation import convert, quoted


_Count = Annotated[int, Meta(ge=1)]
_Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Seeds = _Count | Annotated[list[_Seed], Meta(min_length=1)]

# An object: a name, or a table of a name and arguments.
Object = str | dict[str, Any]

# Names in a dataset, or in the file, that mean something else.
_TAKEN = frozenset(
    "strategy seed step evaluation_step steps steps_per_epoch schedule loss step_size "
    "gradient_norm slope curvature gradient_equivalents diverged_at seconds "
    "compile_seconds execution direction line_search".split()
)


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grid of numbers, evenly spaced in the logarithm."""

    lowest: Annotated[float, Meta(gt=0)] = msgspec.field(name="from")
    highest: Annotated[float, Meta(gt=0)] = msgspec.field(name="to")
    number: Annotated[int, Meta(ge=2)]

    def __post_init__(self) -> None:
        if not self.lowest < self.highest < math.inf:
            raise ValueError(
                "a grid goes from a number to a higher one, but it is from "
                f"{self.lowest:g} to {self.highest:g}."
            )


Values = Annotated[list[float], Meta(min_length=1)] | Grid


def numbers(values: list[float] | Grid) -> list[float]:
    """The values, one by one."""
    if isinstance(values, Grid):
        return np.geomspace(values.lowest, values.highest, values.number).tolist()
    return list(values)


class StrategyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A direction, and a line search or a recipe to step along it."""

    direction: Object
    line_search: Object | None = None
    recipe: Object | None = None
    curvature: Object | None = None

    def __post_init__(self) -> None:
        if (self.line_search is None) == (self.recipe is None):
            which = "neither is" if self.recipe is None else "both are"
            raise ValueError(
                f"a strategy has one of line_search and recipe, but {which} there."
            )


class TuningTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A direction whose learning rate and schedule are chosen on seeds of their own."""

    direction: Object
    learning_rates: Values
    schedules: Annotated[
        list[Literal["constant", "cosine", "linear"]], Meta(min_length=1)
    ] = msgspec.field(default_factory=lambda: ["constant", "cosine"])
    seeds: Seeds = 2
    line_search: Object = msgspec.field(
        default_factory=lambda: {
            "name": "LearningRate",
            "learning_rate": "$learning_rate",
            "schedule": "$schedule",
        }
    )
    curvature: Object | None = None


class ExecutionTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the lanes are run: see `curvopt.Execution`."""

    loop: Literal["scan", "dispatch"] | None = None
    lanes_at_once: _Count | None = None
    workers: _Count | None = None
    measure: bool | None = None
    chunk: _Count | None = None
    memory: _Count | None = None


class StudyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole study. See the documentation of `experiments.run` for the fields."""

    problem: Object
    steps: _Count
    metric: str
    seeds: Seeds = 8
    evaluations: _Count = 6
    lower_is_better: bool = True
    baseline: str | dict[str, str] | None = None
    hyperparameters: dict[str, Values] = msgspec.field(default_factory=dict)
    execution: ExecutionTable = ExecutionTable()
    strategies: dict[str, StrategyTable] = msgspec.field(default_factory=dict)
    tuning: dict[str, TuningTable] = msgspec.field(default_factory=dict)


def seed_list(seeds: int | Sequence[int], first: int = 0) -> list[int]:
    """Seeds one by one: of a number, so many from the first one on."""
    return list(range(first, first + seeds)) if isinstance(seeds, int) else list(seeds)


def _check_distinct(path: str, values: Sequence[Any]) -> None:
    again = sorted({x for x in values if values.count(x) > 1})
    if again:
        raise UsageError(f"{path} must be distinct, but {again} are repeated.")


def _check_values(path: str, values: list[float] | Grid) -> None:
    listed = numbers(values)
    wrong = [x for x in listed if not math.isfinite(x)]
    if wrong:
        raise UsageError(f"{path} must be finite, but {wrong} are among them.")
    _check_distinct(path, listed)


def _check_hyperparameters(study: StudyFile) -> None:
    for name, values in study.hyperparameters.items():
        path = f"hyperparameters.{name}"
        if not name.isidentifier() or name in _TAKEN or name == study.metric:
            raise UsageError(
                f"{path}: a hyper-parameter is called by a Python identifier that means "
                "nothing else in a study, for example `learning_rate`, but this one is "
                f"called {name!r}."
            )
        _check_values(path, values)


def _check_baseline(study: StudyFile) -> None:
    if study.baseline is None:
        return
    if study.hyperparameters:
        raise UsageError(
            "baseline: with hyperparameters nothing is compared, because the best point of "
            "each strategy is chosen on the seeds that are reported. Leave the baseline "
            "out, or write strategies without hyperparameters."
        )
    names = [*study.strategies, *study.tuning]
    valid = f"valid are: {', '.join(map(repr, names))}."
    if isinstance(study.baseline, str):
        if study.baseline not in names:
            raise UsageError(f"baseline: unknown strategy {study.baseline!r}; {valid}")
        if len(names) == 1:
            raise UsageError(
                f"baseline: {study.baseline!r} is the only strategy, so that there is "
                "nothing to compare it with."
            )
        return
    if not study.baseline:
        raise UsageError(
            "baseline: the table is empty; give each strategy that is to be compared its "
            f"baseline, or leave it out; {valid}"
        )
    for name, rival in study.baseline.items():
        for one in (name, rival):
            if one not in names:
                raise UsageError(f"baseline: unknown strategy {one!r}; {valid}")
        if name == rival:
            raise UsageError(f"baseline: {name!r} cannot be its own baseline.")


def _check(study: StudyFile, tables: Mapping[str, Any]) -> None:
    """What no field can know by itself."""
    if not study.strategies and not study.tuning:
        raise UsageError(
            'there is no strategy to run: write at least one table [strategies."a name"].'
        )
    both = [name for name in study.strategies if name in study.tuning]
    if both:
        raise UsageError(
            f"{quoted('tuning', both[0])}: there is a strategy of that name in "
            "[strategies] too; call one of them differently."
        )
    if "accuracy" in study.metric and "lower_is_better" not in tables:
        raise UsageError(
            f"lower_is_better: is a lower {study.metric!r} better? Write "
            "`lower_is_better = false` if it is not, and `true` if it is."
        )
    _check_distinct("seeds", seed_list(study.seeds))
    for name, table in study.tuning.items():
        path = quoted("tuning", name)
        _check_values(f"{path}.learning_rates", table.learning_rates)
        _check_distinct(f"{path}.schedules", table.schedules)
        _check_distinct(f"{path}.seeds", seed_list(table.seeds))
    _check_hyperparameters(study)
    _check_baseline(study)


def read_study(path: Path) -> tuple[StudyFile, str]:
    """The study that a TOML file describes, and the file's text.

    **Raises:**

    `UsageError` naming the field, its value and what is valid.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the study {path} cannot be read: {error}.") from error
    try:
        tables = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f"the study {path} is no valid TOML: {error}.") from error
    # One by one first: of an entry of a table msgspec does not say which it was.
    named = {"strategies": StrategyTable, "tuning": TuningTable, "hyperparameters": Values}
    for section, kind in named.items():
        entries = tables.get(section)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            plain = section == "hyperparameters"
            at = f"{section}.{name}" if plain else quoted(section, name)
            convert(entry, kind, at)
    study: StudyFile = convert(tables, StudyFile)
    _check(study, tables)
    return study, text
