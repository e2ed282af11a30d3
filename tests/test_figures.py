"""The numbers of the README and of the guides are those of `paper/results`."""

import functools
import json
import re
from pathlib import Path

import pytest

from experiments.research import QUESTIONS


ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "paper" / "results"

pytestmark = pytest.mark.host


def text(name):
    return " ".join((ROOT / name).read_text("utf-8").split())


@functools.cache
def findings(question):
    return QUESTIONS[question].findings(RESULTS)


def plain(latex):
    """A number as the paper has it, without LaTeX."""
    return latex.replace("\\,\\%", " %").replace("\\,", ",")


def rows(question, table):
    """The cells of a table, by the first one."""
    lines = findings(question).tables[table].split("\\\\")
    cells = [[cell.split("\n")[-1].strip() for cell in line.split("&")] for line in lines]
    return {first: rest for first, *rest in cells}


def row(*cells):
    """A row of a table in Markdown, as `text` has it."""
    return " ".join(f"| {' | '.join(cells)} |".split())


FINDINGS = "curvopt/guides/findings.md"

COST = (
    "cost as much as {CostFlopsAdjointLeast} to {CostFlopsAdjointMost} gradients by XLA's "
    "FLOPs on {CostWorkloads} workloads, with a median of {CostFlopsAdjointMedian}"
)
CHEAP = "reduces the cost of a step to {CheapeningBestCost} gradients"
DIRECTIONS = ("SGD", "Momentum", "RMSProp", "Adam")
KINDS = (
    "hindsight",
    "tuned cosine",
    "hindsight, no horizon, averaged",
    "tuned constant",
    "hindsight, no horizon",
    "rescaled",
)

# By question: texts, and sentences with the names of the paper's numbers.
CLAIMS = {
    "cost": [("README.md", COST), (FINDINGS, COST)],
    "scale": [
        (FINDINGS, "Over {ScaleSettings} settings"),
        *(
            (
                FINDINGS,
                f"| {u} | {{ScaleRescaledCommonMean{u}}} | {{ScaleRescaledCommonWorst{u}}} "
                f"| {{ScaleRawCommonMean{u}}} | {{ScaleRawCommonWorst{u}}} |",
            )
            for u in DIRECTIONS
        ),
        (
            FINDINGS,
            "{ScaleRescaledCommonMeanSGDConstant} against {ScaleRawCommonMeanSGDConstant}",
        ),
    ],
    "rivals": [
        (
            "README.md",
            "with {RivalsSeeds} seeds, these lose {RivalsMeanAdamLayerwise}, "
            "{RivalsMeanAdamLayerwiseNoHorizonAveraged}, {RivalsMeanAdamHindsight}, "
            "{RivalsMeanAdamHindsightNoHorizonAveraged}, {RivalsMeanAdamTunedCosine}, "
            "{RivalsMeanAdamwOneRate} and {RivalsMeanProdigy}. A step costs "
            "{RivalsSpentAdamLayerwise} gradients",
        ),
        (
            "strategies/recipes.py",
            "a step costs {RivalsSpentAdamLayerwise} gradients in the median of five",
        ),
        (
            FINDINGS,
            "a step size for each layer, from a sixteenth of the batch, Adam loses "
            "{RivalsLostAdamLayerwise} ({RivalsMeanAdamLayerwise}), or "
            "{RivalsLostAdamLayerwiseNoHorizonAveraged} "
            "({RivalsMeanAdamLayerwiseNoHorizonAveraged}) without the number of steps, at "
            "{RivalsSpentAdamLayerwise} gradients a step",
        ),
        (FINDINGS, "{RivalsSeeds} seeds each"),
        (
            FINDINGS,
            "better in {RivalsCosineBetter}, worse in {RivalsCosineWorse}, undecided in "
            "{RivalsCosineUndecided}; without knowing the number of steps, averaged, "
            "against the tuned constant rate, better in {RivalsConstantBetter}, worse in "
            "{RivalsConstantWorse}, undecided in {RivalsConstantUndecided}",
        ),
    ],
    "heldout": [
        (
            "README.md",
            "On {HeldoutSettings} problems on which it was not made it loses "
            "{HeldoutLostLayerwise} and {HeldoutLostLayerwiseAveraged} of the best "
            "decrease in the mean, and {HeldoutLostAdam} and {HeldoutLostAdamAveraged} "
            "with one step size for all layers (`recipes.hindsight`); Adam with a cosine "
            "tuned for each problem loses {HeldoutLostTuned}, AdamW with one rate for all "
            "{HeldoutLostOneRate}, and Prodigy {HeldoutLostProdigy}",
        ),
        (
            "strategies/recipes.py",
            "loses {HeldoutLostAdam} of the best decrease of the loss in the mean, or "
            "{HeldoutLostAdamAveraged} without the number of steps; Adam with a cosine "
            "tuned for each of them {HeldoutLostTuned}, and Prodigy {HeldoutLostProdigy}",
        ),
        (
            "strategies/recipes.py",
            "Adam loses {HeldoutLostLayerwise} of the best decrease of the loss in the "
            "mean, or {HeldoutLostLayerwiseAveraged} without the number of steps",
        ),
    ],
    "layers": [
        (
            FINDINGS,
            "{LayersCrossMost} of all terms, {LayersCrossLeast} on the GRU",
        ),
        (
            FINDINGS,
            "differ by factors of {LayersSpreadLeast} to {LayersSpreadMost}",
        ),
    ],
    "distance": [
        (FINDINGS, "gets {DistanceReach} times as far as a random walk"),
        (
            FINDINGS,
            "loses {DistanceDistanceLost} of the best decrease in the mean, the same "
            "recipe by curvature {DistanceCurvatureLost}",
        ),
        (
            FINDINGS,
            "twice the constant loses {DistanceTwiceDistance} more, where twice ℓ loses "
            "{DistanceTwiceCurvature}. Their geometric mean loses "
            "{DistanceGeometricMeanLost}",
        ),
    ],
    "radial": [(FINDINGS, "do not end significantly lower ({RadialSeeds} seeds)")],
    "guards": [(FINDINGS, "better in {GuardsLimitedGrowthGaussNewtonBetter} of 10 cases")],
    "cheapening": [(FINDINGS, CHEAP), ("curvopt/guides/curvature.md", CHEAP)],
    "noiseless": [
        (FINDINGS, "reaches the target for {NoiselessBareReached} of {NoiselessCases}"),
        (
            FINDINGS,
            "at {NoiselessRelaxedRatio} times the cost of ℓ = 0.9 and "
            "{NoiselessArmijoRatio} times that of Armijo's",
        ),
    ],
}


@pytest.mark.parametrize("question", CLAIMS)
@pytest.mark.slow
def test_sentences_have_the_numbers_of_the_results(question):
    numbers = {k: plain(x) for k, x in findings(question).numbers.items()}
    for name, claim in CLAIMS[question]:
        assert claim.format(**numbers) in text(name)


@pytest.mark.slow
def test_the_tables_of_the_rivals():
    found = rows("rivals", "rivals-overview")

    def lost(name):
        share, _, mean, *_ = found[name]
        return f"{share} % ({mean})"

    for u in DIRECTIONS:
        cells = [lost(f"{u}, {x}") if f"{u}, {x}" in found else "" for x in KINDS]
        assert row(u, *cells) in text(FINDINGS)
    called = {
        "schedule-free": "schedule-free AdamW",
        "DoG, averaged": "averaged DoG",
        "AdamW, one rate": "AdamW with one rate for all problems",
        "Momentum, hindsight, a sixteenth": "and it loses",
    }
    untuned = ("Prodigy", "D-Adaptation", "MoMo-Adam", "Mechanic", "SPS", "SLS", "CDAT")
    for name in (*untuned, *called):
        assert f"{called.get(name, name)} {lost(name)}" in text(FINDINGS)


@pytest.mark.slow
def test_the_table_of_what_was_held_out():
    found = {k: v for k, v in rows("heldout", "heldout").items() if k and len(v) == 10}
    assert len(found) == int(findings("heldout").numbers["HeldoutSettings"]) + 1
    for first, cells in found.items():
        bold = [re.sub(r"\\textbf{(.*)}", r"**\1**", plain(cell)) for cell in cells]
        assert row(first, *bold) in text(FINDINGS)


def measured(run, file):
    return json.loads((RESULTS / "accelerator" / run / f"{file}.json").read_text("utf-8"))


def test_the_figures_of_the_gpu():
    guide = text("curvopt/guides/accelerators.md")

    def time(run, model, method):
        (row,) = (
            row
            for row in measured(run, "cost")
            if (row["model"], row["precision"], row["method"]) == (model, "default", method)
        )
        return f"{row['time']:.2f}"

    methods = ("adjoint", "adjoint-two", "adjoint-bfloat16", "nested-jvp", "jvp-grad")
    times = [time("h200-autotuned", "large-mlp", method) for method in methods]
    times += [
        time("h200-untuned", model, "adjoint-two-bfloat16")
        for model in ("large-mlp", "transformer")
    ]
    assert f"| {' | '.join(times)} |" in guide

    def worst(method, precision):
        rows = [
            row["relative_error"]
            for row in measured("h200-untuned", "correctness")
            if (row.get("method"), row.get("precision")) == (method, precision)
        ]
        return re.sub("e-0*", "e-", f"{max(rows):.1e}")

    errors = [
        f"at most {worst('adjoint', 'default')} (TF32",
        f"{worst('adjoint', 'highest')} (float32)",
        f"{worst('adjoint-two-bfloat16', 'highest')} (two products in bfloat16",
    ]
    assert all(error in guide for error in errors), errors
    ways: dict[str, list[float]] = {}
    for row in measured("h200-untuned", "throughput"):
        ways.setdefault(row["way"], []).append(row["over_loop"])
    speed = [f"{x:.0f}" for x in sorted(ways["study"])]
    assert f"go {' to '.join(speed)} times as fast as a scan for each run" in guide
