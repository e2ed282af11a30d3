"""The command that runs a study from a file."""

import dataclasses
from pathlib import Path

import tyro

from .._compilation import keep_programs
from .._folder import ResultsFolder
from .._results import load_results
from ..report import publish
from ._experiment import experiment_of
from ._file import read_study


@dataclasses.dataclass(frozen=True)
class Run:
    """Run a study from a TOML file.

    The file names the problem, strategies, seeds and steps; see
    experiments/run/example.toml. It is checked before anything is compiled. Writes the
    runs, results.nc, figures, report.md and report.html, and prints the table.
    """

    file: tyro.conf.Positional[Path]
    """The study, a TOML file."""

    out: Path | None = None
    """The output folder (default: results/ and the file's name). Interrupted or killed, the
    same command resumes and gives the same numbers. With more seeds, values or strategies
    it makes only the missing runs."""

    data_dir: Path | None = None
    """The folder with data sets that are not included (default: the environment variable
    CURVOPT_DATA). Without one, MNIST and Fashion-MNIST are downloaded once."""

    overwrite: bool = False
    """Delete the runs in the output folder and start again."""

    cache: bool = True
    """Keep compiled programs in the user's cache folder, and take them from there."""


def run(config: Run) -> None:
    """Run the study of a file, write the report and print the table.

    **Raises:**

    `ValueError` or `DataError`, before anything is compiled. [`curvopt.StudyError`][] if
    the folder holds another study.
    """
    keep_programs(config.cache)
    study, text = read_study(config.file)
    experiment = experiment_of(study, text, config.file.stem, config.data_dir)
    out = config.out or Path("results") / config.file.stem
    experiment.run(out, overwrite=config.overwrite)
    publish(load_results(out), ResultsFolder(out))
