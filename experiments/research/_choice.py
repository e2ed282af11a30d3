"""The sensitivity to a hyper-parameter: its best value, and one value for all problems."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr


def shortfall(
    loss: xr.DataArray, start: xr.DataArray, value: str, reached: float = float("inf")
) -> xr.DataArray:
    r"""The fraction of the way down that is lost at each value of a hyper-parameter,
    $(L(v) - L^*) / (L_0 - L^*)$ with $L(v)$ the mean over seeds, $L^*$ its minimum over the
    values and $L_0$ the initial loss: 0 at the best value, 1 without any progress.

    **Arguments:**

    - `loss`: the final loss, with the dimensions `value` and `seed`; nan where a value was
        not tried.
    - `start`: the initial loss, with the dimension `seed` and possibly others.
    - `value`: the dimension of the hyper-parameter's values.
    - `reached`: the lowest loss reached by other means, which is $L^*$ if it is lower.

    **Returns:**

    The shortfall, with the dimension `value`. If no value makes progress, the shortfall of
    all but the best is unbounded.
    """
    mean = loss.mean("seed")
    best, first = mean.min(value).clip(max=reached), start.mean()
    won = (first - best).clip(min=np.finfo(np.float32).tiny)
    return (mean - best) / won


def best_value(lost: xr.DataArray, value: str) -> float:
    """The value with the smallest shortfall; the first of several."""
    return float(lost[value][int(lost.argmin(value))])


def good_values(lost: xr.DataArray, value: str, within: float) -> tuple[float, float]:
    """The ends of the range around the best value in which the shortfall is at most
    `within`."""
    tried = lost.dropna(value)
    bad = np.flatnonzero(tried.values > within)
    at = int(tried.argmin(value))
    first = max(bad[bad < at], default=-1) + 1
    last = min(bad[bad > at], default=tried.size) - 1
    values = tried[value].values
    return float(values[first]), float(values[last])


def at_edge(lost: xr.DataArray, value: str) -> int:
    """Whether the best value is the lowest tried (-1), the highest tried (1), or inside the
    grid (0). At the edge a wider grid may do better."""
    tried = lost.dropna(value)
    at = int(tried.argmin(value))
    return -1 if at == 0 else int(at == tried.size - 1)


@dataclasses.dataclass(frozen=True)
class Common:
    """One value for all problems.

    **Attributes:**

    - `value`: the value.
    - `lost`: its shortfall, by problem. A run that ends above its start counts as 1.
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
    """The one value for all problems with the smallest mean shortfall.

    **Arguments:**

    - `losts`: `shortfall` by problem. Values that were not tried on all of them are left
        out.

    **Returns:**

    The value; nan with a shortfall of 1 if no value was tried on all problems.
    """
    tried = [lost.dropna(value) for lost in losts.values()]
    together = xr.concat(tried, dim="problem", join="inner").clip(max=1.0)
    if not together.sizes[value]:
        return Common(float("nan"), dict.fromkeys(losts, 1.0))
    at = together.isel({value: int(together.mean("problem").argmin(value))})
    return Common(float(at[value]), dict(zip(losts, at.values.tolist())))


def decades(values: Iterable[float]) -> float:
    """The spread of values in powers of ten."""
    found = np.array(list(values))
    return float(np.log10(found.max() / found.min()))
