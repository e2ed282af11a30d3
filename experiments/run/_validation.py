"""Structs from the values of a file, with errors that name the field."""

import re
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from .._names import UsageError


_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


_LIMITS = {
    " of length >= ": " of length at least ",
    " >= ": " of at least ",
    " <= ": " of at most ",
    " > ": " above ",
}


def _join(path: str, further: str) -> str:
    return f"{path}{further}" if path else further.removeprefix(".")


def quoted(section: str, name: str) -> str:
    """The path of a named table, as the file writes it."""
    return f'{section}."{name}"'


def _members(kind: Any) -> Iterator[Any]:
    """The structs and literals in a type, unions and annotations unpacked."""
    arguments = typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    elif typing.get_origin(kind) is typing.Literal:
        yield from arguments
    else:
        for argument in arguments:
            yield from _members(argument)


def _at(kind: Any, value: Any, steps: list[str]) -> tuple[Any, Any]:
    """The type and the value at a path. msgspec writes `...` for an unknown entry of a list
    or table, for which it is the whole list or table."""
    for step in steps:
        if step.isdecimal():
            value = value[int(step)]
        elif step != "...":
            structs = (m for m in _members(kind) if isinstance(m, type))
            fields = (f for s in structs for f in msgspec.structs.fields(s))
            kind = next((f.type for f in fields if f.encode_name == step), None)
            value = value[step]
    return kind, value


def field_names(kind: Any) -> str:
    """The fields of the structs in a type, as readable text."""
    structs = (m for m in _members(kind) if isinstance(m, type))
    return ", ".join(f.encode_name for s in structs for f in msgspec.structs.fields(s))


def _expected(text: str) -> str:
    """msgspec's names of types in plain words: `int | array` is an integer or a list."""
    types, _, limit = text.removeprefix("`").partition("`")
    names = [name for name in types.split(" | ") if name != "null"]
    for sign, words in _LIMITS.items():
        limit = limit.replace(sign, words)
    return " or ".join(_WORDS.get(name, name) for name in names) + limit


def _readable(message: str, kind: Any, value: Any, path: str) -> str:
    what, _, at = message.partition(" - at `$")
    at = at.removesuffix("`")
    own, found = _at(kind, value, re.findall(r"\w+|\.\.\.", at))
    where = _join(path, at)
    if m := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        name = _join(where, f".{m[1]}")
        return f"unknown field {name}; valid are: {field_names(own)}."
    if m := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"the field {_join(where, f'.{m[1]}')} is missing."
    if what.startswith("Invalid enum value"):
        valid = ", ".join(map(repr, _members(own)))
        return f"{where} must be one of {valid}, but it is {found!r}."
    if m := re.fullmatch(r"Expected (.*?)(, got .*)?", what):
        return f"{where} must be {_expected(m[1])}, but it is {found!r}."
    return f"{where}: {what}" if where else what


def convert(value: Any, kind: Any, path: str = "") -> Any:
    """Convert a value of a file to a struct, or to any type that `msgspec` supports.

    **Arguments:**

    - `value`: made of plain tables, lists, strings and numbers.
    - `kind`: the type.
    - `path`: the value's place in the file.

    **Raises:**

    `UsageError` naming the path of the field, its value and what is valid.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(_readable(str(error), kind, value, path)) from error
