"""What a run is measured against: steps, cost, time."""

from collections.abc import Sequence

import numpy as np
import xarray as xr


CLOCKS = ("step", "gradient_equivalents", "seconds")


def chosen_clocks(data: xr.Dataset, clocks: Sequence[str] | None) -> list[str]:
    """The clocks to draw: those asked for, or all that the dataset has.

    **Raises:**

    `ValueError` if there is no such clock, or the dataset does not have it.
    """
    there = [clock for clock in CLOCKS if clock in data.variables]
    for clock in clocks or ():
        if clock not in there:
            raise ValueError(
                f"clocks must be of {', '.join(map(repr, there))}, which the dataset has, "
                f"but {clock!r} is among them."
            )
    return list(clocks or there)


def _lanes(data: xr.Dataset) -> int:
    """How many runs of a strategy share its wall time."""
    sizes = data.loss.sizes
    return int(np.prod([n for dim, n in sizes.items() if dim not in ("strategy", "step")]))


def clock_values(one: xr.Dataset, clock: str) -> np.ndarray:
    """What the clock says at the end of each step of one strategy, of shape `(step,)` or
    `(seed, step)`.

    Only a strategy's whole time is known, of all its lanes: each has an equal share of it,
    and so has each step.
    """
    if clock == "step":
        return one.step.values
    if clock == "gradient_equivalents":
        return one.gradient_equivalents.transpose("seed", "step").values
    steps = one.sizes["step"]
    done = np.arange(1, steps + 1) / steps
    return float(one.seconds) / _lanes(one) * done
