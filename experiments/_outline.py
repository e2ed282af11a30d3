"""What a report needs to know of its runs that the folder of the study does not say."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ._folder import replace_file
from ._names import UsageError


# Files and folders of an experiment, apart from the report.
NAME, TUNING, STUDY = "experiment.json", "tuning", "study"

# The values of each hyper-parameter, by strategy.
Grids = Mapping[str, Mapping[str, list[float]]]


@dataclasses.dataclass(frozen=True)
class Asked:
    """Runs that were asked for, of all that are in a folder.

    **Attributes:**

    - `grids`: by strategy, the values of its hyper-parameters.
    - `seeds`: from which seeds.
    """

    grids: dict[str, dict[str, list[float]]]
    seeds: list[int]


def is_loss(metric: str, lower_is_better: bool | None) -> bool:
    """Whether a lower value is better, which is the default.

    **Raises:**

    `UsageError` if it is not given for an accuracy.
    """
    if lower_is_better is None and "accuracy" in metric:
        raise UsageError(
            f"lower_is_better: is a lower {metric!r} better? Say false if it is not, and "
            "true if it is."
        )
    return lower_is_better is not False


@dataclasses.dataclass(frozen=True)
class Outline:
    """What an experiment asks and how its runs are read, saved in its folder.

    **Attributes:**

    - `metric`: what is judged, at the end of the runs.
    - `lower_is_better`: whether it is a loss.
    - `baseline`: the strategy that all others are compared with, or that of each.
    - `title`, `command`, `text`: a heading, what was typed, and the file of the study.
    - `labels`: direction and line search of strategies, by which figures are arranged.
    - `runs`: which are reported; `None` for all that are in the folder.
    - `tuned`: by strategy that was tuned, what it was chosen among.
    - `origin`: what made the results: code, versions, machine.
    """

    metric: str
    lower_is_better: bool = True
    baseline: str | dict[str, str] | None = None
    title: str = "A study"
    command: str = ""
    text: str = ""
    labels: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    runs: Asked | None = None
    tuned: dict[str, Asked] = dataclasses.field(default_factory=dict)
    origin: dict[str, str] = dataclasses.field(default_factory=dict)

    def json(self) -> str:
        """All of it, as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def save(self, folder: Path) -> None:
        text = self.json()
        replace_file(folder / NAME, lambda path: path.write_text(text, "utf-8"))


def load_outline(folder: Path) -> Outline | None:
    """That of a folder, if it has one.

    **Raises:**

    `UsageError` if it is damaged.
    """
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Outline)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{folder / NAME} cannot be read: {error}. The same command writes it anew; "
            "without it, name the --metric."
        ) from error
