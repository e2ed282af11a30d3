"""The table of finished runs."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from ._results import load_results
from ._table import FORMATS


@dataclasses.dataclass(frozen=True)
class Table:
    """Print the table of finished runs, from a folder that compare, run or
    curvopt.run_study wrote."""

    folder: tyro.conf.Positional[Path]
    """The folder with the runs."""

    format: Literal["markdown", "latex", "csv"] = "markdown"
    """The format. LaTeX needs the package booktabs."""

    metric: str | None = None
    """The metric to report (default: the experiment's, or the first)."""

    lower_is_better: bool | None = None
    """Whether lower values of the metric are better; required for an accuracy."""


def table(config: Table) -> None:
    """Print the table.

    **Raises:**

    `UsageError` if the metric is unknown; [`curvopt.StudyError`][] if there are no runs.
    """
    results = load_results(
        config.folder, config.metric, lower_is_better=config.lower_is_better
    )
    print(FORMATS[config.format](results))
