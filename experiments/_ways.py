"""Ways to run many lanes: a study, and hand-written loops."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import curvopt
from strategies import Adam, CurvatureRescaling, LearningRate, SGD


_RATE = 1e-3

# Runs all steps of all lanes and returns the seconds that they take.
Way: TypeAlias = Callable[[], float]

_Update = Callable[[Any, Any, Any, Any], tuple[Any, Any]]

# Strategies as functions of the learning rate.
FAMILIES: Mapping[str, Callable[..., curvopt.LineSearchMinimiser]] = {
    "Adam, learning rate": lambda learning_rate: curvopt.LineSearchMinimiser(
        Adam(), LearningRate(learning_rate)
    ),
    "SGD, rescaled": lambda learning_rate: curvopt.LineSearchMinimiser(
        SGD(), CurvatureRescaling(100 * learning_rate, average=0.9)
    ),
}

# Without vmap.
LOOPS = "a jitted step, in a loop", "a scan for each run"


@dataclasses.dataclass(frozen=True)
class Runs:
    """The lanes to run.

    **Attributes:**

    - `seeds`, `rates`: the numbers of seeds and learning rates; every combination is a
        lane.
    - `steps`: the number of steps of each lane.
    - `looped`: the number of lanes that a loop over runs makes, from which the time of all
        is extrapolated; `None` for all.
    """

    seeds: int
    rates: int
    steps: int
    looped: int | None = None

    @property
    def grid(self) -> np.ndarray:
        """The learning rates."""
        return np.float32(_RATE) * np.geomspace(0.1, 1, self.rates, dtype=np.float32)

    @property
    def lanes(self) -> int:
        return self.seeds * self.rates

    @property
    def lane_steps(self) -> int:
        """The total number of steps of all lanes."""
        return self.lanes * self.steps


def _timed(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


class _Plain:
    """The loops that one would write by hand for an update of `(params, state)`."""

    def __init__(self, runs: Runs, problem: Any, init: Any, update: _Update):
        self._steps, self._problem = runs.steps, problem
        self._init, self._update = init, update
        keys = [jr.split(jr.key(seed), 4) for seed in range(runs.seeds)]
        start = jax.jit(lambda key: problem.init(key)[0])
        starts = [start(key[0]) for key in keys]
        # A loop takes the lanes one by one, vmap takes them stacked.
        lanes = [
            (params, rate, key[1])
            for rate in runs.grid
            for params, key in zip(starts, keys)
        ]
        self._stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *lanes)
        self._lanes = lanes[: runs.looped]
        self._scale = len(lanes) / len(self._lanes)
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
            # The jitted step donates its carry, and the lane's parameters are used again.
            carry = jax.tree.map(jnp.copy, (params, self._init(params)))
            for count in range(self._steps):
                carry, loss = self._jitted_step(carry, rate, key, count)
                losses.append(loss)
        return losses

    def ways(self) -> dict[str, Way]:
        each = lambda: [self._jitted_run(lane) for lane in self._lanes]
        return {
            "a jitted step, in a loop": lambda: self._scale * _timed(self._step_by_step),
            "a scan for each run": lambda: self._scale * _timed(each),
            "a vmapped scan": lambda: _timed(lambda: self._jitted_all(self._stacked)),
        }


def study(
    runs: Runs,
    problem: curvopt.AbstractProblem,
    family: Callable[..., curvopt.LineSearchMinimiser],
    execution: curvopt.Execution,
) -> tuple[float, dict[str, Any]]:
    """Run a study; returns the seconds of its steps, and how it ran them."""
    data = curvopt.run_study(
        problem,
        {"s": family},
        hyperparameters={"learning_rate": runs.grid.tolist()},
        seeds=runs.seeds,
        steps=runs.steps,
        evaluations=1,
        execution=execution,
        progress=False,
    )
    return float(data.seconds.item()), json.loads(str(data.execution.item()))


def strategy_loops(
    runs: Runs,
    problem: curvopt.AbstractProblem,
    family: Callable[..., curvopt.LineSearchMinimiser],
) -> dict[str, Way]:
    """The update of a strategy in plain loops."""

    def update(carry: Any, args: Any, rate: Any, count: Any) -> Any:
        params, state = carry
        params, state, record, _ = family(rate).update(
            problem.loss, params, args, count, state
        )
        return (params, state), record.loss

    init = lambda params: family(jnp.asarray(_RATE)).init_strategy(params, jr.key(0))
    return _Plain(runs, problem, init, update).ways()


def optax_loops(runs: Runs, problem: curvopt.AbstractProblem) -> dict[str, Way]:
    """optax's Adam in plain loops."""

    def update(carry: Any, args: Any, rate: Any, count: Any) -> Any:
        del count
        params, state = carry
        (loss, _), grads = jax.value_and_grad(problem.loss, has_aux=True)(params, args)
        updates, state = optax.adam(rate).update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    ways = _Plain(runs, problem, optax.adam(_RATE).init, update).ways()
    return {f"optax, {name}": way for name, way in ways.items()}


def interleaved_ways(
    ways: Mapping[str, Way], repeats: int, late: Callable[[], bool] = lambda: False
) -> dict[str, list[float]]:
    """The seconds of each way, in rounds that run all ways once in random order; after the
    first, no round begins once it is `late`."""
    rng, times = np.random.default_rng(0), {name: [] for name in ways}
    for repeat in range(repeats):
        if repeat and late():
            break
        for name in rng.permutation(list(ways)):
            times[str(name)].append(ways[str(name)]())
    return times
