"""The compilation time of a study's programs."""

import time
from functools import partial

import curvopt
from strategies import (
    Adam,
    Backtracking,
    CurvatureRescaling,
    LBFGS,
    LearningRate,
    Momentum,
    recipes,
    SGD,
)

from ..data import load_subset
from ..problems import MLPClassifier
from ._bench import attempted, Bench, Rows


_STEPS = 100


def _strategies() -> dict[str, curvopt.LineSearchMinimiser]:
    rescaled = CurvatureRescaling(average=0.9)
    return {
        "SGD, learning rate": curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1)),
        "SGD, rescaled": curvopt.LineSearchMinimiser(SGD(), rescaled),
        "Adam, learning rate": curvopt.LineSearchMinimiser(Adam(), LearningRate(1e-3)),
        "Adam, recipe": recipes.rescaled(Adam(), steps=_STEPS),
        "momentum, recipe": recipes.rescaled(Momentum(), steps=_STEPS),
        "LBFGS, backtracking": curvopt.LineSearchMinimiser(LBFGS(), Backtracking(rescaled)),
    }


def _of_strategy(
    bench: Bench,
    problem: curvopt.AbstractProblem,
    name: str,
    solver: curvopt.LineSearchMinimiser,
) -> Rows:
    began = time.perf_counter()
    data = curvopt.run_study(
        problem,
        {name: solver},
        seeds=2,
        steps=2 if bench.quick else _STEPS,
        evaluations=1,
        progress=False,
    )
    yield {
        "strategy": name,
        "compile_seconds": float(data.compile_seconds.item()),
        "steps_seconds": float(data.seconds.item()),
        "all_seconds": time.perf_counter() - began,
    }


def compilation(bench: Bench) -> Rows:
    """A study of each strategy by itself, while nothing else compiles."""
    # Evaluation is not timed: a few images suffice.
    problem = MLPClassifier(load_subset(), evaluated=8 if bench.quick else 1000)
    strategies = list(_strategies().items())
    for name, solver in strategies[: 1 if bench.quick else None]:
        measure = partial(_of_strategy, bench, problem, name, solver)
        yield from attempted({"strategy": name}, bench, measure)
