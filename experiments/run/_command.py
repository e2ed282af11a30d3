"""The command: from a file to a folder of results."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import tyro
import xarray as xr

import curvopt

from .._results import ResultsFolder
from ._best import at_points, best_points
from ._figures import save_figures
from ._file import seed_list
from ._plan import Plan, read_plan
from ._report import report
from ._strategies import own_values
from ._table import table
from ._tuning import found_by, slug, tune


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a study that is described in a file.

    The file is TOML: its problem, strategies, seeds and steps; see
    experiments/run/example.toml. Everything in it is checked before anything is compiled.
    Writes results.nc, figures, report.md and report.html, and prints the table.
    """

    file: tyro.conf.Positional[Path]
    """The study, a TOML file."""

    out: Path | None = None
    """The folder to write to; default: results/ and the file's name. The same command goes
    on with what is there: after it was broken off, killed or interrupted it ends with the
    same numbers."""

    data_dir: Path | None = None
    """Where the data sets are that do not come with the project (or the variable
    CURVOPT_DATA); without it MNIST and Fashion-MNIST are downloaded once."""

    overwrite: bool = False
    """Begin anew, and replace what is in the folder."""


def _run(plan: Plan, folder: ResultsFolder) -> tuple[xr.Dataset, dict[str, curvopt.Tuning]]:
    """The study, and what was tuned for it."""
    study = plan.study
    tuned = tune(plan.problem, study, plan.families, plan.execution, folder.tuning)
    found = {
        name: found_by(tuning) if plan.grid else tuning.solver
        for name, tuning in tuned.items()
    }
    data = curvopt.run_study(
        plan.problem,
        {**found, **plan.strategies},
        seeds=seed_list(study.seeds),
        steps=study.steps,
        hyperparameters=plan.grid,
        evaluations=study.evaluations,
        execution=plan.execution,
        folder=folder.study,
    )
    attributes = {
        "command": "python -m experiments " + shlex.join(sys.argv[1:]),
        "configuration": plan.text,
        "tuned": json.dumps(
            {k: {"family": t.family, **t.values} for k, t in tuned.items()}
        ),
    }
    return data.assign_attrs(attributes), tuned


def _save(
    config: Run,
    plan: Plan,
    data: xr.Dataset,
    tuned: Mapping[str, curvopt.Tuning],
    folder: ResultsFolder,
) -> None:
    """Write and print what was found."""
    study = plan.study
    folder.save_text("study.toml", plan.text)
    folder.save_data("results.nc", data)
    for name, tuning in tuned.items():
        folder.save_data(f"tuning-{slug(name)}.nc", tuning.runs)
    points, own, best = {}, {}, data
    if plan.grid:
        points = best_points(data, study.metric, list(plan.grid), study.lower_is_better)
        own = own_values(study, points)
        best = at_points(data, points, own)
    comparison = None
    if study.baseline is not None:
        comparison = curvopt.compare(
            data,
            study.metric,
            baseline=study.baseline,
            lower_is_better=study.lower_is_better,
        )
    figures = save_figures(folder, study, data, best, points, tuned)
    page = report(
        config.file.stem,
        study,
        plan.text,
        data,
        best,
        own,
        comparison,
        tuned,
        figures,
    )
    path = folder.save_report(page)
    print(f"\n{table(best, study.metric)}\n")
    if points:
        print("Each strategy at its best point, chosen on the seeds that are reported.")
    if comparison is not None:
        print(comparison)
    print(f"\nreport: {path}")


def run(config: Run) -> None:
    """Run the study of a file, write its folder, print its table.

    **Raises:**

    `UsageError` or `DataError`, before anything is compiled. [`curvopt.StudyError`][] if
    the folder holds another study.
    """
    plan = read_plan(config.file, config.data_dir)
    out = config.out or Path("results") / config.file.stem
    folder = ResultsFolder(out, config.overwrite, resumes=True)
    if config.overwrite or not (out / "study.toml").exists():
        folder.save_text("study.toml", plan.text)
    try:
        data, tuned = _run(plan, folder)
    except curvopt.StudyError as error:
        raise curvopt.StudyError(
            f"{error} (Another folder is chosen with --out, and --overwrite begins anew.)"
        ) from error
    _save(config, plan, data, tuned, folder)
