"""From a file to a study that is ready to be run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.random as jr
import msgspec

import curvopt

from .._catalogue import UsageError
from ..problems import PROBLEMS
from ._dry import check_step
from ._file import numbers, Object, read_study, StudyFile
from ._names import find, known_objects
from ._objects import build, name_and_fields, Scope
from ._strategies import Family, first_of, strategies_of
from ._tuning import families_of, RATE
from ._validation import quoted


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study that was checked, ready to be run.

    **Attributes:**

    - `study`, `text`: the file, as it was read and as it stands.
    - `problem`: what is trained.
    - `strategies`: solvers by name; with hyper-parameters, functions of them.
    - `families`: of what is tuned, by schedule, functions of the learning rate.
    - `grid`: the values of the hyper-parameters.
    - `execution`: how the lanes are run.
    """

    study: StudyFile
    text: str
    problem: curvopt.AbstractProblem
    strategies: Mapping[str, curvopt.LineSearchMinimiser | Family]
    families: Mapping[str, Mapping[str, Family]]
    grid: Mapping[str, list[float]]
    execution: curvopt.Execution


def _problem(value: Object, data_dir: Path | None) -> curvopt.AbstractProblem:
    name, fields = name_and_fields(value, "problem")
    if ":" in name:
        scope = Scope(steps=1, known={}, variables={})
        return build(value, "problem", curvopt.AbstractProblem, scope)
    if fields:
        raise UsageError(
            f"unknown field problem.{next(iter(fields))}; {name!r} takes none. Write a "
            "module with your own, and its name as module:name."
        )
    return find("problem", "problem", name, PROBLEMS)(data_dir)


def _check_metric(study: StudyFile, problem: curvopt.AbstractProblem) -> None:
    # Shapes only: nothing is compiled.
    params, state = eqx.filter_eval_shape(problem.init, jr.key(0))
    metrics: Any = eqx.filter_eval_shape(problem.evaluate, params, state)
    if isinstance(metrics, dict) and study.metric not in metrics:
        raise UsageError(
            f"metric: unknown metric {study.metric!r}; the problem's are: "
            f"{', '.join(metrics)}."
        )
    taken = [name for name in study.hyperparameters if name in metrics]
    if taken:
        raise UsageError(
            f"hyperparameters.{taken[0]}: the problem has a metric of that name; call the "
            "hyper-parameter differently."
        )


def _check_steps(plan: Plan) -> None:
    """Let every strategy make a step, on shapes alone."""
    for name, strategy in plan.strategies.items():
        if not isinstance(strategy, curvopt.LineSearchMinimiser):
            strategy = first_of(strategy, plan.grid)
        check_step(plan.problem, strategy, quoted("strategies", name))
    for name, families in plan.families.items():
        rates = numbers(plan.study.tuning[name].learning_rates)
        for family in families.values():
            solver = first_of(family, {RATE: rates})
            check_step(plan.problem, solver, quoted("tuning", name))


def read_plan(path: Path, data_dir: Path | None) -> Plan:
    """The study of a file, with everything in it checked; nothing is compiled.

    **Arguments:**

    - `path`: of the file.
    - `data_dir`: where the data of the project's problems are.

    **Raises:**

    `UsageError` naming the field, its value and what is valid; `DataError` if the data
    cannot be had.
    """
    study, text = read_study(path)
    problem = _problem(study.problem, data_dir)
    _check_metric(study, problem)
    grid = {name: numbers(values) for name, values in study.hyperparameters.items()}
    scope = Scope(
        steps=study.steps,
        known=known_objects(problem, study.steps),
        variables={"steps": study.steps, "steps_per_epoch": problem.steps_per_epoch},
    )
    plan = Plan(
        study,
        text,
        problem,
        strategies_of(study.strategies, grid, scope),
        families_of(study, scope),
        grid,
        curvopt.Execution(**msgspec.structs.asdict(study.execution)),
    )
    _check_steps(plan)
    return plan
