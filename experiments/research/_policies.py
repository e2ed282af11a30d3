"""Where the rescaling measures, for directions with memory: the policies compared."""

from collections.abc import Callable, Iterable

import numpy as np
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
from ._families import DIRECTIONS, Family, rescaled
from ._grids import FAR_SCALES, SCALES


FRESH = "fresh, 0.9"
FRESH_LONG = "fresh, 0.99"
DIRECTION = "direction, 0.9"
DIRECTION_LONG = "direction, 0.99"
SIGNED = "direction, signed, 0.99"
DISPLACEMENTS = "displacements, 0.9"
PLANE = "plane"
BARE = "no averages"

# Of a direction's name and a schedule.
Policy = Callable[[str, optax.Schedule | None], Family]

# With them the edge of a direction with memory is far above 1.
_FAR = (FRESH, FRESH_LONG, DISPLACEMENTS)

# What of each direction has no memory: its momentum is then one of displacements.
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
        # A step of 1 leads to the minimiser, which is an ell of 1/2.
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


def _joined(data: xr.Dataset, beyond: xr.Dataset) -> xr.Dataset:
    """Runs at more values of the number. What was not run has no losses, and did not
    diverge."""
    missing = {
        name: of.dtype.type(-1 if name == "diverged_at" else 0)
        for name, of in data.items()
        if of.dtype.kind in "biu"
    }
    floats = {name: np.nan for name in data if name not in missing}
    beyond = beyond.reindex(strategy=data.strategy, fill_value=missing | floats)
    # What does not depend on the number stays that of the first runs.
    alone = [name for name, of in data.items() if "ell" not in of.dims]
    both = [data.drop_vars(alone), beyond.drop_vars(alone)]
    return xr.concat(both, dim="ell", join="exact").assign(data[alone])


def scales(bench: Bench, asked: Iterable[tuple[str, str, str]]) -> xr.Dataset:
    r"""Rescaled strategies at all values of $\ell$.

    **Arguments:**

    - `bench`: on what.
    - `asked`: direction, policy and kind of schedule of each.

    **Returns:**

    The runs, nan at values that a strategy was not tried at; `strategy` has the
    coordinates `direction`, `policy` and `schedule`.
    """
    asked = list(asked)
    families = {
        ", ".join(which): POLICIES[which[1]](which[0], bench.schedule(which[2]))
        for which in asked
    }
    data = bench.sweep("scales", families, {"ell": SCALES})
    far = {
        name: family
        for (direction, policy, _), (name, family) in zip(asked, families.items())
        if direction in _MEMORYLESS and policy in _FAR
    }
    if far:
        beyond = bench.sweep("scales-far", far, {"ell": FAR_SCALES})
        data = _joined(data, beyond)
    parts = zip(("direction", "policy", "schedule"), zip(*asked))
    return data.assign_coords({name: ("strategy", list(of)) for name, of in parts})
