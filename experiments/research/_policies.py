"""The policies of where the rescaling measures, for directions with memory."""

from collections.abc import Callable, Iterable

import optax
import xarray as xr

import curvopt
from strategies import (
    CurvatureRescaling,
    DisplacementMomentum,
    GrowthLimited,
    HyperplaneSearch,
    LearningRate,
    RMSProp,
    SGD,
)

from ._bench import Bench
from ._families import DIRECTIONS, Family, FAR_SCALES, rescaled, SCALES


FRESH = "fresh, 0.9"
FRESH_LONG = "fresh, 0.99"
DIRECTION = "direction, 0.9"
DIRECTION_LONG = "direction, 0.99"
SIGNED = "direction, signed, 0.99"
DISPLACEMENTS = "displacements, 0.9"
PLANE = "plane"
BARE = "no averages"

# Maps a direction's name and a schedule to a family.
Policy = Callable[[str, optax.Schedule | None], Family]

# Under these policies a direction with memory has its edge far above 1.
_FAR = (FRESH, FRESH_LONG, DISPLACEMENTS)

# The memoryless part of each direction, to which momentum of displacements is added.
_MEMORYLESS: dict[str, curvopt.AbstractDirection] = {
    "Momentum": SGD(),
    "Adam": RMSProp(),
}


def _along(along: str, average: float, **options) -> Policy:
    return lambda direction, decay: rescaled(
        DIRECTIONS[direction], decay, along=along, average=average, **options
    )


def _displacements(direction: str, decay: optax.Schedule | None) -> Family:
    def solver(ell) -> curvopt.LineSearchMinimiser:
        rule = GrowthLimited(CurvatureRescaling(ell, decay, average=0.9))
        moved = DisplacementMomentum(_MEMORYLESS[direction], rule)
        return curvopt.LineSearchMinimiser(moved, LearningRate(1.0))

    return solver


def _plane(direction: str, decay: optax.Schedule | None) -> Family:
    """The best point of the plane of the memoryless part and the direction."""
    plane = HyperplaneSearch((_MEMORYLESS[direction], DIRECTIONS[direction]))

    def solver(ell) -> curvopt.LineSearchMinimiser:
        # A step of 1 leads to the minimiser of the plane, which is ell = 1/2.
        rule = GrowthLimited(LearningRate(2 * ell, decay))
        return curvopt.LineSearchMinimiser(plane, rule)

    return solver


POLICIES: dict[str, Policy] = {
    BARE: _along("fresh", 0.0),
    FRESH: _along("fresh", 0.9),
    FRESH_LONG: _along("fresh", 0.99),
    DIRECTION: _along("direction", 0.9),
    DIRECTION_LONG: _along("direction", 0.99),
    SIGNED: _along("direction", 0.99, ascent="signed"),
    DISPLACEMENTS: _displacements,
    PLANE: _plane,
}


def _values(direction: str, policy: str) -> list[float]:
    far = direction in _MEMORYLESS and policy in _FAR
    return [*SCALES, *FAR_SCALES] if far else SCALES


def scales(bench: Bench, asked: Iterable[tuple[str, str, str]]) -> xr.Dataset:
    r"""Run rescaled strategies at all values of $\ell$.

    **Arguments:**

    - `bench`: the setting.
    - `asked`: direction, policy and kind of schedule of each strategy.

    **Returns:**

    The runs, nan at values that were not tried with a strategy; `strategy` has the
    coordinates `direction`, `policy` and `schedule`.
    """
    asked = list(asked)
    families = {
        ", ".join(which): curvopt.Family(
            POLICIES[which[1]](which[0], bench.schedule(which[2])),
            ell=_values(which[0], which[1]),
        )
        for which in asked
    }
    data = bench.sweep("scales", families)
    parts = zip(("direction", "policy", "schedule"), zip(*asked))
    return data.assign_coords({name: ("strategy", list(values)) for name, values in parts})
