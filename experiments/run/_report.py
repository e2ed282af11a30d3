"""The report of a study."""

import json
from collections.abc import Mapping

import xarray as xr

import curvopt

from ._best import edges, Points
from ._file import StudyFile
from ._table import label, table


_EDGE = "**at the edge of the grid**: a wider one may do better"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _comparison(comparison: curvopt.Comparison) -> list[str]:
    confidence = f"{100 * (1 - comparison.level):g} %"
    return [
        "## Which differences hold",
        f"Final {comparison.label}, paired over {_counted(comparison.seeds, 'seed')}; a "
        f"family of {_counted(len(comparison.pairs), 'comparison')}. A difference is "
        f"claimed where the {confidence} interval leaves out zero and the sign-flip test, "
        f"adjusted by Holm, is below {comparison.level:g}.",
        "\n".join(f"- {line}" for line in comparison.sentences(markdown=True)),
    ]


def _values(point: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {x:.4g}" for name, x in point.items())


def _points(data: xr.Dataset, points: Points, metric: str) -> list[str]:
    lines = []
    for name, point in points.items():
        if not point:
            continue
        at_edge = [knob.replace("_", " ") for knob in edges(data, point)]
        note = f" ({', '.join(at_edge)} {_EDGE})" if at_edge else ""
        lines.append(f"- **{name}**: {_values(point)}{note}")
    return [
        "## The best hyper-parameters",
        "\n".join(lines),
        f"The best mean of the final {label(data, metric)}. **They were chosen on the "
        "seeds that are reported**: the table and the figures at these points flatter "
        "every strategy, and the more so the more points it has. For a fair comparison run "
        "them from other seeds, or as `[tuning]`.",
    ]


def _tuned(study: StudyFile, tuned: Mapping[str, curvopt.Tuning]) -> list[str]:
    lines = []
    for name, t in tuned.items():
        note = f" ({_EDGE})" if t.at_edge else ""
        lines.append(
            f"- **{name}**: {_values(t.values)}, {t.family}; from "
            f"{_counted(t.runs.sizes['seed'], 'seed')}; tuning took {t.cost:,.0f} "
            f"gradient-equivalents{note}"
        )
    metric = label(next(iter(tuned.values())).runs, study.metric)
    return [
        "## What was tuned",
        "\n".join(lines),
        f"The best mean of the final {metric} over the tuning seeds, which are not among "
        "the reported ones.",
    ]


def report(
    title: str,
    study: StudyFile,
    text: str,
    data: xr.Dataset,
    best: xr.Dataset,
    points: Points,
    comparison: curvopt.Comparison | None,
    tuned: Mapping[str, curvopt.Tuning],
    figures: Mapping[str, str],
) -> str:
    """The whole report, in Markdown.

    **Arguments:**

    - `title`: its heading.
    - `study`, `text`: the file, as it was read and as it stands.
    - `data`: the study.
    - `best`: the study with each strategy at its best point, or `data` itself.
    - `points`: where that is, the hyper-parameters that each uses; empty without any.
    - `comparison`: with the baselines, if there are any.
    - `tuned`: what was tuned.
    - `figures`: what they show, by name.
    """
    runs = _counted(data.sizes["seed"], "seed")
    sections = [
        f"# {title}",
        f"{_counted(study.steps, 'step')} from {runs}: a seed gives every strategy the "
        "same initial parameters and the same batches. Made by\n\n"
        f"```\n{data.attrs['command']}\n```\n\non\n\n```\n{data.attrs['problem']}\n```",
        "## Results",
        table(best, study.metric),
        "Means over seeds, with the 95 % BCa bootstrap interval where there are seeds "
        "enough. A gradient-equivalent is one value-and-gradient by XLA's count of "
        "operations. Seconds are those of all runs of a strategy together, without "
        "compilation. A run that diverged counts as its value at the start.",
    ]
    if points:
        sections += _points(data, points, study.metric)
    if comparison is not None:
        sections += _comparison(comparison)
    if tuned:
        sections += _tuned(study, tuned)
    versions = json.loads(data.attrs["versions"])
    sections += [
        "## Figures",
        *(f"![{caption}](figures/{name}.png)" for name, caption in figures.items()),
        "## The study",
        f"```toml\n{text.rstrip()}\n```",
        "## Versions",
        ", ".join(f"{k} {v}" for k, v in versions.items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"
