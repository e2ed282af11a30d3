"""What a comparison found: a table, and sentences."""

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr

import curvopt
from curvopt.statistics import bca_interval, compare_paired, PairedComparison

from ._tuning import Tuned


def _interval(x: np.ndarray, digits: int) -> str:
    if not np.isfinite(x).all():
        return "not finite"
    low, high = bca_interval(x)
    mean = f"{x.mean():.{digits}f}"
    if not np.isfinite(low):
        return f"{mean} (one seed)"
    return f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def table(data: xr.Dataset) -> str:
    """One row for each strategy, as a Markdown table that reads well as text too."""
    header = (
        "strategy",
        "final training loss",
        "test accuracy",
        "gradient-equivalents",
        "seconds",
        "diverged",
    )
    loss = curvopt.final_metric(data, "train_loss")
    accuracy = curvopt.final_metric(data, "test_accuracy")
    rows: list[tuple[str, ...]] = [header]
    for name in data.strategy.values:
        one = data.sel(strategy=name)
        spent = one.gradient_equivalents.isel(step=-1).mean("seed")
        diverged = ~np.isfinite(one.train_loss.isel(evaluation_step=-1))
        rows.append(
            (
                str(name),
                _interval(loss.sel(strategy=name).values, 4),
                _interval(accuracy.sel(strategy=name).values, 4),
                f"{float(spent):,.0f}",
                f"{float(one.seconds):.1f}",
                f"{int(diverged.sum())} of {data.sizes['seed']}",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    line = lambda cells: "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths)) + " |"
    rule = "| " + " | ".join("-" * w for w in widths) + " |"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def compare_with_baseline(
    data: xr.Dataset, metric: str, baseline: str
) -> dict[str, PairedComparison]:
    """Every line search against the baseline of its own direction, as one family.

    **Arguments:**

    - `data`: results whose strategies have the coordinates `direction` and
        `line_search`.
    - `metric`: what is compared, at the end of the runs.
    - `baseline`: the label of the line search to compare with.
    """
    final = curvopt.final_metric(data, metric)
    pairs = {}
    for name, direction, rule in zip(
        data.strategy.values, data.direction.values, data.line_search.values
    ):
        rival = f"{direction}, {baseline}"
        if rule != baseline and rival in data.strategy.values:
            treatment = final.sel(strategy=name).values
            pairs[str(name)] = (treatment, final.sel(strategy=rival).values)
    return compare_paired(pairs)


def sentence(name: str, baseline: str, c: PairedComparison) -> str:
    """One comparison in plain words."""
    facts = (
        f"difference {c.mean_difference:+.4f}, 95 % interval [{c.low:+.4f}, "
        f"{c.high:+.4f}], adjusted p = {c.p_adjusted:.3f}"
    )
    if c.holds:
        word = "lower" if c.mean_difference < 0 else "higher"
        return (
            f"**{name}** ends at a {word} training loss than {baseline}: the difference "
            f"holds ({facts})."
        )
    if not c.enough_seeds:
        needed = curvopt.statistics.seeds_needed(c.family, c.level)
        return (
            f"**{name}** against {baseline}: nothing can be claimed from {c.seeds} "
            f"seeds; {needed} are needed for {c.family} comparisons ({facts})."
        )
    return f"**{name}** against {baseline}: no difference can be claimed ({facts})."


def report(
    data: xr.Dataset,
    comparisons: Mapping[str, PairedComparison],
    tuned: Mapping[str, Tuned],
    labels: Mapping[str, str],
    baseline: str,
    command: str,
    tuning_seeds: int,
) -> str:
    """The whole report, in Markdown, with its figures."""
    seeds, steps = data.sizes["seed"], data.sizes["step"]
    direction = dict(zip(data.strategy.values, data.direction.values))
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
    if comparisons:
        family = len(comparisons)
        sections += [
            f"Final training loss, paired over {seeds} seeds; a family of {family} "
            "comparisons. A difference is claimed where the 95 % interval leaves out "
            "zero and the sign-flip test, adjusted by Holm, is below 0.05.",
            "\n".join(
                f"- {sentence(name, f'{direction[name]}, {baseline}', c)}"
                for name, c in comparisons.items()
            ),
        ]
    else:
        sections.append("There is no baseline among the strategies to compare with.")
    if tuned:
        sections += [
            "## What the baselines were tuned to",
            "\n".join(
                f"- {labels[name]}: learning rate {t.learning_rate:.4g}, {t.schedule}; "
                f"tuning took {t.cost:,.0f} gradient-equivalents"
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
        "![Test accuracy against steps](figures/accuracy.png)",
        "## Versions",
        ", ".join(f"{k} {v}" for k, v in json.loads(data.attrs["versions"]).items()) + ".",
    ]
    return "\n\n".join(sections) + "\n"
