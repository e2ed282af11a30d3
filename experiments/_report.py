"""What a comparison found: a table, and sentences."""

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr

import curvopt
from curvopt.statistics import bca_interval

from ._markdown import markdown


def _interval(x: np.ndarray, digits: int) -> str:
    if not np.isfinite(x).all():
        return "not finite"
    low, high = bca_interval(x)
    mean = f"{x.mean():.{digits}f}"
    if not np.isfinite(low):
        return f"{mean} (one seed)"
    return f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def second_metric(data: xr.Dataset) -> str:
    """What is reported beside the training loss: the test accuracy where there is one, or
    else the last of the problem's metrics on test data, of all others, of all."""
    evaluated = [str(k) for k, v in data.items() if "evaluation_step" in v.dims]
    others = [name for name in evaluated if name != "train_loss"]
    tested = [name for name in others if name.startswith("test_")]
    return (
        "test_accuracy"
        if "test_accuracy" in tested
        else (tested or others or evaluated)[-1]
    )


def table(data: xr.Dataset) -> str:
    """One row for each strategy, as a Markdown table that reads well as text too."""
    second = second_metric(data)
    header = (
        "strategy",
        "final training loss",
        second.replace("_", " "),
        "gradient-equivalents",
        "seconds",
        "diverged",
    )
    loss = curvopt.final_metric(data, "train_loss")
    beside = curvopt.final_metric(data, second)
    rows: list[tuple[str, ...]] = [header]
    for name in data.strategy.values:
        one = data.sel(strategy=name)
        spent = one.gradient_equivalents.isel(step=-1).mean("seed")
        diverged = one.diverged_at >= 0
        rows.append(
            (
                str(name),
                _interval(loss.sel(strategy=name).values, 4),
                _interval(beside.sel(strategy=name).values, 4),
                f"{float(spent):,.0f}",
                f"{float(one.seconds):.1f}",
                f"{int(diverged.sum())} of {data.sizes['seed']}",
            )
        )
    return markdown(rows)


def compare_with_baselines(
    data: xr.Dataset, metric: str, baseline: str
) -> curvopt.Comparison | None:
    """Every line search against the baseline of its own direction, as one family.

    **Arguments:**

    - `data`: results whose strategies have the coordinates `direction` and
        `line_search`.
    - `metric`: what is compared, at the end of the runs.
    - `baseline`: the label of the line search to compare with.

    **Returns:**

    The comparison; `None` if no strategy has a baseline.
    """
    rules = list(zip(data.direction.values, data.line_search.values))
    names = dict(zip(rules, map(str, data.strategy.values)))
    of = {
        name: names[direction, baseline]
        for (direction, rule), name in names.items()
        if rule != baseline and (direction, baseline) in names
    }
    return curvopt.compare(data, metric, baseline=of) if of else None


def report(
    data: xr.Dataset,
    comparison: curvopt.Comparison | None,
    tuned: Mapping[str, curvopt.Tuning],
    labels: Mapping[str, str],
    command: str,
    tuning_seeds: int,
) -> str:
    """The whole report, in Markdown, with its figures."""
    seeds, steps = data.sizes["seed"], data.sizes["step"]
    second = second_metric(data)
    sections = [
        "# Directions and line searches, compared",
        f"{steps} steps from {seeds} seeds each: a seed gives every strategy the same "
        f"initial parameters and the same batches. Made by\n\n```\n{command}\n```\n\non\n\n"
        f"```\n{data.attrs['problem']}\n```",
        "## Results",
        table(data),
        "Means over seeds, with the 95 % BCa bootstrap interval. A gradient-equivalent is "
        "one value-and-gradient by XLA's count of operations. Seconds are those of all "
        "seeds together, without compilation. A run that diverged counts as its value at "
        "initialisation.",
        "## Which differences hold",
    ]
    if comparison is not None:
        confidence = f"{100 * (1 - comparison.level):g} %"
        sections += [
            f"Final {comparison.label}, paired over {seeds} seeds; a family of "
            f"{len(comparison.pairs)} comparisons. A difference is claimed where the "
            f"{confidence} interval leaves out zero and the sign-flip test, adjusted by "
            f"Holm, is below {comparison.level:g}.",
            "\n".join(f"- {line}" for line in comparison.sentences(markdown=True)),
        ]
    else:
        sections.append("There is no baseline among the strategies to compare with.")
    if tuned:
        sections += [
            "## What the baselines were tuned to",
            "\n".join(
                f"- {labels[name]}: learning rate {t.values['learning_rate']:.4g}, "
                f"{t.family}; tuning took {t.cost:,.0f} gradient-equivalents"
                + (
                    " (**at the edge of the grid**: a wider one may do better)"
                    if t.at_edge
                    else ""
                )
                for name, t in tuned.items()
            ),
            f"The best mean of the final training loss over {tuning_seeds} tuning seeds, "
            "which are not among the reported ones. The rescaled strategies were not "
            "tuned: they are those of `strategies.recipes`.",
            "![Final training loss against the learning rate](figures/tuning.png)",
        ]
    sections += [
        "## Figures",
        "![Loss against steps and gradient-equivalents](figures/loss.png)",
        "![Step size, slope and curvature along the run](figures/line.png)",
        f"![{second} against steps](figures/{second.replace('_', '-')}.png)",
        "## Versions",
        ", ".join(f"{k} {v}" for k, v in json.loads(data.attrs["versions"]).items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"
