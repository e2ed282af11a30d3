"""What a run is measured against: steps, cost, time."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from .._runs import check_dimensions


CLOCKS = ("step", "gradient_equivalents", "seconds")


def chosen_clocks(data: xr.Dataset, clocks: Sequence[str] | None) -> list[str]:
    """The clocks to draw: those asked for, or all that the dataset has.

    **Raises:**

    `ValueError` if there is no such clock, or the dataset does not have it.
    """
    there = [clock for clock in CLOCKS if clock == "step" or clock in data.variables]
    wrong = isinstance(clocks, str) or (clocks is not None and not len(clocks))
    if wrong or any(clock not in there for clock in clocks or ()):
        among = [clock for clock in clocks or () if clock not in there]
        raise ValueError(
            f"clocks must be of {', '.join(map(repr, there))}, which the dataset has, but "
            + (f"they are {clocks!r}." if wrong else f"{among[0]!r} is among them.")
        )
    chosen = list(clocks or there)
    if "gradient_equivalents" in chosen:
        check_dimensions(data, "gradient_equivalents", "step")
    return chosen


def clock_values(one: xr.Dataset, clock: str) -> np.ndarray:
    """What the clock says at the end of each step of one strategy, of shape `(step,)` or
    `(seed, step)`.

    Only a strategy's whole time is known, of all its lanes: each has an equal share of it,
    and so has each step. Where studies were joined, each run has the time of its own, which
    counts once.
    """
    if clock == "step":
        return one.step.values
    if clock == "gradient_equivalents":
        return one.gradient_equivalents.transpose("seed", "step").values
    steps = one.sizes["step"]
    done = np.arange(1, steps + 1) / steps
    return np.unique(one.seconds.values).sum() / max(one.sizes["seed"], 1) * done
