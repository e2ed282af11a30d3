"""How much depends on the value of a number: the best one, and one for all problems."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr


def shortfall(
    loss: xr.DataArray, start: xr.DataArray, value: str, reached: float = float("inf")
) -> xr.DataArray:
    r"""How much of the way down is lost at each value of a number,
    $(L(v) - L^*) / (L_0 - L^*)$ with $L(v)$ the mean over seeds, $L^*$ its lowest over the
    values and $L_0$ that at the start: 0 at the best value, 1 where nothing is won.

    **Arguments:**

    - `loss`: the final loss, with the dimensions `value` and `seed`; nan where a value was
        not tried.
    - `start`: the loss at the start, with the dimension `seed`, and others perhaps.
    - `value`: the dimension of the number's values.
    - `reached`: the lowest loss otherwise reached, which is $L^*$ where it is lower.

    **Returns:**

    The shortfall, with the dimension `value`. Where no value wins anything, all but the
    best lose without bound.
    """
    mean = loss.mean("seed")
    best, first = mean.min(value).clip(max=reached), start.mean()
    won = (first - best).clip(min=np.finfo(np.float32).tiny)
    return (mean - best) / won


def best_value(lost: xr.DataArray, value: str) -> float:
    """The value at which least is lost; the first of several."""
    return float(lost[value][int(lost.argmin(value))])


def good_values(lost: xr.DataArray, value: str, within: float) -> tuple[float, float]:
    """The ends of the range around the best value in which no more than `within` is lost at
    any value."""
    tried = lost.dropna(value)
    bad = np.flatnonzero(tried.values > within)
    at = int(tried.argmin(value))
    first = max(bad[bad < at], default=-1) + 1
    last = min(bad[bad > at], default=tried.size) - 1
    values = tried[value].values
    return float(values[first]), float(values[last])


def at_edge(lost: xr.DataArray, value: str) -> int:
    """Whether the best value is the lowest that was tried (-1) or the highest (1), beyond
    which a better one may be, or within (0)."""
    tried = lost.dropna(value)
    at = int(tried.argmin(value))
    return -1 if at == 0 else int(at == tried.size - 1)


@dataclasses.dataclass(frozen=True)
class Common:
    """One value for all problems.

    **Attributes:**

    - `value`: the value.
    - `lost`: what is lost with it, by problem. What ends above its start counts as 1, which
        is all there is.
    """

    value: float
    lost: Mapping[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.lost.values())))

    @property
    def worst(self) -> float:
        return max(self.lost.values())


def common_value(losts: Mapping[str, xr.DataArray], value: str) -> Common:
    """The one value for all problems at which the mean of what is lost is lowest.

    **Arguments:**

    - `losts`: `shortfall` by problem; values that one of them did not try are left out.

    **Returns:**

    The value, nan with all lost if none was tried on all problems.
    """
    tried = [lost.dropna(value) for lost in losts.values()]
    together = xr.concat(tried, dim="problem", join="inner").clip(max=1.0)
    if not together.sizes[value]:
        return Common(float("nan"), dict.fromkeys(losts, 1.0))
    at = together.isel({value: int(together.mean("problem").argmin(value))})
    return Common(float(at[value]), dict(zip(losts, at.values.tolist())))


def decades(values: Iterable[float]) -> float:
    """Over how many powers of ten values spread."""
    found = np.array(list(values))
    return float(np.log10(found.max() / found.min()))
