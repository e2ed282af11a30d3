"""From tables to objects, through their constructors."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

import curvopt

from .._catalogue import UsageError
from ._names import find, KINDS, load, schedule, SCHEDULES


_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclasses.dataclass(frozen=True)
class Scope:
    """What the strings of a table can refer to.

    **Attributes:**

    - `steps`: of the runs, for schedules.
    - `known`: by kind, objects and what makes them, by name.
    - `variables`: what `"$name"` stands for.
    - `swept`: those of them that are hyper-parameters: arrays, while they are run.
    """

    steps: int
    known: Mapping[type, Mapping[str, Any]]
    variables: Mapping[str, Any]
    swept: frozenset[str] = frozenset()

    def plus(self, values: Mapping[str, Any], *, swept: bool) -> "Scope":
        """With further variables."""
        return dataclasses.replace(
            self,
            variables={**self.variables, **values},
            swept=self.swept | (frozenset(values) if swept else frozenset()),
        )


@dataclasses.dataclass(frozen=True)
class _Argument:
    """What is known of an argument.

    **Attributes:**

    - `kind`: the abstract class of the objects that it takes, if it takes objects.
    - `number`: whether it is a hyper-parameter of a strategy.
    - `static`: whether it is part of the program, so that it cannot be swept.
    - `required`: whether it has no default.
    """

    kind: type | None = None
    number: bool = False
    static: bool = False
    required: bool = False


def _kind(annotation: Any) -> type | None:
    """The abstract class in an annotation, which may be a union or a tuple of it."""
    parts = (annotation, *typing.get_args(annotation))
    return next((kind for kind in KINDS for part in parts if part is kind), None)


def _arguments(function: Callable) -> tuple[dict[str, _Argument], bool]:
    """The arguments of a constructor or a function, and whether it takes any others."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # of some that are written in C nothing is known
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
            number = metadata.get("converter") is curvopt.as_hyperparameter
            static = bool(metadata.get("static", False))
            found[name] = _Argument(kind, number, static, p.default is p.empty)
    others = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return found, others


def _variable(value: str, path: str, static: bool, scope: Scope) -> Any:
    name = value.removeprefix("$")
    if name not in scope.variables:
        valid = ", ".join(f"${known}" for known in scope.variables)
        raise UsageError(
            f"{path}: there is no hyper-parameter {value!r}; valid are: {valid}. Write "
            f"`{name} = [...]` in the table [hyperparameters]."
        )
    if static and name in scope.swept:
        raise UsageError(
            f"{path}: this field is part of the program and cannot be a hyper-parameter, "
            f"but it is {value!r}. Write a strategy for each of its values."
        )
    return scope.variables[name]


def _schedule(value: str, path: str, scope: Scope) -> Any:
    if value in SCHEDULES:
        return schedule(value, scope.steps)
    return find(path, "schedule", value, dict.fromkeys(SCHEDULES))


def _loaded(value: str, path: str, scope: Scope) -> Any:
    """What `module:name` is; of a class, the object that it makes without arguments."""
    found = load(path, value)
    return call(found, value, {}, path, scope) if isinstance(found, type) else found


def _value(name: str, value: Any, path: str, argument: _Argument, scope: Scope) -> Any:
    """A value of a table, as the constructor is to have it."""
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
    """A constructor's error at its place in the file."""
    text = str(error)
    if not isinstance(error, ValueError):
        return f"{path}: {type(error).__name__}: {text}"
    # Those of this project begin with the name of the field.
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
    """What a constructor or a function makes of the fields of a table.

    **Arguments:**

    - `function`: the constructor or function.
    - `name`: what it is called in the file.
    - `fields`: as they are in the table.
    - `path`: of the table in the file.
    - `scope`: what strings can refer to.
    - `given`: arguments that are no fields; those that it does not take are left out.

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
            f"the field {path}.{missing[0]} is missing: {name} has no default for it. "
            f'Write {{ name = "{name}", {missing[0]} = ... }}.'
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
    """An object's name and arguments: a string has none, a table has further fields."""
    if isinstance(value, str):
        return value, {}
    fields = dict(value)
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(
            f'{path} must have a name, {{ name = "...", ... }}, but it is {value!r}.'
        )
    return name, fields


def _build_any(value: Any, path: str, scope: Scope) -> Any:
    """An object of whatever class: for arguments that do not say what they take."""
    name, fields = name_and_fields(value, path)
    known = {k: v for of_kind in scope.known.values() for k, v in of_kind.items()}
    return call(find(path, "object", name, known), name, fields, path, scope)


def build(value: Any, path: str, kind: type, scope: Scope) -> Any:
    """An object of a file.

    **Arguments:**

    - `value`: its name, or a table of its name and arguments.
    - `path`: of the value in the file.
    - `kind`: the abstract class that it must be of.
    - `scope`: what strings can refer to.

    **Raises:**

    `UsageError` as [`call`][], or if the name is unknown or makes something else.
    """
    name, fields = name_and_fields(value, path)
    made = find(path, KINDS[kind], name, scope.known.get(kind, {}))
    if not isinstance(made, kind) and callable(made):
        made = call(made, name, fields, path, scope)
    elif fields:
        raise UsageError(
            f"unknown field {path}.{next(iter(fields))}; {name!r} is made already and "
            "takes none. Name its class to choose them."
        )
    if not isinstance(made, kind):
        raise UsageError(f"{path} must be a curvopt.{kind.__name__}, but it is {made!r}.")
    return made
