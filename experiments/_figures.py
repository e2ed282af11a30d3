"""The figures of a report."""

import hashlib
import re

from curvopt import plots

from ._folder import ResultsFolder
from ._results import along, best_points, hyperparameters_of, metrics_of, Results
from ._table import words


def _slug(name: str) -> str:
    """A name as part of a file's name; different names give different slugs."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40]
    if re.fullmatch(r"[a-z0-9_]{1,40}", name):
        return readable
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _second(results: Results) -> str | None:
    """The second metric to draw: the test accuracy if there is one, else the last other
    metric, preferably on test data."""
    others = [m for m in metrics_of(results.data) if m != results.outline.metric]
    tested = [m for m in others if m.startswith("test_")]
    return (
        "test_accuracy" if "test_accuracy" in tested else (tested or others or [None])[-1]
    )


def save_figures(results: Results, folder: ResultsFolder) -> dict[str, str]:
    """Draw and save the figures of results; returns their captions by name."""
    metric, lower = results.outline.metric, results.outline.lower_is_better
    final = f"final {words(results, metric)}"
    at = ", each strategy at its best point" if results.points else ""
    found: dict[str, str] = {}

    def save(name: str, figure, shows: str) -> None:
        folder.save_figure(name, figure)
        found[name] = f"{shows[:1].upper()}{shows[1:]}"

    knobs = hyperparameters_of(results.data)
    for knob in knobs:
        grid = along(results.data, results.points, knob)
        if grid is not None:
            others = ", the others at their best values" if len(knobs) > 1 else ""
            figure = plots.sensitivity(grid, metric, lower_is_better=lower)
            shows = f"{final} against {words(results, knob)}{others}"
            save(f"sensitivity-{_slug(knob)}", figure, shows)
    best = results.best
    save(
        "loss",
        plots.learning_curves(best),
        f"loss against steps, gradient-equivalents and seconds{at}",
    )
    for name in filter(None, (metric, _second(results))):
        figure = plots.metric_curves(best, name)
        save(f"metric-{_slug(name)}", figure, f"{words(results, name)} against steps{at}")
    save(
        "line", plots.line_traces(best), f"step size, slope and curvature along the run{at}"
    )
    panels = {
        name: grid
        for name, runs in results.tuning.items()
        for knob in hyperparameters_of(runs)
        if (grid := along(runs, best_points(runs, results.outline), knob)) is not None
    }
    if panels:
        figure = plots.sensitivity(panels, metric, lower_is_better=lower)
        save("tuning", figure, f"tuning: {final} of all candidates")
    return found
