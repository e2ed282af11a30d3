"""The main command: compare directions and line searches over many seeds."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optax
from jaxtyping import Array

import curvopt
from strategies import LearningRate

from ._catalogue import (
    choose_directions,
    choose_line_searches,
    Direction,
    LINE_SEARCHES,
    problem_named,
    TUNED,
)
from ._compilation import keep_programs
from ._experiment import Experiment, Strategy, Tuned
from ._folder import ResultsFolder
from ._names import UsageError
from ._origin import command, origin
from ._outline import is_loss, Outline
from ._results import load_results
from .report import publish


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare directions and line searches over many seeds.

    Runs every direction with every line search. Writes the runs, results.nc, tuning.nc,
    figures, report.md and report.html, and prints the table.
    """

    problem: str = "fashion-subset-mlp"
    """The problem. fashion-subset-mlp, -logistic, -autoencoder, -conv-autoencoder, -lenet,
    -vit, -mlp-relu or -lenet-relu: data included; fashion-mlp, mnist-mlp and so on: the
    full data sets; cifar10-resnet, cifar10-vit, shakespeare-gru, shakespeare-transformer:
    data that you download, see experiments/data/README.md; quadratic, rosenbrock, pendulum:
    no data; or your own, as module:name."""

    directions: tuple[str, ...] = ("sgd", "momentum", "adam")
    """The directions: sgd, momentum, rmsprop, adam, nonlinear-cg, lbfgs, forward-gradient,
    innaprop, plane; or your own, as module:name."""

    line_searches: tuple[str, ...] = ("tuned", "hindsight-no-horizon", "hindsight")
    """The line searches: tuned (the best learning rate of a grid, constant or cosine),
    hindsight (untuned), layerwise (the same with a step size for each layer),
    hindsight-no-horizon and layerwise-no-horizon (the same, which do not know the number of
    steps), rescaled (its learning rate decays by a cosine), rescaled-constant, unit, cdat,
    gen, armijo, sls, sps, bb, step-tuned, hessian-aware, backtracking; or your own, as
    module:name."""

    seeds: int = 8
    """The number of seeds for each strategy."""

    steps: int = 600
    """The number of steps of each run."""

    rates: str = "7"
    """The learning rates that the tuned baseline tries with each schedule: a number of
    values per three decades of the direction's own range (1e-4 to 10 for your own
    directions), or lowest:highest:number, as in 1e-4:1:9."""

    tuning_seeds: int = 2
    """The number of seeds for each learning rate that is tried."""

    evaluations: int = 6
    """How often a run evaluates the problem's metrics."""

    metric: str = "train_loss"
    """The metric by which strategies are compared."""

    lower_is_better: bool | None = None
    """Whether lower values of the metric are better; required for an accuracy."""

    out: Path = Path("results") / "compare"
    """The output folder. Interrupted or killed, the same command resumes and gives the same
    numbers. With more seeds, directions or line searches it makes only the missing runs."""

    data_dir: Path | None = None
    """The folder with data sets that are not included (default: the environment variable
    CURVOPT_DATA). Without one, MNIST and Fashion-MNIST are downloaded once."""

    overwrite: bool = False
    """Delete the runs in the output folder and start again."""

    cache: bool = True
    """Keep compiled programs in the user's cache folder, and take them from there."""


def _learning_rates(rates: str) -> Callable[[Direction], list[float]]:
    """Each direction's grid of learning rates, from `--rates`."""
    try:
        if ":" not in rates:
            number = curvopt.check_count("--rates", int(rates))
            return lambda direction: direction.learning_rates(number)
        low, high, count = rates.split(":")
        lowest, highest, number = float(low), float(high), int(count)
        if not 0 < lowest < highest < math.inf or number < 2:
            raise ValueError(rates)
    except ValueError as error:
        raise UsageError(
            "--rates must be a number of values, at least 1, or lowest:highest:number, a "
            f"grid of numbers above 0 such as 1e-4:1:9, but it is {rates!r}."
        ) from error
    return lambda direction: np.geomspace(lowest, highest, number).tolist()


def _tuned(
    direction: curvopt.AbstractDirection,
    learning_rates: list[float],
    steps: int,
    seeds: int,
) -> Tuned:
    """A direction with the best learning rate of a grid, constant or under a cosine."""

    def family(schedule: optax.Schedule | None) -> curvopt.Family:
        def solver(learning_rate: Array) -> curvopt.LineSearchMinimiser:
            rule = LearningRate(learning_rate, schedule)
            return curvopt.LineSearchMinimiser(direction, rule)

        return curvopt.Family(solver, learning_rate=learning_rates)

    cosine = optax.cosine_decay_schedule(1.0, steps)
    return Tuned({"constant": family(None), "cosine": family(cosine)}, seeds)


def _experiment(config: Compare) -> Experiment:
    """The experiment that the arguments describe.

    **Raises:**

    `UsageError` or `DataError`, before anything is compiled.
    """
    curvopt.check_count("--steps", config.steps)
    tuning_seeds = curvopt.check_count("--tuning-seeds", config.tuning_seeds)
    learning_rates = _learning_rates(config.rates)
    problem = problem_named(config.problem, config.data_dir)
    directions = choose_directions(config.directions)
    rules = choose_line_searches(config.line_searches)
    strategies: dict[str, Strategy] = {}
    labels, baseline = {}, {}
    for entry in directions.values():
        for rule in rules.values():
            name = f"{entry.label}, {rule.label}"
            labels[name] = entry.label, rule.label
            if rule.solver is None:
                rates = learning_rates(entry)
                strategies[name] = _tuned(
                    entry.direction, rates, config.steps, tuning_seeds
                )
            else:
                strategies[name] = rule.solver(entry.direction, problem, config.steps)
                if TUNED in rules:
                    baseline[name] = f"{entry.label}, {LINE_SEARCHES[TUNED].label}"
    outline = Outline(
        metric=config.metric,
        lower_is_better=is_loss(config.metric, config.lower_is_better),
        baseline=baseline or None,
        title="Directions and line searches, compared",
        command=command(),
        labels=labels,
        origin=origin(),
    )
    return Experiment(
        problem,
        strategies,
        config.seeds,
        config.steps,
        config.evaluations,
        outline,
        # Measuring how to run would make the numbers depend on the machine's load: lanes of
        # another width round differently.
        curvopt.Execution(measure=False),
    )


def compare(config: Compare) -> None:
    """Run the comparison, write the report and print the table.

    **Raises:**

    `UsageError` or `DataError`, before anything is compiled.
    """
    keep_programs(config.cache)
    experiment = _experiment(config)
    experiment.run(config.out, overwrite=config.overwrite)
    publish(load_results(config.out), ResultsFolder(config.out))
