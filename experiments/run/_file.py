"""The schema of a study's file."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from .._experiment import FIRST_TUNING_SEED
from .._names import UsageError
from ._validation import convert, quoted


_Count = Annotated[int, Meta(ge=1, lt=2**31)]
_Seed = Annotated[int, Meta(ge=0, lt=2**32)]
Seeds = (
    Annotated[int, Meta(ge=1, le=FIRST_TUNING_SEED)]
    | Annotated[list[_Seed], Meta(min_length=1)]
)

# An object: a name, or a table of a name and arguments.
Object = str | dict[str, Any]


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grid of numbers, evenly spaced in the logarithm."""

    lowest: Annotated[float, Meta(gt=0)] = msgspec.field(name="from")
    highest: Annotated[float, Meta(gt=0)] = msgspec.field(name="to")
    number: Annotated[int, Meta(ge=2)]

    def __post_init__(self) -> None:
        if not self.lowest < self.highest < math.inf:
            raise ValueError(
                "a grid must go from a number to a higher one, but it goes from "
                f"{self.lowest:g} to {self.highest:g}."
            )


Values = Annotated[list[float], Meta(min_length=1)] | Grid


def numbers(values: Values) -> list[float]:
    """The values as a list."""
    if isinstance(values, Grid):
        return np.geomspace(values.lowest, values.highest, values.number).tolist()
    return list(values)


class StrategyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A direction with a line search or a recipe."""

    direction: Object
    line_search: Object | None = None
    recipe: Object | None = None
    curvature: Object | None = None
    average: Object | None = None
    hyperparameters: dict[str, Values] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.line_search is None) == (self.recipe is None):
            which = "neither" if self.recipe is None else "both"
            raise ValueError(
                f"a strategy must have either line_search or recipe, but it has {which}."
            )


class TuningTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A direction whose learning rate and schedule are tuned on separate seeds."""

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
    average: Object | None = None


class ExecutionTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the lanes are run, as in `curvopt.Execution`."""

    loop: Literal["scan", "dispatch"] | None = None
    lanes_at_once: _Count | None = None
    workers: _Count | None = None
    measure: bool | None = None
    chunk: _Count | None = None
    memory: _Count | None = None


class StudyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole study; the documentation of `experiments.run` describes the fields."""

    problem: Object
    steps: _Count
    metric: str
    seeds: Seeds = 8
    evaluations: _Count = 6
    lower_is_better: bool | None = None
    baseline: str | dict[str, str] | None = None
    hyperparameters: dict[str, Values] = msgspec.field(default_factory=dict)
    execution: ExecutionTable = ExecutionTable()
    strategies: dict[str, StrategyTable] = msgspec.field(default_factory=dict)
    tuning: dict[str, TuningTable] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        both = [name for name in self.strategies if name in self.tuning]
        if both:
            raise ValueError(
                f"{quoted('tuning', both[0])}: [strategies] has a strategy of the same "
                "name. Rename one of them."
            )


def read_study(path: Path) -> tuple[StudyFile, str]:
    """The study that a TOML file describes, and the file's text.

    **Raises:**

    `UsageError` naming the field, its value and what is valid.
    """
    try:
        # Editors on Windows may begin a file with a byte-order mark.
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the study {path} cannot be read: {error}.") from error
    try:
        tables = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f"the study {path} is not valid TOML: {error}.") from error
    # Each entry first by itself: msgspec's errors do not name the entry of a table.
    named = {"strategies": StrategyTable, "tuning": TuningTable, "hyperparameters": Values}
    for section, kind in named.items():
        entries = tables.get(section)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            plain = section == "hyperparameters"
            at = f"{section}.{name}" if plain else quoted(section, name)
            convert(entry, kind, at)
    return convert(tables, StudyFile), text
