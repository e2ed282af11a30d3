"""How long the programs of studies take to compile."""

import time

import jax.numpy as jnp

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
from ._bench import Bench, first_line, left_out, Rows


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


def compilation(bench: Bench) -> Rows:
    """A study of each strategy on its own: nothing else compiles beside it."""
    problem = MLPClassifier(load_subset(), evaluated=1000)
    jnp.zeros(()).block_until_ready()
    for name, solver in _strategies().items():
        if bench.late:
            yield {"strategy": name, "failure": left_out()}
            continue
        try:
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
        except Exception as error:
            yield {"strategy": name, "failure": first_line(error)}
