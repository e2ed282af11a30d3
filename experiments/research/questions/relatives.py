"""Relatives: forward gradients without a backward sweep, INNAprop, planes of directions."""

from collections.abc import Mapping

import xarray as xr

import curvopt
from strategies import (
    Backtracking,
    CurvatureRescaling,
    ForwardGradient,
    GrowthLimited,
    HyperplaneSearch,
    INNAprop,
    LastStep,
    LearningRate,
    Momentum,
    recipes,
    Scheduled,
    SGD,
)

from .._bench import Bench
from .._claims import claims, claims_table, counted
from .._courses import courses
from .._families import COSINE
from .._question import Findings, Question
from .._reported import reported, WINDOWS
from .._standings import names, standing


# A step costs more than ten times as much as the others': in the figure these would shrink
# to a line, and on the settings with the slowest gradients it would take hours.
_MANY = "FoMoH, 8 directions, cosine"
_MANY_ASKED_OF = ("logistic", "mlp", "autoencoder")


def _relatives(bench: Bench) -> dict[str, curvopt.LineSearchMinimiser]:
    cosine = bench.schedule(COSINE)
    assert cosine is not None
    forward = curvopt.ForwardCurvature()
    unit = Scheduled(LearningRate(1.0), cosine)
    compose = curvopt.LineSearchMinimiser
    plane = lambda *directions: HyperplaneSearch(directions)
    # Along a direction with memory, one half and long averages suit most problems, by the
    # question of memory.
    rescaled = GrowthLimited(CurvatureRescaling(0.5, cosine, average=0.99))
    recipe = recipes.rescaled(SGD(), steps=bench.steps)
    relatives = {
        "SGD, rescaled": recipe,
        "FoMoH, one direction": compose(
            ForwardGradient(), CurvatureRescaling(0.5), curvature=forward
        ),
        "FoMoH, cosine": compose(
            ForwardGradient(), CurvatureRescaling(0.5, cosine), curvature=forward
        ),
        "FoMoH, the recipe": compose(
            ForwardGradient(), recipe.line_search, curvature=forward
        ),
        _MANY: compose(plane(*[ForwardGradient()] * 8), unit, curvature=forward),
        "INNAprop": compose(INNAprop(schedule=cosine), LearningRate(1.0)),
        "INNAprop, rescaled": compose(INNAprop(), rescaled),
        "plane of gradient and last step": compose(plane(SGD(), LastStep()), unit),
        "plane of gradient and momentum": compose(plane(SGD(), Momentum()), unit),
        "plane with momentum, backtracking": compose(
            plane(SGD(), Momentum()), Backtracking(unit)
        ),
    }
    if bench.name not in _MANY_ASKED_OF:
        del relatives[_MANY]
    return relatives


def ask(bench: Bench) -> xr.Dataset:
    """Run the relatives and the recipe on the reported seeds."""
    return reported(bench, _relatives(bench))


_BASELINE = "SGD, rescaled"

# The coloured strategies in the figure; the others are grey.
_SHOWN = (
    _BASELINE,
    "FoMoH, cosine",
    "FoMoH, the recipe",
    "INNAprop",
    "INNAprop, rescaled",
    "plane of gradient and last step",
    "plane of gradient and momentum",
    "plane with momentum, backtracking",
)


def conclude(results: Mapping[str, xr.Dataset]) -> Findings:
    """The standings by setting, each relative against SGD's recipe, and the learning curves
    over the cost."""
    run = dict.fromkeys(name for data in results.values() for name in names(data))
    pairs = {name: (name, _BASELINE) for name in run if name != _BASELINE}
    found = {name: claims(data, list(pairs.values())) for name, data in results.items()}
    groups = {"against the recipe of SGD": pairs}
    numbers = counted(found, list(pairs.values()), "Relatives") | {
        "RelativesSeeds": str(next(iter(results.values())).sizes["seed"]),
        "RelativesSettings": ",".join(results),
        "RelativesFamily": str(max(map(len, found.values()))),
        "RelativesWindows": str(WINDOWS),
    }
    drawn = {
        name: data.drop_sel(strategy=_MANY, errors="ignore")
        for name, data in results.items()
    }
    return Findings(
        figures={"relatives-courses": courses(drawn, _SHOWN, "gradient-equivalents")},
        numbers=numbers,
        tables={
            "relatives-claims": claims_table(results, found, groups),
            **{f"relatives-{name}": standing(data) for name, data in results.items()},
        },
    )


RELATIVES = Question("relatives", "The relatives", ask, conclude)
