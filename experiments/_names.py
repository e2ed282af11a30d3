"""Objects by name: an entry of a catalogue, or the user's own as `module:name`."""

import importlib
import operator
from collections.abc import Iterable, Mapping
from typing import Any


class UsageError(ValueError):
    """A command, option or file that cannot be run; the message names the remedy."""


def choose(kind: str, known: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The named entries of a catalogue, in the order of the names.

    **Raises:**

    `UsageError` listing the valid names, if a name is unknown or none is given.
    """
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        problem = f"unknown {kind} {', '.join(unknown)}" if unknown else f"no {kind}"
        raise UsageError(f"{problem}; valid are: {', '.join(known)}.")
    return {name: known[name] for name in names}


def load(what: str, name: str) -> Any:
    """Load the object `module:name`.

    **Raises:**

    `UsageError` if it cannot be loaded; the message begins with `what`.
    """
    module, _, attribute = name.partition(":")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:
        raise UsageError(
            f"{what} {name!r} cannot be loaded: {type(error).__name__}: {error}. Write "
            "module:name, with a module that Python can import from the current folder."
        ) from error


def load_instance(kind: str, name: str, base: type) -> Any:
    """Load `module:name`, an instance of `base` or a callable that returns one.

    **Raises:**

    `UsageError` if it cannot be loaded or called, or is something else.
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
