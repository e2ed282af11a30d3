"""How many steps of runs a second a study makes, beside loops that one would write."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import curvopt
from strategies import Adam, CurvatureRescaling, LearningRate, SGD

from ._catalogue import choose, UsageError
from ._markdown import markdown
from .problems import PROBLEMS


_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Measure steps of lanes a second: of a study, as it chooses to run and in every other
    way, and of what one would write without it.

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
    """What to train, as in compare."""

    seeds: int = 8
    """How many seeds."""

    steps: int = 50
    """How many steps each run makes."""

    rates: int = 1
    """How many learning rates each seed is run with; all of them are lanes."""

    only: tuple[str, ...] = ()
    """Which ways to measure, by their names in the table; default all. Scans of
    convolutions take long on a CPU."""

    repeats: int = 5
    """How many repetitions."""

    data_dir: Path | None = None
    """Where the data sets are that do not come with the project."""


# A way to make all steps of all lanes; returns the seconds that they took.
_Way = Callable[[], float]
_Update = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def _timed(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


class _Plain:
    """Loops that one would write for an update of `(params, state)` on a problem."""

    def __init__(self, config: Throughput, problem: Any, init: Any, update: _Update):
        self._steps, self._rates = config.steps, _grid(config)
        self._problem, self._init, self._update = problem, init, update
        keys = [jr.split(jr.key(seed), 4) for seed in range(config.seeds)]
        starts = [jax.jit(lambda key: problem.init(key)[0])(key[0]) for key in keys]
        # Each lane on its own, and all of them stacked.
        self._lanes = [
            (params, rate, key[1])
            for rate in self._rates
            for params, key in zip(starts, keys)
        ]
        self._stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *self._lanes)
        self._jitted_step = jax.jit(self._step, donate_argnums=0)
        self._jitted_run = jax.jit(self._run)
        self._jitted_all = jax.jit(jax.vmap(self._run))

    def _step(self, carry: Any, rate: Any, key: Any, count: Any) -> Any:
        params, state = carry
        args = self._problem.batch(key, count), None, key
        return self._update((params, state), args, rate, count)

    def _run(self, lane: Any) -> Any:
        params, rate, key = lane
        carry = params, self._init(params)
        step = lambda carry, count: self._step(carry, rate, key, count)
        return jax.lax.scan(step, carry, jnp.arange(self._steps))

    def _step_by_step(self) -> Any:
        losses = []
        for params, rate, key in self._lanes:
            carry = jax.tree.map(jnp.copy, (params, self._init(params)))
            for count in range(self._steps):
                carry, loss = self._jitted_step(carry, rate, key, count)
                losses.append(loss)
        return losses

    def ways(self) -> dict[str, _Way]:
        return {
            "a jitted step, in a loop": lambda: _timed(self._step_by_step),
            "a scan for each run": lambda: _timed(
                lambda: [self._jitted_run(lane) for lane in self._lanes]
            ),
            "a vmapped scan": lambda: _timed(lambda: self._jitted_all(self._stacked)),
        }


def _grid(config: Throughput) -> np.ndarray:
    return np.float32(_RATE) * np.geomspace(0.1, 1, config.rates, dtype=np.float32)


def _curvopt_ways(
    config: Throughput, problem: curvopt.AbstractProblem, family: Any
) -> tuple[dict[str, _Way], str]:
    """The study as it chooses, in other ways, and its update in plain loops; and what it
    chose, by measurement."""
    choices: list[dict[str, Any]] = []

    def study(execution: curvopt.Execution) -> float:
        data = curvopt.run_study(
            problem,
            {"s": family},
            hyperparameters={"learning_rate": _grid(config).tolist()},
            seeds=config.seeds,
            steps=config.steps,
            evaluations=1,
            execution=execution,
            progress=False,
        )
        choices.append(json.loads(str(data.execution.item())))
        return float(data.seconds.item())

    def update(carry: Any, args: Any, rate: Any, count: Any) -> Any:
        params, state = carry
        params, state, record, _ = family(rate).update(
            problem.loss, params, args, count, state
        )
        return (params, state), record.loss

    init = lambda params: family(jnp.asarray(_RATE)).init_strategy(params, jr.key(0))
    study(curvopt.Execution(measure=True))
    chosen = choices[0]
    how = {k: chosen[k] for k in ("loop", "lanes_at_once", "workers")}
    lanes = config.seeds * config.rates
    given = {
        f"{loop} × {width}": curvopt.Execution(loop=loop, lanes_at_once=width, workers=1)
        for loop in ("scan", "dispatch")
        for width in dict.fromkeys((lanes, 1))
    }
    ways = {
        "study": lambda: study(curvopt.Execution(**how)),
        **{f"study, {k}": lambda how=how: study(how) for k, how in given.items()},
        **_Plain(config, problem, init, update).ways(),
    }
    return ways, ", ".join(f"{k} {v}" for k, v in how.items()) + f": {chosen['reason']}"


def _optax_ways(config: Throughput, problem: curvopt.AbstractProblem) -> dict[str, _Way]:
    def update(carry: Any, args: Any, rate: Any, count: Any) -> Any:
        del count
        params, state = carry
        (loss, _), grads = jax.value_and_grad(problem.loss, has_aux=True)(params, args)
        updates, state = optax.adam(rate).update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    ways = _Plain(config, problem, optax.adam(_RATE).init, update).ways()
    return {f"optax, {name}": way for name, way in ways.items()}


_LOOPS = "a jitted step, in a loop", "a scan for each run"

_FAMILIES = {
    "Adam, learning rate": lambda learning_rate: curvopt.LineSearchMinimiser(
        Adam(), LearningRate(learning_rate)
    ),
    "SGD, rescaled": lambda learning_rate: curvopt.LineSearchMinimiser(
        SGD(), CurvatureRescaling(100 * learning_rate, average=0.9)
    ),
}


def _measured(ways: dict[str, _Way], repeats: int) -> dict[str, float]:
    """The median seconds of each way, interleaved; a first round compiles."""
    rng, times = np.random.default_rng(0), {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name in rng.permutation(list(ways)):
            seconds = ways[str(name)]()
            if repeat:
                times[str(name)].append(seconds)
    return {name: float(np.median(x)) for name, x in times.items()}


def throughput(config: Throughput) -> None:
    """Print a table for each problem and strategy.

    **Raises:**

    `UsageError` or `DataError`, before anything is compiled.
    """
    for name in ("seeds", "steps", "rates", "repeats"):
        value = getattr(config, name)
        if value < 1:
            raise UsageError(f"--{name} must be at least 1, but it is {value}.")
    makers = choose("problem", PROBLEMS, config.problems)
    lane_steps = config.seeds * config.rates * config.steps
    device = jax.devices()[0]
    print(f"{config.seeds} seeds × {config.rates} rates on {device.device_kind}")
    for problem_name, make in makers.items():
        problem = make(config.data_dir)
        for strategy, family in _FAMILIES.items():
            ways, chosen = _curvopt_ways(config, problem, family)
            if strategy.startswith("Adam"):
                ways |= _optax_ways(config, problem)
            names = config.only or tuple(ways)
            ways = {k: way for k, way in ways.items() if k in names}
            times = _measured(ways, config.repeats)
            loop = min(times.get(name, math.inf) for name in _LOOPS)
            rows = [(f"{problem_name}: {strategy}", "steps of lanes a second", "over loop")]
            rows += [
                (name, f"{lane_steps / seconds:,.0f}", f"{loop / seconds:.2f}")
                for name, seconds in times.items()
            ]
            print(f"\n{markdown(rows)}\n\nThe study chose {chosen}.", flush=True)
