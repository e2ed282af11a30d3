"""Interleaved timing of programs, and of the steps of strategies."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float

import curvopt


# Quartiles of fewer repetitions would be meaningless.
_FEWEST = 3


def interleaved(
    programs: Sequence[Callable[[], Any]], *, seconds: float, repeats: int
) -> Float[np.ndarray, "repetition program"]:
    """Time programs against each other.

    Each repetition runs every program once in random order, so that disturbances affect
    all alike: compare times within a repetition.

    **Arguments:**

    - `programs`: called without arguments; each waits for its result.
    - `seconds`: no repetition begins after this time, except for the first three.
    - `repeats`: the largest number of repetitions.

    **Returns:**

    The seconds of each run.
    """
    rng = np.random.default_rng(0)
    times: list[np.ndarray] = []
    deadline = time.perf_counter() + seconds
    while len(times) < repeats and (len(times) < _FEWEST or time.perf_counter() < deadline):
        row = np.empty(len(programs))
        for k in rng.permutation(len(programs)):
            began = time.perf_counter()
            programs[k]()
            row[k] = time.perf_counter() - began
        times.append(row)
    return np.stack(times)


def quartiles(
    times: Float[np.ndarray, "repetition program"], over: int = 0
) -> Float[np.ndarray, "3 program"]:
    """The lower quartile, median and upper quartile of the times, each relative to the time
    of the program `over` in the same repetition."""
    return np.quantile(times / times[:, [over]], [0.25, 0.5, 0.75], axis=0)


# Rules that act only at every k-th step do so with a k that divides this.
_STRETCH = 4


def _advancing(update: Callable, fixed: Any, running: Any) -> Callable[[], None]:
    """A function that makes the next step of a run at each call, and waits for it.

    **Arguments:**

    - `update`: maps `fixed`, `running` and the count to the new `running`.
    - `fixed`, `running`: the values that stay, and those that a step changes.
    """
    fixed, fixed_rest = eqx.partition(fixed, eqx.is_array)
    running, running_rest = eqx.partition(running, eqx.is_array)

    @jax.jit
    def step(fixed: Any, running: Any, count: Any) -> Any:
        new = update(
            eqx.combine(fixed, fixed_rest), eqx.combine(running, running_rest), count
        )
        return eqx.filter(new, eqx.is_array)

    count = 0

    def advance() -> None:
        nonlocal running, count
        running = jax.block_until_ready(step(fixed, running, jnp.array(count, jnp.int32)))
        count += 1

    return advance


def _gradient(problem: curvopt.AbstractProblem) -> Callable[[], None]:
    """The value and gradient of the next batch at each call, always at the initial
    parameters."""

    def update(fixed: Any, running: Any, count: Any) -> Any:
        # The last gradient is not read: returning it keeps XLA from removing it.
        del running
        problem, params, state, key = fixed
        args = problem.example_batch(key, count), state, key
        (value, _), gradient = jax.value_and_grad(problem.loss, has_aux=True)(params, args)
        return value, gradient

    key = jr.key(0)
    params, state = eqx.filter_jit(problem.init)(key)
    return _advancing(update, (problem, params, state, key), (jnp.zeros(()), params))


def _training(
    problem: curvopt.AbstractProblem, solver: curvopt.LineSearchMinimiser
) -> Callable[[], None]:
    """The next step of a run at each call."""

    def update(fixed: Any, running: Any, count: Any) -> Any:
        (problem, solver, key), (params, state, strategy) = fixed, running
        args = problem.example_batch(key, count), state, key
        params, strategy, _, (state, _) = solver.update(
            problem.loss, params, args, count, strategy
        )
        return params, state, strategy

    key = jr.key(0)
    params, state = eqx.filter_jit(problem.init)(key)
    strategy = solver.init_strategy(params, key)
    return _advancing(update, (problem, solver, key), (params, state, strategy))


def step_times(
    problem: curvopt.AbstractProblem,
    solvers: Mapping[str, curvopt.LineSearchMinimiser],
    *,
    seconds: float,
    repeats: int,
) -> tuple[dict[str, float], float]:
    """The time of a step of every strategy, relative to that of a gradient.

    Each repetition makes one gradient and the next step of one run of every strategy, in
    random order; all of them draw their batch. Four steps in a row are summed, because a
    rule may act only at every fourth step, and the ratio is the median over these sums. It
    describes the first steps of a run, in which a search may make more trials than later.

    **Arguments:**

    - `problem`: the problem.
    - `solvers`: the solver of each run, by name.
    - `seconds`, `repeats`: as in `interleaved`.

    **Returns:**

    The ratios by name, and the seconds of one gradient.
    """
    programs = [_gradient(problem), *(_training(problem, s) for s in solvers.values())]
    for program in programs:
        # The first call compiles, and the second too if an initial array was weakly typed.
        program()
        program()
    times = interleaved(programs, seconds=seconds, repeats=repeats)
    stretch = min(_STRETCH, len(times))
    whole = len(times) // stretch * stretch
    sums = times[:whole].reshape(-1, stretch, times.shape[1]).sum(axis=1)
    ratios = np.median(sums / sums[:, :1], axis=0)
    return dict(zip(solvers, map(float, ratios[1:]))), float(np.median(times[:, 0]))
