"""The report of a folder: a command, and the last part of every experiment."""

import dataclasses
from pathlib import Path

import tyro

from ._figures import save_figures
from ._folder import ResultsFolder
from ._page import page
from ._results import load_results, Results
from ._table import FORMATS


@dataclasses.dataclass(frozen=True)
class Report:
    """Write results.nc, figures, report.md and report.html from finished runs.

    The folder was written by compare, run or curvopt.run_study. Nothing is run or compiled.
    """

    folder: tyro.conf.Positional[Path]
    """The folder with the runs."""

    out: Path | None = None
    """The output folder (default: the folder with the runs)."""

    metric: str | None = None
    """The metric to report (default: the experiment's, or the first)."""

    baseline: str | None = None
    """The strategy that all others are compared with (default: the experiment's)."""

    lower_is_better: bool | None = None
    """Whether lower values of the metric are better; required for an accuracy."""


def publish(results: Results, folder: ResultsFolder) -> None:
    """Write the data, figures and report, and print the table."""
    experiment = results.outline.json()
    folder.save_data("results.nc", results.data.assign_attrs(experiment=experiment))
    if results.tried is not None:
        folder.save_data("tuning.nc", results.tried)
    path = folder.save_report(page(results, save_figures(results, folder)))
    print(f"\n{FORMATS['markdown'](results)}\n")
    if results.points:
        print("Each strategy is at its best point, chosen on the reported seeds.")
    if results.comparison is not None:
        print(results.comparison)
    print(f"\nreport: {path}")


def report(config: Report) -> None:
    """Write the report of a folder.

    **Raises:**

    `UsageError` if it cannot be written; [`curvopt.StudyError`][] if there are no runs.
    """
    results = load_results(
        config.folder, config.metric, config.baseline, config.lower_is_better
    )
    publish(results, ResultsFolder(config.out or config.folder))
