"""Objects from the tables of a file, made by their constructors."""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

import curvopt
import strategies
from curvopt._declared import Hyperparameter

from .._catalogue import DIRECTIONS, LINE_SEARCHES
from .._names import load, UsageError


_KINDS: dict[type, str] = {
    curvopt.AbstractDirection: "direction",
    curvopt.AbstractLineSearch: "line search",
    curvopt.AbstractCurvatureMethod: "curvature method",
    curvopt.AbstractAverage: "average",
    curvopt.AbstractProblem: "problem",
}

_MAKERS: dict[str, Callable[[int], optax.Schedule | None]] = {
    "constant": lambda steps: None,
    "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
    "linear": lambda steps: optax.linear_schedule(1.0, 0.0, steps),
}

_SCHEDULES = tuple(_MAKERS)


# A schedule is a static field: another function with the same values would compile again.
@functools.cache
def schedule(kind: str, steps: int) -> optax.Schedule | None:
    """A schedule with peak 1 over a run, or `None` for the constant; equal arguments give
    the same function."""
    return _MAKERS[kind](steps)


def _exported(module: types.ModuleType, base: type) -> dict[str, Any]:
    """The concrete classes that a module exports."""
    return {
        name: found
        for name, found in vars(module).items()
        if isinstance(found, type)
        and issubclass(found, base)
        and not inspect.isabstract(found)
    }


def known_objects(
    problem: curvopt.AbstractProblem, steps: int
) -> dict[type, dict[str, Any]]:
    """All named objects by kind, and the classes or functions that make them."""

    sgd = strategies.SGD()
    made = {
        key: entry.solver(sgd, problem, steps)
        for key, entry in LINE_SEARCHES.items()
        if entry.solver is not None
    }
    directions = _exported(strategies, curvopt.AbstractDirection)
    rules = _exported(strategies, curvopt.AbstractLineSearch)
    return {
        curvopt.AbstractDirection: {
            **directions,
            **{key: entry.direction for key, entry in DIRECTIONS.items()},
        },
        curvopt.AbstractLineSearch: {
            **rules,
            # No rule of the catalogue depends on the direction. Recipes that wrap it are
            # left out: a file names them as recipes.
            **{k: s.line_search for k, s in made.items() if s.direction is sgd},
        },
        curvopt.AbstractCurvatureMethod: _exported(
            curvopt, curvopt.AbstractCurvatureMethod
        ),
        curvopt.AbstractAverage: _exported(strategies, curvopt.AbstractAverage),
    }


def known_recipes() -> dict[str, Callable[..., curvopt.LineSearchMinimiser]]:
    """The functions of `strategies.recipes`."""
    module = strategies.recipes
    return {
        name: found
        for name, found in vars(module).items()
        if inspect.isfunction(found)
        and not name.startswith("_")
        and found.__module__ == module.__name__
    }


def find(path: str, kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """The object of a name: a known one, or the user's own as `module:name`.

    **Raises:**

    `UsageError` naming the valid names.
    """
    if ":" in name:
        return load(f"{path}:", name)
    if name not in known:
        raise UsageError(
            f"{path}: unknown {kind} {name!r}; valid are: {', '.join(known)}, or your own "
            "as module:name."
        )
    return known[name]


_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclasses.dataclass(frozen=True)
class Scope:
    """What the strings of a table can refer to.

    **Attributes:**

    - `steps`: the number of steps of a run, for schedules.
    - `known`: objects and their constructors, by kind and name.
    - `variables`: the values of `"$name"`.
    - `swept`: the variables that are hyper-parameters, which are traced arrays in a run.
    """

    steps: int
    known: Mapping[type, Mapping[str, Any]]
    variables: Mapping[str, Any]
    swept: frozenset[str] = frozenset()

    def plus(self, values: Mapping[str, Any], *, swept: bool) -> "Scope":
        """The scope with further variables."""
        return dataclasses.replace(
            self,
            variables={**self.variables, **values},
            swept=self.swept | (frozenset(values) if swept else frozenset()),
        )


@dataclasses.dataclass(frozen=True)
class _Argument:
    """An argument of a constructor.

    **Attributes:**

    - `kind`: the abstract class of the objects that it takes, if it takes objects.
    - `number`: whether it is a hyper-parameter of a strategy.
    - `static`: whether it is compiled into the program, so that it cannot be swept.
    - `required`: whether it has no default.
    """

    kind: type | None = None
    number: bool = False
    static: bool = False
    required: bool = False


def _kind(annotation: Any) -> type | None:
    """The abstract class in an annotation, which may be a union or a tuple of it."""
    parts = (annotation, *typing.get_args(annotation))
    return next((kind for kind in _KINDS for part in parts if part is kind), None)


def _arguments(function: Callable) -> tuple[dict[str, _Argument], bool]:
    """The arguments of a constructor or function, and whether it takes `**kwargs`."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some functions written in C have no signature
        return {}, True
    # A converter hides the type of a field from the signature.
    declared = dataclasses.fields(function) if dataclasses.is_dataclass(function) else ()
    fields = {f.name: f for f in declared}
    found = {}
    for name, p in parameters.items():
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            field = fields.get(name)
            kind = _kind(p.annotation) or (_kind(field.type) if field else None)
            metadata = field.metadata if field else {}
            number = isinstance(metadata.get("declared"), Hyperparameter)
            static = bool(metadata.get("static", False))
            found[name] = _Argument(kind, number, static, p.default is p.empty)
    others = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return found, others


def _variable(value: str, path: str, static: bool, scope: Scope) -> Any:
    name = value.removeprefix("$")
    if name not in scope.variables:
        valid = ", ".join(f"${known}" for known in scope.variables)
        raise UsageError(
            f"{path}: unknown hyper-parameter {value!r}; valid are: {valid}. To add it, "
            f"write `{name} = [...]` in the table [hyperparameters]."
        )
    if static and name in scope.swept:
        raise UsageError(
            f"{path}: this field is compiled into the program and cannot be a "
            f"hyper-parameter, but it is {value!r}. Write one strategy for each value."
        )
    return scope.variables[name]


def _schedule(value: str, path: str, scope: Scope) -> Any:
    if value in _SCHEDULES:
        return schedule(value, scope.steps)
    return find(path, "schedule", value, dict.fromkeys(_SCHEDULES))


def _loaded(value: str, path: str, scope: Scope) -> Any:
    """The object `module:name`; a class is called without arguments."""
    found = load(f"{path}:", value)
    return call(found, value, {}, path, scope) if isinstance(found, type) else found


def _value(name: str, value: Any, path: str, argument: _Argument, scope: Scope) -> Any:
    """A value of a table, as the constructor takes it."""
    if isinstance(value, str) and value.startswith("$"):
        return _variable(value, path, argument.static, scope)
    if argument.number and type(value) not in (int, float):
        raise UsageError(f"{path} must be a number, but it is {value!r}.")
    if isinstance(value, list):
        return tuple(
            _value(name, x, f"{path}[{k}]", argument, scope) for k, x in enumerate(value)
        )
    if isinstance(value, str):
        if argument.kind is not None:
            return build(value, path, argument.kind, scope)
        if name == "schedule":
            return _schedule(value, path, scope)
        return _loaded(value, path, scope) if _OWN.fullmatch(value) else value
    if isinstance(value, dict):
        if argument.kind is not None:
            return build(value, path, argument.kind, scope)
        if "name" in value:
            return _build_any(value, path, scope)
    return value


def _message(path: str, names: Mapping[str, Any], error: Exception) -> str:
    """A constructor's error, with its place in the file."""
    text = str(error)
    if not isinstance(error, ValueError):
        return f"{path}: {type(error).__name__}: {text}"
    # Messages of this project begin with the name of the field.
    first = re.match(r"\w*", text)
    return f"{path}.{text}" if first and first[0] in names else f"{path}: {text}"


def call(
    function: Callable,
    name: str,
    fields: Mapping[str, Any],
    path: str,
    scope: Scope,
    given: Mapping[str, Any] | None = None,
) -> Any:
    """Call a constructor or a function with the fields of a table.

    **Arguments:**

    - `function`: the constructor or function.
    - `name`: its name in the file.
    - `fields`: the fields of the table.
    - `path`: the table's place in the file.
    - `scope`: what strings can refer to.
    - `given`: further arguments; those that the function does not take are dropped.

    **Raises:**

    `UsageError` naming the field and its value, or the valid fields.
    """
    arguments, others = _arguments(function)
    given = {k: v for k, v in (given or {}).items() if k in arguments}
    own = {k: a for k, a in arguments.items() if k not in given}
    valid = f"valid are: {', '.join(own)}" if own else f"{name} takes none"
    for field in fields:
        if field not in own and not others:
            raise UsageError(f"unknown field {path}.{field}; {valid}.")
    missing = [k for k, a in own.items() if a.required and k not in fields]
    if missing:
        raise UsageError(
            f"the field {path}.{missing[0]} is missing and has no default. Write "
            f'{{ name = "{name}", {missing[0]} = ... }}.'
        )
    plain = _Argument()
    values = {
        field: _value(field, value, f"{path}.{field}", own.get(field, plain), scope)
        for field, value in fields.items()
    }
    try:
        return function(**given, **values)
    except Exception as error:
        raise UsageError(_message(path, own, error)) from error


def name_and_fields(value: Any, path: str) -> tuple[str, dict[str, Any]]:
    """An object's name and arguments; a string is a name without arguments."""
    if isinstance(value, str):
        return value, {}
    fields = dict(value)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(
            f'{path} must be a table with a name, {{ name = "...", ... }}, but it is '
            f"{value!r}."
        )
    return name, fields


def _build_any(value: Any, path: str, scope: Scope) -> Any:
    """An object of any class, for arguments whose annotation names none."""
    name, fields = name_and_fields(value, path)
    known = {k: v for of_kind in scope.known.values() for k, v in of_kind.items()}
    return call(find(path, "object", name, known), name, fields, path, scope)


def build(value: Any, path: str, kind: type, scope: Scope) -> Any:
    """Make an object that a file describes.

    **Arguments:**

    - `value`: its name, or a table of its name and arguments.
    - `path`: the value's place in the file.
    - `kind`: the abstract class that it must be an instance of.
    - `scope`: what strings can refer to.

    **Raises:**

    `UsageError` as in [`call`][], or if the name is unknown or is not of that class.
    """
    name, fields = name_and_fields(value, path)
    made = find(path, _KINDS[kind], name, scope.known.get(kind, {}))
    if not isinstance(made, kind) and callable(made):
        made = call(made, name, fields, path, scope)
    elif fields:
        raise UsageError(
            f"unknown field {path}.{next(iter(fields))}; {name!r} is an instance and takes "
            "no arguments. Name its class to choose them."
        )
    if not isinstance(made, kind):
        raise UsageError(f"{path} must be a curvopt.{kind.__name__}, but it is {made!r}.")
    return made


def problem_of(
    value: Any, known: Mapping[str, Callable[[], curvopt.AbstractProblem]]
) -> curvopt.AbstractProblem:
    """The problem of a file: a known one, or the user's own with its arguments."""
    kind = curvopt.AbstractProblem
    return build(value, "problem", kind, Scope(1, {kind: known}, {}))


def scope_of(problem: curvopt.AbstractProblem, steps: int) -> Scope:
    """What strategies of a file can refer to."""
    variables = {"steps": steps, "steps_per_epoch": problem.steps_per_epoch}
    return Scope(steps, known_objects(problem, steps), variables)


def solver_of(table: Any, path: str, scope: Scope) -> curvopt.LineSearchMinimiser:
    """The solver of a table: a direction, a line search or a recipe, and optionally a
    curvature method and an average.

    **Raises:**

    `UsageError` naming the field and its value.
    """
    way = build(table.direction, f"{path}.direction", curvopt.AbstractDirection, scope)
    own = {}
    kinds = {
        "curvature": curvopt.AbstractCurvatureMethod,
        "average": curvopt.AbstractAverage,
    }
    for field, kind in kinds.items():
        if (value := getattr(table, field)) is not None:
            own[field] = build(value, f"{path}.{field}", kind, scope)
    if table.recipe is None:
        kind = curvopt.AbstractLineSearch
        rule = build(table.line_search, f"{path}.line_search", kind, scope)
        return curvopt.LineSearchMinimiser(way, rule, **own)
    at = f"{path}.recipe"
    name, fields = name_and_fields(table.recipe, at)
    function = find(at, "recipe", name, known_recipes())
    given = {"direction": way, "steps": scope.steps}
    made = call(function, name, fields, at, scope, given)
    if not isinstance(made, curvopt.LineSearchMinimiser):
        raise UsageError(
            f"{at} must return a curvopt.LineSearchMinimiser, but {name!r} returns "
            f"{made!r}."
        )
    return dataclasses.replace(made, **own)


def family_of(
    table: Any, path: str, scope: Scope, grid: Mapping[str, Sequence[float]]
) -> curvopt.LineSearchMinimiser | curvopt.Family:
    """The solver of a table, or a family of solvers if there is a grid.

    **Raises:**

    `UsageError` naming the field and its value. For a family it is raised when a member is
    made, and names the point of the grid too.
    """
    if not grid:
        return solver_of(table, path, scope)

    def solver(**point: Any) -> curvopt.LineSearchMinimiser:
        try:
            return solver_of(table, path, scope.plus(point, swept=True))
        except UsageError as error:
            at = ", ".join(f"{name} = {float(x):g}" for name, x in point.items())
            raise UsageError(f"{error} (At {at}.)") from error

    taken = [name for name in grid if name in scope.variables]
    if taken:
        raise UsageError(
            f"{path}: a hyper-parameter cannot be called {taken[0]!r}, which is reserved. "
            "Rename it."
        )
    try:
        return curvopt.Family(solver, **grid)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
