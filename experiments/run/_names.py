"""What can be named in a file: the classes of this project, and its catalogue."""

import functools
import importlib
import inspect
import operator
import types
from collections.abc import Callable, Mapping
from typing import Any

import optax

import curvopt
import strategies

from .._catalogue import DIRECTIONS, LINE_SEARCHES, TUNED, UsageError


KINDS: dict[type, str] = {
    curvopt.AbstractDirection: "direction",
    curvopt.AbstractLineSearch: "line search",
    curvopt.AbstractCurvatureMethod: "curvature method",
    curvopt.AbstractProblem: "problem",
}

_SCHEDULES: dict[str, Callable[[int], optax.Schedule | None]] = {
    "constant": lambda steps: None,
    "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
    "linear": lambda steps: optax.linear_schedule(1.0, 0.0, steps),
}

SCHEDULES = tuple(_SCHEDULES)


@functools.cache
def schedule(kind: str, steps: int) -> optax.Schedule | None:
    """A schedule with peak 1 over a run, the same function every time; `None` for the
    constant."""
    return _SCHEDULES[kind](steps)


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
    """By kind, what has a name: objects, and classes or functions that make them."""

    def of_catalogue(key: str) -> Callable[[], curvopt.AbstractLineSearch]:
        # The catalogue's rules are the same for every direction.
        solver = LINE_SEARCHES[key].solver
        assert solver is not None
        return lambda: solver(strategies.SGD(), problem, steps).line_search

    directions = _exported(strategies, curvopt.AbstractDirection)
    rules = _exported(strategies, curvopt.AbstractLineSearch)
    return {
        curvopt.AbstractDirection: {
            **directions,
            **{key: entry.direction for key, entry in DIRECTIONS.items()},
        },
        curvopt.AbstractLineSearch: {
            **rules,
            **{key: of_catalogue(key) for key in LINE_SEARCHES if key != TUNED},
        },
        curvopt.AbstractCurvatureMethod: _exported(
            curvopt, curvopt.AbstractCurvatureMethod
        ),
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


def load(path: str, name: str) -> Any:
    """What `module:name` names.

    **Raises:**

    `UsageError` if it cannot be loaded.
    """
    module, _, attribute = name.partition(":")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:
        raise UsageError(
            f"{path}: {name!r} cannot be loaded: {type(error).__name__}: {error}. It is "
            "module:name, of a module that Python finds from the folder in which the "
            "command is run."
        ) from error


def find(path: str, kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """What a name stands for: one of those known, or one's own, `module:name`.

    **Raises:**

    `UsageError` naming the valid names.
    """
    if ":" in name:
        return load(path, name)
    if name not in known:
        raise UsageError(
            f"{path}: unknown {kind} {name!r}; valid are: {', '.join(known)}, or your own "
            "as module:name."
        )
    return known[name]
