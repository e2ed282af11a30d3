import dataclasses
import json
import sys
from pathlib import Path
from typing import Literal

import equinox as eqx
import jax
import jax.tree_util as jtu
import tqdm
import xarray as xr

from curvopt import plots

from .._folder import ResultsFolder
from .._names import choose, UsageError
from .._origin import command
from ._classic import CLASSIC
from ._dataset import dataset
from ._measure import measure, UnusableProblem
from ._problem import Problem
from ._report import report, unusable
from ._sif2jax import sif2jax_problems
from ._solvers import SOLVERS
from ._table import costs_table, duels_table, failures, summary_table


@dataclasses.dataclass(frozen=True)
class Deterministic:
    """Compare our solvers with Optimistix's on deterministic problems.

    Measures the cost to reach a target, in gradient-equivalents and in float64, from each
    problem's standard start. Prints the tables, and writes results.nc, report.md and a
    performance profile after each problem. Most of the time is compilation, about a second
    for each solver on each problem.
    """

    problems: Literal["classic", "sif2jax"] = "classic"
    """Eighteen functions of the literature (classic), or the unconstrained problems of
    CUTEst from the package sif2jax."""

    names: tuple[str, ...] | None = None
    """Only these problems of the set, of any size."""

    max_unknowns: int = 1000
    """Without --names, only problems with at most this many unknowns."""

    solvers: tuple[str, ...] = tuple(SOLVERS)
    """The solvers: ours are bfgs, lbfgs, bfgs-hz, newton, lbfgs-rescaled, cg and sgd;
    Optimistix's are optx-bfgs, optx-lbfgs and optx-cg."""

    tolerance: float = 1e-6
    """A problem counts as solved if at most this share of the way to the lowest value is
    left."""

    budget: int = 2000
    """The cost at which a run ends, in gradient-equivalents."""

    out: Path = Path("results/deterministic")
    """The output folder."""

    overwrite: bool = False
    """Replace the results in the output folder."""


def _check(config: Deterministic) -> None:
    if not 0 < config.tolerance < 1:
        raise UsageError(
            f"--tolerance must be between 0 and 1, but it is {config.tolerance}."
        )
    for option in ("budget", "max_unknowns"):
        n = getattr(config, option)
        if n < 1:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} must be at least 1, but it is {n}.")


def _has_at_most(unknowns: int, problem: Problem) -> bool:
    try:
        with jax.enable_x64(True):
            y0, _ = eqx.filter_eval_shape(problem.start)
    except Exception:
        return True  # the measurement reports why it fails
    return sum(y.size for y in jtu.tree_leaves(y0)) <= unknowns


def _chosen_problems(config: Deterministic) -> list[Problem]:
    if config.problems == "sif2jax":
        found = sif2jax_problems(config.names)
    elif config.names is None:
        found = CLASSIC
    else:
        found = choose("problem", CLASSIC, config.names)
    if config.names is not None:
        return list(found.values())
    chosen = [p for p in found.values() if _has_at_most(config.max_unknowns, p)]
    if not chosen:
        raise UsageError(
            f"no problem has at most {config.max_unknowns} unknowns. Raise --max-unknowns."
        )
    return chosen


def _write(folder: ResultsFolder, data: xr.Dataset) -> Path:
    folder.save_data("results.nc", data)
    figure = plots.performance_profile(
        data.cost_to_target.values,
        data.label.values.tolist(),
        dashed=(~data.ours.values).tolist(),
    )
    folder.save_figure("profile", figure)
    return folder.save_text("report.md", report(data))


def _show(data: xr.Dataset) -> None:
    tables = (costs_table(data), summary_table(data), duels_table(data))
    in_time = duels_table(data, "seconds_to_target")
    print("\n\n".join((*tables, "in processor time:", in_time)))
    for line in (*failures(data), *unusable(data)):
        print(line)


def deterministic(config: Deterministic) -> None:
    """Run all solvers on all problems, write the output folder and print the tables.

    **Raises:**

    `UsageError`, before anything is compiled, or if no problem can be evaluated.
    """
    _check(config)
    solvers = choose("solver", SOLVERS, config.solvers)
    problems = _chosen_problems(config)
    folder = ResultsFolder(config.out, config.overwrite)
    attributes = {
        "command": command(),
        "configuration": repr(config),
        "solvers": json.dumps(
            {name: eqx.tree_pformat(s.minimiser) for name, s in solvers.items()}
        ),
    }

    measured, reasons = [], {}
    data, path = None, folder.path
    steps = len(problems) * (len(solvers) + 1)
    with tqdm.tqdm(total=steps, file=sys.stderr, leave=False) as bar:
        for k, problem in enumerate(problems):

            def progress(doing: str, name: str = problem.name) -> None:
                bar.set_description(f"{name}: {doing}")
                bar.update()

            try:
                measured.append(
                    measure(problem, solvers, budget=config.budget, progress=progress)
                )
            except UnusableProblem as error:
                reasons[problem.name] = str(error)
            bar.update((k + 1) * (len(solvers) + 1) - bar.n)
            if measured:
                found = {"unusable": json.dumps(reasons)}
                data = dataset(measured, solvers, config.tolerance, attributes | found)
                path = _write(folder, data)
    if data is None:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UsageError(f"none of the problems can be evaluated. {listed}")
    _show(data)
    print(f"\nreport: {path}")
