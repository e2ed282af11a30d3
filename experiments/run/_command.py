"""The command: from a file to a folder of results."""

import dataclasses
from pathlib import Path

import tyro

from .._folder import ResultsFolder
from .._results import load_results
from ..report import publish
from ._experiment import experiment_of
from ._file import read_study


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a study that is described in a file.

    The file is TOML: its problem, strategies, seeds and steps; see
    experiments/run/example.toml. Everything in it is checked before anything is compiled.
    Writes the runs, results.nc, figures, report.md and report.html, and prints the table.
    """

    file: tyro.conf.Positional[Path]
    """The study, a TOML file."""

    out: Path | None = None
    """The folder to write to; default: results/ and the file's name. Interrupted or
    killed, the same command resumes and ends with the same numbers. With more seeds, values
    or strategies, only the missing runs are made."""

    data_dir: Path | None = None
    """The folder with data sets that are not included (default: the variable CURVOPT_DATA);
    without one, MNIST and Fashion-MNIST are downloaded once."""

    overwrite: bool = False
    """Delete the runs in the folder and start again."""


def run(config: Run) -> None:
    """Run the study of a file, write its folder, print its table.

    **Raises:**

    `ValueError` or `DataError`, before anything is compiled. [`curvopt.StudyError`][] if
    the folder holds another study.
    """
    study, text = read_study(config.file)
    experiment = experiment_of(study, text, config.file.stem, config.data_dir)
    out = config.out or Path("results") / config.file.stem
    experiment.run(out, overwrite=config.overwrite)
    publish(load_results(out), ResultsFolder(out))
