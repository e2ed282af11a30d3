"""What a report compares: the part of an experiment that its study does not record."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ._folder import replace_file
from ._names import UsageError


# The files and folders of an experiment, apart from the report.
NAME, TUNING, STUDY = "experiment.json", "tuning", "study"

# The values of each hyper-parameter, by strategy.
Grids = Mapping[str, Mapping[str, list[float]]]


@dataclasses.dataclass(frozen=True)
class Asked:
    """The runs to report, out of all runs in a folder.

    **Attributes:**

    - `grids`: the values of the hyper-parameters, by strategy.
    - `seeds`: the seeds.
    """

    grids: dict[str, dict[str, list[float]]]
    seeds: list[int]


def is_loss(metric: str, lower_is_better: bool | None) -> bool:
    """Whether lower values of a metric are better, which is the default.

    **Raises:**

    `UsageError` if `lower_is_better` is not given for an accuracy.
    """
    if lower_is_better is None and "accuracy" in metric:
        raise UsageError(
            f"lower_is_better must be given for the metric {metric!r}: false if higher "
            "values are better, true if lower ones are."
        )
    return lower_is_better is not False


@dataclasses.dataclass(frozen=True)
class Outline:
    """What an experiment compares and reports, saved in its folder.

    **Attributes:**

    - `metric`: the metric by which strategies are compared, at the end of the runs.
    - `lower_is_better`: whether lower values of the metric are better.
    - `baseline`: the strategy that all others are compared with, or the baseline of each.
    - `title`, `command`, `text`: the heading, the command, and the study's file.
    - `labels`: direction and line search of each strategy, by which figures are arranged.
    - `runs`: the reported runs; `None` for all runs in the folder.
    - `tuned`: the candidates of each tuned strategy.
    - `origin`: the code, versions and machine that made the results.
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
        """The outline as JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def save(self, folder: Path) -> None:
        text = self.json()
        replace_file(folder / NAME, lambda path: path.write_text(text, "utf-8"))


def load_outline(folder: Path) -> Outline | None:
    """The outline of a folder, if it has one.

    **Raises:**

    `UsageError` if the file is damaged.
    """
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Outline)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{folder / NAME} cannot be read: {error}. Repeat the command that made the "
            "runs, which writes it again, or delete it and give --metric."
        ) from error
