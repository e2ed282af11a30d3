"""The main job: directions times ways to step, from many seeds, compared in pairs."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import xarray as xr

import curvopt
from curvopt import plots

from ._catalogue import (
    choose,
    choose_directions,
    choose_line_searches,
    Direction,
    LINE_SEARCHES,
    TUNED,
    UsageError,
)
from ._report import compare_with_baselines, report, second_metric, table
from ._results import ResultsFolder
from ._tuning import all_runs, tune
from .problems import PROBLEMS


METRIC = "train_loss"


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare directions and line searches over many seeds.

    Every direction is run with every line search. Writes results.nc, tuning.nc, figures
    and report.md, and prints the table.
    """

    problem: str = "fashion-subset-mlp"
    """What to train. fashion-subset-mlp, -logistic, -autoencoder, -lenet, -mlp-relu or
    -lenet-relu: the data come with the project; fashion-mlp, mnist-mlp and so on: full
    data; cifar10-resnet, shakespeare-gru, shakespeare-transformer: data of your own, see
    experiments/data/README.md; quadratic, rosenbrock, pendulum: no data."""

    directions: tuple[str, ...] = ("sgd", "momentum", "adam")
    """Which way: sgd, momentum, rmsprop, adam, nonlinear-cg, lbfgs, forward-gradient,
    innaprop, plane; or your own, as module:name."""

    line_searches: tuple[str, ...] = ("tuned", "rescaled-constant", "rescaled")
    """How far: tuned (the best learning rate of a grid, constant or cosine),
    rescaled-constant, rescaled (its learning rate decays by a cosine), unit, cdat, gen,
    armijo, sls, sps, bb, step-tuned, hessian-aware, backtracking; or your own, as
    module:name."""

    seeds: int = 8
    """How many seeds each strategy is run from."""

    steps: int = 600
    """How many steps each run makes."""

    rates: int = 7
    """How many learning rates the tuned baseline tries, with each schedule."""

    tuning_seeds: int = 2
    """How many seeds they are tried from."""

    evaluations: int = 6
    """How many times along a run the loss on all data and the accuracy are evaluated."""

    out: Path = Path("results") / "compare"
    """The folder to write to. The same command goes on with what is there: after it was
    broken off, killed or interrupted it ends with the same numbers."""

    data_dir: Path | None = None
    """Where the data sets are that do not come with the project (or the variable
    CURVOPT_DATA); without it MNIST and Fashion-MNIST are downloaded once."""

    overwrite: bool = False
    """Begin anew, and replace what is in the folder."""


def _check(config: Compare) -> None:
    for name in ("seeds", "steps", "rates", "tuning_seeds", "evaluations"):
        value = getattr(config, name)
        if value < 1:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} must be at least 1, but it is {value}.")


def _tune(
    config: Compare,
    problem: curvopt.AbstractProblem,
    directions: dict[str, Direction],
    folder: ResultsFolder,
) -> dict[str, curvopt.Tuning]:
    tuned = tune(
        problem,
        directions,
        metric=METRIC,
        rates=config.rates,
        tuning_seeds=config.tuning_seeds,
        seeds=config.seeds,
        steps=config.steps,
        folder=folder.tuning,
    )
    runs = all_runs(tuned, directions)
    folder.save_data("tuning.nc", runs)
    folder.save_figure("tuning", plots.sensitivity(runs, METRIC))
    return tuned


def _labelled(data: xr.Dataset, of: dict[str, tuple[str, str]]) -> xr.Dataset:
    """The dataset with direction and line search as coordinates of its strategies."""
    labels = [of[name] for name in data.strategy.values]
    return data.assign_coords(
        direction=("strategy", [direction for direction, _ in labels]),
        line_search=("strategy", [rule for _, rule in labels]),
    )


def compare(config: Compare) -> None:
    """Run the comparison, write its folder, print its table.

    **Raises:**

    `UsageError` or `DataError`, before anything is compiled.
    """
    _check(config)
    make_problem = next(iter(choose("problem", PROBLEMS, [config.problem]).values()))
    directions = choose_directions(config.directions)
    rules = choose_line_searches(config.line_searches)
    problem = make_problem(config.data_dir)
    folder = ResultsFolder(config.out, config.overwrite, resumes=True)

    tuned = _tune(config, problem, directions, folder) if TUNED in rules else {}
    solvers, of = {}, {}
    for key, entry in directions.items():
        for rule in rules.values():
            name = f"{entry.label}, {rule.label}"
            of[name] = entry.label, rule.label
            if rule.solver is None:
                solvers[name] = tuned[key].solver
            else:
                solvers[name] = rule.solver(entry.direction, problem, config.steps)

    command = "python -m experiments " + shlex.join(sys.argv[1:])
    data = curvopt.run_study(
        problem,
        solvers,
        seeds=config.seeds,
        steps=config.steps,
        evaluations=config.evaluations,
        folder=folder.study,
    )
    data = _labelled(data, of).assign_attrs(
        command=command,
        configuration=repr(config),
        tuned=json.dumps({k: {"family": t.family, **t.values} for k, t in tuned.items()}),
    )
    folder.save_data("results.nc", data)
    folder.save_figure("loss", plots.learning_curves(data))
    folder.save_figure("line", plots.line_traces(data))
    second = second_metric(data)
    folder.save_figure(second.replace("_", "-"), plots.metric_curves(data, second))

    comparison = compare_with_baselines(data, METRIC, LINE_SEARCHES[TUNED].label)
    labels = {key: entry.label for key, entry in directions.items()}
    text = report(data, comparison, tuned, labels, command, config.tuning_seeds)
    path = folder.save_report(text)
    print(f"\n{table(data)}\n")
    if comparison is not None:
        print(comparison)
    print(f"\nreport: {path}")
