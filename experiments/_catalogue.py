"""The problems, directions and line searches that the command line knows by name."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import curvopt
from strategies import (
    Adam,
    Backtracking,
    BacktrackingArmijo,
    BarzilaiBorwein,
    CDAT,
    CurvatureRescaling,
    EveryK,
    ForwardGradient,
    GeneralizedNewton,
    HessianAwareScaling,
    HyperplaneSearch,
    INNAprop,
    LBFGS,
    LearningRate,
    Momentum,
    NonlinearCG,
    Polyak,
    recipes,
    RMSProp,
    SGD,
    StepTuned,
    StochasticArmijo,
)

from ._names import choose, load_instance
from .data import data_folder
from .problems import PROBLEMS


@dataclasses.dataclass(frozen=True)
class Direction:
    """A direction and the range over which its learning rate is tuned.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `direction`: the strategy.
    - `lowest`, `highest`: the ends of the logarithmic grid of learning rates.
    """

    label: str
    direction: curvopt.AbstractDirection
    lowest: float
    highest: float

    def learning_rates(self, number: int) -> list[float]:
        """The grid, with `number` values per three decades of the range."""
        decades = np.log10(self.highest / self.lowest)
        points = 1 + round((number - 1) * decades / 3)
        return np.geomspace(self.lowest, self.highest, points).tolist()


@dataclasses.dataclass(frozen=True)
class LineSearch:
    """A line search, and how it makes a solver.

    **Attributes:**

    - `label`: its name in tables and figures.
    - `solver`: makes the solver from a direction, a problem and the number of steps; `None`
        for the tuned learning rate.
    """

    label: str
    solver: (
        Callable[
            [curvopt.AbstractDirection, curvopt.AbstractProblem, int],
            curvopt.LineSearchMinimiser,
        ]
        | None
    )


def _always(label: str, rule: curvopt.AbstractLineSearch) -> LineSearch:
    """A rule that depends on neither the problem nor the number of steps."""
    return LineSearch(label, lambda d, problem, steps: curvopt.LineSearchMinimiser(d, rule))


DIRECTIONS = {
    "sgd": Direction("SGD", SGD(), 1e-2, 1e1),
    "momentum": Direction("Momentum", Momentum(), 1e-2, 1e1),
    "rmsprop": Direction("RMSProp", RMSProp(), 1e-4, 1e-1),
    "adam": Direction("Adam", Adam(), 1e-4, 1e-1),
    "nonlinear-cg": Direction("NonlinearCG", NonlinearCG(), 1e-3, 1e0),
    "lbfgs": Direction("LBFGS", LBFGS(), 1e-3, 1e0),
    "forward-gradient": Direction("ForwardGradient", ForwardGradient(), 1e-5, 1e-2),
    "innaprop": Direction("INNAprop", INNAprop(), 1e-1, 1e1),
    "plane": Direction(
        "plane of SGD and momentum", HyperplaneSearch((SGD(), Momentum())), 1e-2, 1e0
    ),
}

TUNED = "tuned"

LINE_SEARCHES = {
    TUNED: LineSearch("tuned rate", None),
    "hindsight": LineSearch(
        "hindsight", lambda d, problem, steps: recipes.hindsight(d, steps=steps)
    ),
    "hindsight-no-horizon": LineSearch(
        "hindsight, no horizon", lambda d, problem, steps: recipes.hindsight(d)
    ),
    "layerwise": LineSearch(
        "layerwise", lambda d, problem, steps: recipes.layerwise(d, steps=steps)
    ),
    "layerwise-no-horizon": LineSearch(
        "layerwise, no horizon", lambda d, problem, steps: recipes.layerwise(d)
    ),
    "rescaled-constant": LineSearch(
        "rescaled (constant)", lambda d, problem, steps: recipes.rescaled_constant(d)
    ),
    "rescaled": LineSearch(
        "rescaled (cosine)", lambda d, problem, steps: recipes.rescaled(d, steps=steps)
    ),
    "unit": _always("step of 1", LearningRate(1.0)),
    "cdat": _always("CDAT", CDAT()),
    "gen": _always("GeN", EveryK(GeneralizedNewton(), 4)),
    "armijo": _always("Armijo", BacktrackingArmijo()),
    "sls": LineSearch(
        "SLS",
        lambda d, problem, steps: curvopt.LineSearchMinimiser(
            d, StochasticArmijo(steps_per_epoch=problem.steps_per_epoch)
        ),
    ),
    "sps": LineSearch(
        "SPS",
        lambda d, problem, steps: curvopt.LineSearchMinimiser(
            d, Polyak(steps_per_epoch=problem.steps_per_epoch)
        ),
    ),
    "bb": LineSearch(
        "Barzilai-Borwein",
        lambda d, problem, steps: curvopt.LineSearchMinimiser(
            d,
            BarzilaiBorwein(
                0.1,
                every=problem.steps_per_epoch,
                average=max(0.0, 1 - 10 / problem.steps_per_epoch),
            ),
        ),
    ),
    "step-tuned": _always("Step-Tuned", StepTuned(0.5)),
    "hessian-aware": _always("Hessian-aware", HessianAwareScaling()),
    "backtracking": _always("rescaled, backtracking", Backtracking(CurvatureRescaling())),
}


def known_problems(
    data_dir: Path | None,
) -> dict[str, Callable[[], curvopt.AbstractProblem]]:
    """Functions that make the project's problems, by name.

    **Arguments:**

    - `data_dir`: the folder with their data.

    **Raises:**

    `DataError` if the folder does not exist, even if no problem needs it.
    """
    if data_dir is not None:
        data_folder(data_dir)
    return {name: functools.partial(make, data_dir) for name, make in PROBLEMS.items()}


def problem_named(name: str, data_dir: Path | None) -> curvopt.AbstractProblem:
    """A problem by name, or the user's own as `module:name`.

    **Raises:**

    `UsageError` if the name is unknown; `DataError` if the data cannot be loaded.
    """
    known = known_problems(data_dir)
    if ":" in name:
        return load_instance("problem", name, curvopt.AbstractProblem)
    return choose("problem", known, [name])[name]()


def _choose_with_own(
    kind: str,
    known: Mapping[str, Any],
    names: Iterable[str],
    base: type,
    entry: Callable[[str, Any], Any],
) -> dict[str, Any]:
    names = list(dict.fromkeys(names))
    own = [name for name in names if ":" in name]
    short = [name.partition(":")[2] for name in own]
    # Labels must be distinct: where the short name is not, the label is the whole name.
    taken = [*short, *(e.label for e in known.values())]
    labels = [s if taken.count(s) == 1 else name for s, name in zip(short, own)]
    loaded = {
        name: entry(label, load_instance(kind, name, base))
        for label, name in zip(labels, own)
    }
    return choose(kind, {**known, **loaded}, names)


def choose_directions(names: Iterable[str]) -> dict[str, Direction]:
    """Directions by name, or the user's own as `module:name`, whose learning rate is tuned
    over a wider range.

    **Raises:**

    `UsageError` as in `choose`, or if one cannot be loaded.
    """
    entry = lambda label, direction: Direction(label, direction, 1e-4, 1e1)
    return _choose_with_own(
        "direction", DIRECTIONS, names, curvopt.AbstractDirection, entry
    )


def choose_line_searches(names: Iterable[str]) -> dict[str, LineSearch]:
    """Line searches by name, or the user's own as `module:name`.

    **Raises:**

    `UsageError` as in `choose`, or if one cannot be loaded.
    """
    return _choose_with_own(
        "line search", LINE_SEARCHES, names, curvopt.AbstractLineSearch, _always
    )
