"""What is called by name: an entry of a catalogue, or one's own, `module:name`."""

import importlib
import operator
from collections.abc import Iterable, Mapping
from typing import Any


class UsageError(ValueError):
    """Something that was asked for and cannot be run, with the remedy."""


def choose(kind: str, known: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The entries of a catalogue that were asked for, in that order.

    **Raises:**

    `UsageError` naming the valid names, if one is unknown or none is given.
    """
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        problem = f"unknown {kind} {', '.join(unknown)}" if unknown else f"no {kind}"
        raise UsageError(f"{problem}; valid are: {', '.join(known)}.")
    return {name: known[name] for name in names}


def load(what: str, name: str) -> Any:
    """What `module:name` names.

    **Raises:**

    `UsageError` if it cannot be loaded; it begins with `what` was named.
    """
    module, _, attribute = name.partition(":")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:
        raise UsageError(
            f"{what} {name!r} cannot be loaded: {type(error).__name__}: {error}. It is "
            "module:name, of a module that Python finds from the folder in which the "
            "command is run."
        ) from error


def load_instance(kind: str, name: str, base: type) -> Any:
    """What `module:name` names, an instance of a class of curvopt or what makes one.

    **Raises:**

    `UsageError` if it cannot be loaded or made, or is something else.
    """
    found = load(kind, name)
    if not isinstance(found, base) and callable(found):
        attribute = name.partition(":")[2]
        try:
            found = found()
        except Exception as error:
            raise UsageError(
                f"{kind} {name!r} cannot be made without arguments: {error}. Name an "
                "instance instead: write, in the module, for example "
                f"`mine = {attribute}(0.1)`."
            ) from error
    if not isinstance(found, base):
        raise UsageError(
            f"{kind} {name!r} must be a curvopt.{base.__name__}, but it is {found!r}."
        )
    return found
