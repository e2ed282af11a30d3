"""Steps per second over all lanes, of a study and of hand-written loops."""

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np

import curvopt

from .._formatting import first_line
from .._ways import (
    FAMILIES,
    interleaved_ways,
    LOOPS,
    optax_loops,
    Runs,
    strategy_loops,
    study,
    Way,
)
from ..data import load_subset
from ..problems import Autoencoder, LeNetClassifier, MLPClassifier
from ._bench import attempted, Bench, left_out, Row, Rows


# Evaluation is not timed: a few images suffice.
_EVALUATED = 1000

# Problems and steps; a step of 288 convolutional networks at once takes longer.
_PROBLEMS: dict[str, tuple[Callable[[], curvopt.AbstractProblem], int]] = {
    "fashion-subset-mlp": (
        lambda: MLPClassifier(load_subset(), evaluated=_EVALUATED),
        200,
    ),
    "fashion-subset-autoencoder": (
        lambda: Autoencoder(load_subset(), evaluated=_EVALUATED),
        200,
    ),
    "fashion-subset-lenet": (
        lambda: LeNetClassifier(load_subset(), evaluated=_EVALUATED, tested=_EVALUATED),
        20,
    ),
}

_QUICK_PROBLEMS: dict[str, tuple[Callable[[], curvopt.AbstractProblem], int]] = {
    "a small MLP": (lambda: MLPClassifier(load_subset(), width=8, depth=1, evaluated=8), 3)
}

_FULL = Runs(seeds=32, rates=9, steps=1, looped=3)
_QUICK = Runs(seeds=2, rates=2, steps=1, looped=1)


def _ways(runs: Runs, problem: curvopt.AbstractProblem) -> dict[str, Way]:
    """All ways, by strategy and name."""
    ways: dict[str, Way] = {}
    for strategy, family in FAMILIES.items():

        def of_study(family=family) -> float:
            return study(runs, problem, family, curvopt.Execution())[0]

        ways[f"{strategy}: study"] = of_study
        loops = optax_loops(runs, problem) if "Adam" in strategy else None
        loops = loops or strategy_loops(runs, problem, family)
        ways |= {f"{strategy}: {name}": way for name, way in loops.items()}
    return ways


def _of_problem(
    bench: Bench, name: str, make: Callable[[], curvopt.AbstractProblem], steps: int
) -> Rows:
    runs = dataclasses.replace(_QUICK if bench.quick else _FULL, steps=steps)
    ways = _ways(runs, make())
    # The first call compiles, all ways in parallel.
    begun = {key: bench.pool.submit(way) for key, way in ways.items()}
    failures: dict[str, str] = {}
    for key, future in begun.items():
        try:
            future.result(timeout=bench.seconds_left)
        except TimeoutError:
            future.cancel()
            failures[key] = left_out("it was not compiled in time")
        except Exception as error:
            failures[key] = first_line(error)
    working = {key: way for key, way in ways.items() if key not in failures}
    repeats = 1 if bench.quick else 3
    times = interleaved_ways(working, repeats, lambda: bench.late)
    rates = {k: runs.lane_steps / float(np.median(x)) for k, x in times.items()}
    for key in ways:
        yield _row(name, key, runs, rates, times, failures)


def _row(name, key, runs: Runs, rates, times, failures) -> Row:
    strategy, _, way = key.partition(": ")
    row: Row = {"problem": name, "strategy": strategy, "way": way, "lanes": runs.lanes}
    if key in failures:
        return row | {"failure": failures[key]}
    loops = [x for k, x in rates.items() if k.startswith(strategy) and k.endswith(LOOPS)]
    best = max(loops, default=float("nan"))
    return row | {
        "steps": runs.steps,
        "lanes_measured": runs.looped if key.endswith(LOOPS) else runs.lanes,
        "lane_steps_a_second": rates[key],
        "over_loop": rates[key] / best,
        "repetitions": len(times[key]),
        "seconds": times[key],
    }


def throughput(bench: Bench) -> Rows:
    """The throughput of 32 seeds at nine learning rates, on three problems."""
    problems = _QUICK_PROBLEMS if bench.quick else _PROBLEMS
    for name, (make, steps) in problems.items():
        label = {"problem": name}
        measure = partial(_of_problem, bench, name, make, steps)
        yield from attempted(label, bench, measure)
