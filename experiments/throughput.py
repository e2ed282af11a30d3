"""The steps per second of a study, compared with hand-written loops."""

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
    """Compare the steps per second of a study with those of hand-written loops.

    The study chooses by measurement how it runs, and is also timed in every other way. Its
    rivals run the same update in loops over seeds, either one jitted step at a time or each
    run as one scan, and vmapped; plain optax runs in the same loops. Each repetition runs
    all of them once in random order. The table has medians, summed over lanes, without
    compilation.
    """

    problems: tuple[str, ...] = (
        "fashion-subset-mlp",
        "fashion-subset-autoencoder",
        "fashion-subset-lenet",
    )
    """The problems, as in compare."""

    seeds: int = 8
    """The number of seeds."""

    steps: int = 50
    """The number of steps of each run."""

    rates: int = 1
    """The number of learning rates for each seed; every combination is a lane."""

    only: tuple[str, ...] = ()
    """The ways to measure, by their names in the table (default: all). Scans of
    convolutions take long on a CPU."""

    repeats: int = 5
    """The number of repetitions."""

    data_dir: Path | None = None
    """The folder with data sets that are not included."""


def _ways(runs: Runs, problem: curvopt.AbstractProblem, strategy: str) -> dict[str, Way]:
    """The study with every other choice of how it runs, and its update in plain loops, by
    name. Nothing runs before it is called."""
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
    """The study as it chooses to run by measurement, and its choice as text."""
    family = FAMILIES[strategy]
    _, chosen = study(runs, problem, family, curvopt.Execution(measure=True))
    how = {k: chosen[k] for k in ("loop", "lanes_at_once", "workers")}
    text = ", ".join(f"{k} {v}" for k, v in how.items()) + f": {chosen['reason']}"
    return lambda: study(runs, problem, family, curvopt.Execution(**how))[0], text


def _measured(ways: dict[str, Way], repeats: int) -> dict[str, float]:
    """The median seconds of each way, interleaved; the first round compiles."""
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
    for name, problem in problems.items():
        if problem.host_data is not None:
            raise ValueError(
                f"--problems must have their data on the device, but {name} has them on "
                "the host: the rivals are compiled loops, which cannot wait for a batch. "
                "`host-data` measures what waiting costs."
            )
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
        rows = [(title, "steps per second, all lanes", "over loop")]
        rows += [
            (name, f"{runs.lane_steps / seconds:,.0f}", f"{loop / seconds:.2f}")
            for name, seconds in times.items()
        ]
        print(f"\n{markdown(rows)}\n\nThe study chose {text}.", flush=True)
