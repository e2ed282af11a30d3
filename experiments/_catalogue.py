"""What the command line knows by name."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import curvopt
from strategies import (
    Adam,
    BacktrackingArmijo,
    CDAT,
    Momentum,
    recipes,
    RMSProp,
    SGD,
)


class UsageError(ValueError):
    """Something on the command line that cannot be run, with the remedy."""


@dataclasses.dataclass(frozen=True)
class Direction:
    """A direction, and the range over which its learning rate is tuned.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `direction`: the strategy.
    - `lowest`, `highest`: ends of the logarithmic grid of learning rates.
    """

    label: str
    direction: curvopt.AbstractDirection
    lowest: float
    highest: float


@dataclasses.dataclass(frozen=True)
class LineSearch:
    """A way to step, given the direction and the number of steps.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `solver`: makes the solver; `None` for the tuned learning rate, which is chosen
        on tuning seeds.
    """

    label: str
    solver: Callable[[curvopt.AbstractDirection, int], Any] | None


DIRECTIONS = {
    "sgd": Direction("SGD", SGD(), 1e-2, 1e1),
    "momentum": Direction("Momentum", Momentum(), 1e-2, 1e1),
    "rmsprop": Direction("RMSProp", RMSProp(), 1e-4, 1e-1),
    "adam": Direction("Adam", Adam(), 1e-4, 1e-1),
}

TUNED = "tuned"

LINE_SEARCHES = {
    TUNED: LineSearch("tuned rate", None),
    "rescaled-constant": LineSearch(
        "rescaled (constant)", lambda d, steps: recipes.rescaled_constant(d)
    ),
    "rescaled": LineSearch(
        "rescaled (cosine)", lambda d, steps: recipes.rescaled(d, steps=steps)
    ),
    "armijo": LineSearch(
        "Armijo",
        lambda d, steps: curvopt.LineSearchMinimiser(d, BacktrackingArmijo()),
    ),
    "cdat": LineSearch("CDAT", lambda d, steps: curvopt.LineSearchMinimiser(d, CDAT())),
}


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
