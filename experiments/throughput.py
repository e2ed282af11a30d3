"""Steps per second of a study, compared with hand-written loops."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

import curvopt

from ._catalogue import problem_named
from ._formatting import markdown
from ._names import choose
from ._ways import (
    FAMILIES,
    interleaved_ways,
    LOOPS,
    optax_loops,
    Runs,
    strategy_loops,
    study,
    Way,
)


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Measure steps per second, summed over lanes: of a study, as it chooses to run and in
    every other way, and of hand-written loops.

    How the study runs is chosen by measurement, as in a long one. The rivals are loops over
    seeds, one jitted step at a time or each run one scan, of the same update; and the same
    of plain optax, vmapped too. Every repetition runs all of them once, in an order drawn
    anew; rates are medians, without compilation.
    """

    problems: tuple[str, ...] = (
        "fashion-subset-mlp",
        "fashion-subset-autoencoder",
        "fashion-subset-lenet",
    )
    """The problems, as in compare."""

    seeds: int = 8
    """How many seeds."""

    steps: int = 50
    """How many steps each run makes."""

    rates: int = 1
    """How many learning rates each seed is run with; every combination is a lane."""

    only: tuple[str, ...] = ()
    """Which ways to measure, by their names in the table; default all. Scans of
    convolutions take long on a CPU."""

    repeats: int = 5
    """How many repetitions."""

    data_dir: Path | None = None
    """The folder with data sets that are not included."""


def _ways(runs: Runs, problem: curvopt.AbstractProblem, strategy: str) -> dict[str, Way]:
    """By name: the study in every other way than it chooses, and its update in plain loops;
    nothing is run before it is asked for."""
    family = FAMILIES[strategy]

    def way(how: dict[str, Any]) -> Way:
        return lambda: study(runs, problem, family, curvopt.Execution(**how))[0]

    ways = {
        f"study, {loop} × {width}": way(
            {"loop": loop, "lanes_at_once": width, "workers": 1}
        )
        for loop in ("scan", "dispatch")
        for width in dict.fromkeys((runs.lanes, 1))
    }
    ways |= strategy_loops(runs, problem, family)
    if strategy.startswith("Adam"):
        ways |= optax_loops(runs, problem)
    return ways


def _as_it_chooses(
    runs: Runs, problem: curvopt.AbstractProblem, strategy: str
) -> tuple[Way, str]:
    """The study as it chooses to run, and what it chose, by measurement."""
    family = FAMILIES[strategy]
    _, chosen = study(runs, problem, family, curvopt.Execution(measure=True))
    how = {k: chosen[k] for k in ("loop", "lanes_at_once", "workers")}
    text = ", ".join(f"{k} {v}" for k, v in how.items()) + f": {chosen['reason']}"
    return lambda: study(runs, problem, family, curvopt.Execution(**how))[0], text


def _measured(ways: dict[str, Way], repeats: int) -> dict[str, float]:
    """The median seconds of each way, interleaved; a first round compiles."""
    times = interleaved_ways(ways, repeats + 1)
    return {name: float(np.median(x[1:])) for name, x in times.items()}


def throughput(config: Throughput) -> None:
    """Print a table for each problem and strategy.

    **Raises:**

    `ValueError` or `DataError`, before anything is timed.
    """
    for name in ("seeds", "steps", "rates", "repeats"):
        curvopt.check_count(f"--{name}", getattr(config, name))
    problems = {name: problem_named(name, config.data_dir) for name in config.problems}
    runs = Runs(config.seeds, config.rates, config.steps)
    asked = [
        (f"{name}: {strategy}", problem, strategy, _ways(runs, problem, strategy))
        for name, problem in problems.items()
        for strategy in FAMILIES
    ]
    known = {"study": None} | {name: None for *_, ways in asked for name in ways}
    only = choose("way", known, config.only or known)
    device = jax.devices()[0]
    print(f"{config.seeds} seeds × {config.rates} rates on {device.device_kind}")
    for title, problem, strategy, ways in asked:
        chosen, text = _as_it_chooses(runs, problem, strategy)
        ways = {k: way for k, way in {"study": chosen, **ways}.items() if k in only}
        times = _measured(ways, config.repeats)
        loop = min(times.get(name, math.inf) for name in LOOPS)
        rows = [(title, "steps of lanes a second", "over loop")]
        rows += [
            (name, f"{runs.lane_steps / seconds:,.0f}", f"{loop / seconds:.2f}")
            for name, seconds in times.items()
        ]
        print(f"\n{markdown(rows)}\n\nThe study chose {text}.", flush=True)
