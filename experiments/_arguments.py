"""Parsing of arguments where tyro is not installed."""

import argparse
import dataclasses
import inspect
import typing
from collections.abc import Sequence
from typing import Any


def parse(config: type, arguments: Sequence[str], program: str) -> Any:
    """Parse the command line into an instance of a dataclass.

    **Arguments:**

    - `config`: the dataclass. Its fields are booleans, tuples of one type, or of a type
        that can be called with a string; each has a default.
    - `arguments`: `--name value`; `--name` and `--no-name` for booleans.
    - `program`: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(program, description=inspect.getdoc(config))
    types = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kind, flag = types[field.name], f"--{field.name.replace('_', '-')}"
        help = f"default: {field.default}"
        if kind is bool:
            how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        elif typing.get_origin(kind) is tuple:
            how = {"nargs": "*", "type": typing.get_args(kind)[0]}
        else:
            how = {"type": kind}
        parser.add_argument(flag, default=field.default, help=help, **how)
    found = vars(parser.parse_args(arguments))
    lists = {k: tuple(x) for k, x in found.items() if isinstance(x, list)}
    return config(**found | lists)
