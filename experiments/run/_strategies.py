"""The strategies of a file, as `curvopt.run_study` takes them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import msgspec

import curvopt

from .._catalogue import UsageError
from ._file import Object, StrategyTable, StudyFile
from ._names import find, known_recipes
from ._objects import build, call, name_and_fields, Scope
from ._validation import quoted


Family = Callable[..., curvopt.LineSearchMinimiser]


def composed(
    direction: Object,
    line_search: Object,
    curvature: Object | None,
    path: str,
    scope: Scope,
) -> curvopt.LineSearchMinimiser:
    """The solver of a direction and a line search."""
    way = build(direction, f"{path}.direction", curvopt.AbstractDirection, scope)
    rule = build(line_search, f"{path}.line_search", curvopt.AbstractLineSearch, scope)
    return curvopt.LineSearchMinimiser(way, rule, **_curvature(curvature, path, scope))


def _curvature(curvature: Object | None, path: str, scope: Scope) -> dict[str, Any]:
    if curvature is None:
        return {}
    kind = curvopt.AbstractCurvatureMethod
    return {"curvature": build(curvature, f"{path}.curvature", kind, scope)}


def _of_recipe(
    table: StrategyTable, recipe: Object, path: str, scope: Scope
) -> curvopt.LineSearchMinimiser:
    at = f"{path}.recipe"
    way = build(table.direction, f"{path}.direction", curvopt.AbstractDirection, scope)
    name, fields = name_and_fields(recipe, at)
    function = find(at, "recipe", name, known_recipes())
    given = {"direction": way, "steps": scope.steps}
    made = call(function, name, fields, at, scope, given)
    if not isinstance(made, curvopt.LineSearchMinimiser):
        raise UsageError(
            f"{at} must make a curvopt.LineSearchMinimiser of a direction, but {name!r} "
            f"makes {made!r}."
        )
    own = _curvature(table.curvature, path, scope)
    if not own:
        return made
    return curvopt.LineSearchMinimiser(made.direction, made.line_search, **own)


def _solver(table: StrategyTable, path: str, scope: Scope) -> curvopt.LineSearchMinimiser:
    if table.recipe is not None:
        return _of_recipe(table, table.recipe, path, scope)
    assert table.line_search is not None
    return composed(table.direction, table.line_search, table.curvature, path, scope)


def refers_to(value: object, variable: str) -> bool:
    """Whether a variable, `"$name"`, is anywhere in a value of a file."""
    if isinstance(value, dict):
        return any(refers_to(x, variable) for x in value.values())
    if isinstance(value, list):
        return any(refers_to(x, variable) for x in value)
    return value == variable


def own_values(
    study: StudyFile, points: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Of the points of strategies, the hyper-parameters that each refers to; a strategy
    that was tuned refers to none."""
    tables = {name: msgspec.to_builtins(table) for name, table in study.strategies.items()}
    return {
        name: {
            knob: x for knob, x in point.items() if refers_to(tables.get(name), f"${knob}")
        }
        for name, point in points.items()
    }


def first_of(
    family: Family, grid: Mapping[str, Sequence[float]]
) -> curvopt.LineSearchMinimiser:
    """A family's solver at the first point of its grid."""
    return family(**{name: jnp.asarray(values[0]) for name, values in grid.items()})


def check_points(family: Family, grid: Mapping[str, Sequence[float]]) -> None:
    """Make a family at every point of its grid, for the errors of single values.

    **Raises:**

    `UsageError` naming the point.
    """
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values))
        try:
            family(**{name: jnp.asarray(x) for name, x in point.items()})
        except UsageError as error:
            at = ", ".join(f"{name} = {x:g}" for name, x in point.items())
            raise UsageError(f"{error} (At {at}.)") from error


def strategies_of(
    tables: Mapping[str, StrategyTable],
    grid: Mapping[str, Sequence[float]],
    scope: Scope,
) -> dict[str, curvopt.LineSearchMinimiser | Family]:
    """Solvers by name; with a grid, functions of its hyper-parameters, by keyword, of
    which each uses what it refers to.

    **Raises:**

    `UsageError` naming the strategy, the field and its value.
    """

    written = msgspec.to_builtins(dict(tables))
    for name in grid:
        if not refers_to(written, f"${name}"):
            raise UsageError(
                f'hyperparameters.{name}: no strategy has "${name}" in it, so that all its '
                "values would be the same. Leave it out, or refer to it."
            )

    def family(table: StrategyTable, path: str) -> Family:
        return lambda **point: _solver(table, path, scope.plus(point, swept=True))

    made: dict[str, curvopt.LineSearchMinimiser | Family] = {}
    for name, table in tables.items():
        path = quoted("strategies", name)
        if not grid:
            made[name] = _solver(table, path, scope)
            continue
        made[name] = own = family(table, path)
        check_points(own, grid)
    return made
