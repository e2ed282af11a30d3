"""The cost of one training step in FLOPs and time, relative to one gradient."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import curvopt
from strategies import CurvatureRescaling, LearningRate, SGD

from ._catalogue import choose_directions, problem_named
from ._timing import interleaved, quartiles


METHODS: dict[str, curvopt.AbstractCurvatureMethod] = {
    "adjoint": curvopt.AdjointCurvature(),
    "forward": curvopt.ForwardCurvature(),
    "hvp": curvopt.HvpCurvature(),
    "finite difference": curvopt.FiniteDifferenceCurvature(),
}


@dataclasses.dataclass(frozen=True)
class StepCost:
    """Measure the FLOPs and time of one training step, relative to one gradient.

    Each direction is rescaled with each curvature method. For comparison there are SGD with
    a learning rate and a jitted optax step.
    """

    problem: str = "fashion-subset-mlp"
    """The problem, as in compare."""

    directions: tuple[str, ...] = ("sgd", "momentum", "rmsprop", "adam")
    """The directions, as in compare."""

    repeats: int = 300
    """How often each step is timed, interleaved with the gradient."""

    data_dir: Path | None = None
    """The folder with data sets that are not included."""


def _programs(config: StepCost) -> dict[str, curvopt.cost.CompiledFunction]:
    """The gradient, the optax step and all other steps of the table, compiled."""
    problem = problem_named(config.problem, config.data_dir)
    key = jr.key(0)
    params, model_state = eqx.filter_jit(problem.init)(key)
    batch = eqx.filter_jit(problem.example_batch)(key)
    point = params, (batch, model_state, key)

    def gradient(y: Any, args: Any) -> Any:
        return jax.value_and_grad(problem.loss, has_aux=True)(y, args)

    def optax_step(y: Any, args: Any) -> Any:
        sgd = optax.sgd(0.1)
        (value, aux), grads = gradient(y, args)
        updates, _ = sgd.update(grads, sgd.init(y))
        return optax.apply_updates(y, updates), value, aux

    def step(solver: curvopt.LineSearchMinimiser, state: Any, y: Any, args: Any) -> Any:
        return solver.update(problem.loss, y, args, jnp.array(0, jnp.int32), state)

    def compiled_step(solver: curvopt.LineSearchMinimiser) -> curvopt.cost.CompiledFunction:
        state = solver.init_strategy(params, key)
        return curvopt.cost.compile_and_analyse(step, solver, state, *point)

    programs = {
        "value and gradient": curvopt.cost.compile_and_analyse(gradient, *point),
        "optax.sgd": curvopt.cost.compile_and_analyse(optax_step, *point),
        "SGD, learning rate": compiled_step(
            curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))
        ),
    }
    for entry in choose_directions(config.directions).values():
        for name, method in METHODS.items():
            programs[f"{entry.label}, rescaled, {name}"] = compiled_step(
                curvopt.LineSearchMinimiser(
                    entry.direction, CurvatureRescaling(), curvature=method
                )
            )
    return programs


def step_cost(config: StepCost) -> None:
    """Print FLOPs, memory and median time of every step, relative to the gradient.

    Each repetition times every program once in random order, so that disturbances of the
    machine affect all alike. The time is the median of the ratios within a repetition.

    **Raises:**

    `UsageError` or `DataError`, before anything is compiled.
    """
    curvopt.check_count("--repeats", config.repeats)
    programs = _programs(config)
    gradient, *_ = compiled = list(programs.values())
    for program in compiled:
        program.run()
    runs = [program.run for program in compiled]
    times = interleaved(runs, seconds=math.inf, repeats=config.repeats)
    low, middle, high = quartiles(times)
    print(
        f"One gradient: {gradient.flops / 1e6:.1f} MFLOP, "
        f"{gradient.temporary_bytes / 1e6:.2f} MB of temporaries, "
        f"{np.median(times[:, 0]) * 1e3:.3f} ms. The table is in units of it:\n"
    )
    print(f"{'':38s}  FLOPs  memory   time  (quartiles)")
    for k, (name, program) in enumerate(programs.items()):
        print(
            f"{name:38s} {program.flops / gradient.flops:6.3f} "
            f"{program.temporary_bytes / gradient.temporary_bytes:7.2f} {middle[k]:6.2f}"
            f"  ({low[k]:.2f} to {high[k]:.2f})"
        )
