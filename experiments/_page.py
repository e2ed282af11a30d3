"""The report of an experiment in Markdown."""

import json
from collections.abc import Mapping

import curvopt

from ._formatting import fenced, in_markdown
from ._results import Results
from ._table import FORMATS, words


_EDGE = "**at the edge of the grid**: a wider one may do better"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _comparison(comparison: curvopt.Comparison) -> list[str]:
    confidence = f"{100 * (1 - comparison.level):g} %"
    return [
        "## Which differences hold",
        f"Final {in_markdown(comparison.label)}, paired over "
        f"{_counted(comparison.seeds, 'seed')}, in a family of "
        f"{_counted(len(comparison.pairs), 'comparison')}. A difference is claimed if its "
        f"{confidence} interval excludes zero and its sign-flip test has a Holm-adjusted p "
        f"below {comparison.level:g}.",
        "\n".join(f"- {line}" for line in comparison.sentences(markdown=True)),
    ]


def _values(point: curvopt.BestPoint) -> str:
    named = (f"{k.replace('_', ' ')} {x:.4g}" for k, x in point.values.items())
    return in_markdown(", ".join(named))


def _edge(point: curvopt.BestPoint) -> str:
    knobs = ", ".join(k.replace("_", " ") for k in point.at_edge)
    return f" ({in_markdown(knobs)} {_EDGE})" if knobs else ""


def _points(results: Results) -> list[str]:
    lines = [
        f"- **{in_markdown(name)}**: {_values(point)}{_edge(point)}"
        for name, point in results.points.items()
    ]
    metric = in_markdown(words(results, results.outline.metric))
    return [
        "## The best hyper-parameters",
        "\n".join(lines),
        f"These points have the best mean of the final {metric}. **They were chosen on the "
        "reported seeds**: the table and the figures at these points flatter every "
        "strategy, and the more so the more points it has. For a fair comparison, run "
        "these points on other seeds, or tune on separate seeds.",
    ]


def _tuned(results: Results) -> list[str]:
    lines = [
        f"- **{in_markdown(name)}**: {_values(t)}, {in_markdown(t.strategy)}; from "
        f"{_counted(results.tuning[name].sizes['seed'], 'seed')}; tuning took "
        f"{t.cost:,.0f} gradient-equivalents{_edge(t)}"
        for name, t in results.tuned.items()
    ]
    metric = in_markdown(words(results, results.outline.metric))
    return [
        "## Tuning",
        "\n".join(lines),
        f"These points have the best mean of the final {metric} over the tuning seeds, "
        "none of which is reported. No other strategy was tuned.",
    ]


def page(results: Results, figures: Mapping[str, str]) -> str:
    """The whole report.

    **Arguments:**

    - `results`: the results to report.
    - `figures`: the caption of each figure, by name.
    """
    outline, data = results.outline, results.data
    made = ["**Command**", fenced(outline.command)] if outline.command else []
    shared = "; a best point has an equal share of the seconds of its grid"
    seeds, steps = data.sizes["seed"], data.sizes["step"]
    sections = [
        f"# {in_markdown(outline.title)}",
        f"{_counted(steps, 'step')} from {_counted(seeds, 'seed')}. A seed gives every "
        "strategy the same initial parameters and the same batches.",
        *made,
        "**Problem**",
        fenced(data.attrs["problem"]),
        "## Results",
        FORMATS["markdown"](results),
        "Means over seeds, with the 95 % BCa bootstrap interval where there are enough "
        "seeds. A gradient-equivalent is the cost of one value-and-gradient in XLA's "
        "FLOPs. Seconds are for all seeds of a strategy together, without "
        f"compilation{shared if results.points else ''}. A diverged run counts with its "
        "value at the start.",
    ]
    if results.points:
        sections += _points(results)
    if results.comparison is not None:
        sections += _comparison(results.comparison)
    if results.tuned:
        sections += _tuned(results)
    sections += [
        "## Figures",
        *(
            f"![{in_markdown(shows)}](figures/{name}.png)"
            for name, shows in figures.items()
        ),
        "## Strategies",
        "\n\n".join(
            f"**{in_markdown(name)}**\n\n{fenced(text)}"
            for name, text in json.loads(data.attrs["strategies"]).items()
            if name in data.strategy.values
        ),
    ]
    if outline.text:
        sections += ["## The study", fenced(outline.text, "toml")]
    # The command stands above, and the runs record the versions that made them.
    facts = {k: outline.origin[k] for k in ("date", "commit") if k in outline.origin}
    facts |= json.loads(data.attrs["versions"])
    facts |= json.loads(outline.origin.get("hardware", "{}"))
    sections += [
        "## Versions and hardware",
        ", ".join(f"{k} {in_markdown(v)}" for k, v in facts.items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"
