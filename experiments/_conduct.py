"""From an experiment to its runs on disk."""

from pathlib import Path

import curvopt

from ._experiment import Experiment
from ._folder import ResultsFolder
from ._outline import NAME


# What is in the folder of an experiment.
TUNING, STUDY = "tuning", "study"


def conduct(experiment: Experiment, folder: Path, *, overwrite: bool = False) -> None:
    """Tune what is to be tuned, then run the study; what is in the folder already is not
    run again.

    **Arguments:**

    - `experiment`: what is asked.
    - `folder`: where runs are saved.
    - `overwrite`: delete the studies that are there first, and nothing else.

    **Raises:**

    `UsageError` if the folder cannot be written to. [`curvopt.StudyError`][] if it holds
    another study.
    """
    outline = experiment.asked()
    ResultsFolder(folder)
    if overwrite:
        for part in (TUNING, STUDY):
            curvopt.delete_study(folder / part)
    # That of another experiment stays until this one was found to go on with its runs.
    if overwrite or not (folder / NAME).exists():
        outline.save(folder)
    found = {}
    try:
        for study in experiment.tunings:
            runs = study.run(folder / TUNING, execution=experiment.execution)
            for name, asked in outline.tuned.items():
                if asked.grids.keys() <= study.strategies.keys():
                    best = curvopt.best_point(
                        runs,
                        outline.metric,
                        list(asked.grids),
                        lower_is_better=outline.lower_is_better,
                    )
                    found[name] = experiment.found(name, best)
        experiment.study(found).run(folder / STUDY, execution=experiment.execution)
    except curvopt.StudyError as error:
        raise curvopt.StudyError(
            f"{error} (On the command line, --out chooses another folder, and --overwrite "
            "deletes the studies in this one.)"
        ) from error
    outline.save(folder)
