"""The figures of a study."""

from collections.abc import Mapping

import xarray as xr

import curvopt
from curvopt import plots

from .._results import ResultsFolder
from ._best import along, Points
from ._file import StudyFile
from ._table import label
from ._tuning import RATE, slug


def _is_grid(data: xr.Dataset, name: str) -> bool:
    """Whether there is something to draw against the values: several, on a logarithmic
    axis."""
    return data.sizes[name] > 1 and bool((data[name] > 0).all())


def save_figures(
    folder: ResultsFolder,
    study: StudyFile,
    data: xr.Dataset,
    best: xr.Dataset,
    points: Points,
    tuned: Mapping[str, curvopt.Tuning],
) -> dict[str, str]:
    """Draw and save what a study has to show; by name, what each figure shows.

    **Arguments:**

    - `folder`: where to.
    - `study`: the file.
    - `data`: the study.
    - `best`: the study with each strategy at its best point, or `data` itself.
    - `points`: where that is; empty without hyper-parameters.
    - `tuned`: what was tuned.
    """
    metric, lower = study.metric, study.lower_is_better
    words = label(data, metric)
    at = ", each strategy at its best point" if points else ""
    found = {}
    for name in study.hyperparameters:
        if _is_grid(data, name):
            figure = plots.sensitivity(
                along(data, points, name), metric, lower_is_better=lower
            )
            folder.save_figure(f"sensitivity-{name}", figure)
            others = ", at the best of the others" if len(study.hyperparameters) > 1 else ""
            found[f"sensitivity-{name}"] = (
                f"Final {words} against {name.replace('_', ' ')}{others}"
            )
    folder.save_figure("loss", plots.learning_curves(best))
    found["loss"] = f"Loss against steps, gradient-equivalents and seconds{at}"
    folder.save_figure("metric", plots.metric_curves(best, metric))
    found["metric"] = f"{words[:1].upper()}{words[1:]} against steps{at}"
    folder.save_figure("line", plots.line_traces(best))
    found["line"] = f"Step size, slope and curvature along the run{at}"
    for name, tuning in tuned.items():
        if _is_grid(tuning.runs, RATE):
            figure = plots.sensitivity(tuning.runs, metric, lower_is_better=lower)
            folder.save_figure(f"tuning-{slug(name)}", figure)
            found[f"tuning-{slug(name)}"] = (
                f"Tuning of {name}: final {words} against the learning rate"
            )
    return found
