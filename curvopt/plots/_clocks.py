"""The clocks of a run: steps, cost, time."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from .._runs import check_dimensions


CLOCKS = ("step", "gradient_equivalents", "seconds")


def chosen_clocks(data: xr.Dataset, clocks: Sequence[str] | None) -> list[str]:
    """The clocks to draw: the given ones, or all that the dataset has.

    **Raises:**

    `ValueError` if the dataset does not have a clock.
    """
    there = [clock for clock in CLOCKS if clock == "step" or clock in data.variables]
    chosen = there if clocks is None else clocks
    listed = isinstance(chosen, Sequence) and not isinstance(chosen, str) and len(chosen)
    unknown = [clock for clock in chosen if clock not in there] if listed else []
    if not listed or unknown:
        wrong = f"{unknown[0]!r} is among them" if unknown else f"they are {clocks!r}"
        raise ValueError(
            f"clocks must be of {', '.join(map(repr, there))}, which the dataset has, but "
            f"{wrong}."
        )
    if "gradient_equivalents" in chosen:
        check_dimensions(data, "gradient_equivalents", "step")
    return list(chosen)


def clock_values(one: xr.Dataset, clock: str) -> np.ndarray:
    """The clock at the end of each step of one strategy, of shape `(step,)` or `(seed,
    step)`.

    Only the total time of a strategy is known, over all its lanes: it is shared equally
    among lanes and steps. In joined studies each run has the time of its own study, which
    counts once.
    """
    if clock == "step":
        return one.step.values
    if clock == "gradient_equivalents":
        return one.gradient_equivalents.transpose("seed", "step").values
    steps = one.sizes["step"]
    done = np.arange(1, steps + 1) / steps
    return np.unique(one.seconds.values).sum() / max(one.sizes["seed"], 1) * done
