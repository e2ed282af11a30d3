"""Checks the dataset of a study where it comes in: readers rely on names and labels,
whatever was selected, transposed or concatenated before."""

from typing import Any

import pandas as pd
import xarray as xr

from ._names import shown


_TIMES = ("step", "evaluation_step")


def check_distinct(labels: pd.Index, what: str, remedy: str) -> None:
    """Raise if labels repeat, naming them."""
    again = labels[labels.duplicated()].unique()
    if len(again):
        some = ", ".join(shown(x) for x in again[:5]) + (", ..." if len(again) > 5 else "")
        raise ValueError(f"{what} must be distinct, but these repeat: {some}. {remedy}")


def as_study(data: Any, name: str = "data") -> xr.Dataset:
    """A study with strategies as strings, distinct labels, and steps in increasing order.

    **Arguments:**

    - `data`: a dataset of [`curvopt.run_study`][].
    - `name`: the name of the argument, for the error.

    **Raises:**

    `ValueError` if it is not a dataset or is empty, if strategies have no names, or if the
    labels of a dimension repeat: a run listed twice does not count as two.
    """
    if not isinstance(data, xr.Dataset):
        remedy = (
            "Pass all of it, not one of its variables."
            if isinstance(data, xr.DataArray)
            else "Open a saved one with `xarray.open_dataset`."
        )
        raise ValueError(
            f"{name} must be the dataset of a study, as `curvopt.run_study` returns it, "
            f"but it is {_described(data)}. {remedy}"
        )
    for dim, size in data.sizes.items():
        if size == 0:
            raise ValueError(f"{name} has no runs: its dimension {dim!r} is empty.")
    if "strategy" in data.dims:
        index = data.indexes.get("strategy")
        if index is None or isinstance(index, pd.MultiIndex):
            raise ValueError(
                f"the strategies of {name} must have names, but the dimension strategy has "
                f"{'none' if index is None else 'several levels'}. Name them: "
                f"`{name}.assign_coords(strategy=[...])`."
            )
        data = data.assign_coords(strategy=("strategy", list(map(str, index))))
    for dim, index in data.indexes.items():
        check_distinct(
            index,
            f"the labels of {dim!r} in {name}",
            "Each run counts once. If it is the same run, drop it, "
            f"`{name}.drop_duplicates({dim!r})`; if it is another, give it its own label.",
        )
    for dim in _TIMES:
        if dim in data.indexes and not data.indexes[dim].is_monotonic_increasing:
            data = data.sortby(dim)
    return data


def _described(data: Any) -> str:
    return repr(data) if data is None or isinstance(data, str) else type(data).__name__


def check_dimensions(
    data: xr.Dataset, name: str, *times: str, further: bool = False
) -> None:
    """Raise if a variable is missing, or has not one value for each strategy and seed (and
    step).

    **Arguments:**

    - `times`: its dimension of steps, if it has one.
    - `further`: whether hyper-parameters may be dimensions too.

    **Raises:**

    `ValueError` naming the dimension and how to select.
    """
    if name not in data:
        there = ", ".join(map(repr, sorted(map(str, data.data_vars)))) or "none"
        raise ValueError(
            f"there is no variable {name!r} in the dataset; there are: {there}."
        )
    dims = data[name].dims
    for dim in ("strategy", "seed", *times):
        if dim not in dims:
            raise ValueError(
                f"{name!r} must have the dimensions {_listed('strategy', 'seed', *times)}, "
                f"but it has {dims}. Keep {dim} as a dimension: select with a list, "
                f"`data.sel({dim}=[...])`."
            )
    others = [str(dim) for dim in dims if dim not in ("strategy", "seed", *times)]
    if others and not further:
        choice = ", ".join(f"{dim}=..." for dim in others)
        raise ValueError(
            f"{name!r} must have the dimensions {_listed('strategy', 'seed', *times)} "
            f"only, but it has {', '.join(others)} too. Select first: `data.sel({choice})`."
        )


def _listed(*words: str) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def was_run(data: xr.Dataset) -> xr.DataArray:
    """Whether there is a run, for each strategy, seed and hyper-parameter. Joined studies
    with different seeds or values have gaps, where not even `diverged_at` is set."""
    there = [
        x.notnull().any(dim)
        for name, x in data.data_vars.items()
        for dim in _TIMES
        if dim in x.dims and (name == "loss" or dim == "evaluation_step")
    ]
    if "diverged_at" in data:
        there.append(data.diverged_at >= 0)
    found = there[0]
    for one in there[1:]:
        found = found | one
    return found


def held(data: xr.Dataset) -> xr.Dataset:
    """A study in which a run that was stopped keeps its last values to the end."""
    if "stopped_at" not in data or not bool((data.stopped_at >= 0).any()):
        return data
    stopped, found = data.stopped_at, {}
    for dim, last in (("step", stopped - 1), ("evaluation_step", stopped)):
        for name in (name for name, x in data.data_vars.items() if dim in x.dims):
            x, time = data[name], data[dim]
            end = x.where(time == last).max(dim)
            found[name] = x.where((stopped < 0) | (time <= last), end).transpose(*x.dims)
            found[name].attrs = x.attrs
    return data.assign(found)
