"""Shared by all statistics: checked input, means at any scale, and the number and seed of
the resamples."""

from collections.abc import Mapping
from types import EllipsisType
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from .._runs import check_distinct


RESAMPLES = 9999
SEED = 0  # of the resampling: the same data give the same interval

# The names of the dimensions of labelled arrays.
_NAMES = {
    "run": ("seed", "run"),
    "problem": ("problem",),
    "solver": ("strategy", "solver"),
    "time": ("step", "evaluation_step"),
}


def numbers(name: str, x: Any, *axes: str | EllipsisType) -> Float[np.ndarray, "..."]:
    """Convert to an array of real numbers. The axes of a labelled array are put in the
    given order, as far as their names identify them.

    **Raises:**

    `ValueError` if it cannot be converted, or labels repeat.
    """
    if isinstance(x, xr.DataArray):
        _check_labels(name, x)
        x = _laid_out(x, axes)
    try:
        array = np.asarray(x)
        # NumPy would cast None, complex numbers, dates and strings of digits to floats.
        if x is None or array.dtype.kind in "cmMSTU":
            raise TypeError
        return array.astype(float)
    except (TypeError, ValueError):
        what = f"{x!r}" if x is None or np.isscalar(x) else f"a {type(x).__name__}"
        raise ValueError(
            f"{name} must be an array of real numbers, but it is {what}. Rows must have "
            "the same length; of a dataset, pass one variable."
        ) from None


def _check_labels(name: str, x: xr.DataArray) -> None:
    for dim, index in x.indexes.items():
        remedy = f"Each run counts once: `drop_duplicates({dim!r})`."
        check_distinct(index, f"the labels of {dim!r} in {name}", remedy)


def _laid_out(x: xr.DataArray, axes: tuple[str | EllipsisType, ...]) -> xr.DataArray:
    named = [
        next((d for d in x.dims if d in _NAMES[a]), None) if isinstance(a, str) else ...
        for a in axes
    ]
    others = iter([dim for dim in x.dims if dim not in named])
    order = [next(others, None) if dim is None else dim for dim in named]
    if None in order or (... not in order and len(order) != x.ndim):
        return x  # the caller's check of the shape names the error
    return x.transpose(*order)  # pyright: ignore[reportArgumentType]


def matched(axis: str, name: str, x: Any, other_name: str, other: Any) -> Any:
    """`other`, to be paired with `x`: if both have labels along the axis, in the order of
    the labels of `x`.

    **Raises:**

    `ValueError` if their labels differ, or repeat.
    """
    for dim in _NAMES[axis]:
        if not all(isinstance(a, xr.DataArray) and dim in a.indexes for a in (x, other)):
            continue
        _check_labels(name, x)
        _check_labels(other_name, other)
        only = list(x.indexes[dim].symmetric_difference(other.indexes[dim]))
        if only:
            raise ValueError(
                f"{name} and {other_name} must have the same labels of {dim!r}, but only "
                f"one of them has {only[:5]}. Select those that both have."
            )
        return other.sel({dim: x.indexes[dim]})
    return other


def by_name(name: str, x: Any) -> Mapping[str, Any]:
    """Raise a `ValueError` if this is not a dictionary."""
    if not isinstance(x, Mapping):
        raise ValueError(
            f"{name} must be a dictionary, by name, but it is a {type(x).__name__}."
        )
    return x


def check_finite(name: str, x: Float[np.ndarray, "..."]) -> None:
    """Raise a `ValueError` that names the first value that is not finite."""
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        at = tuple(int(k) for k in wrong[0])
        raise ValueError(
            f"{name} must be finite, but {len(wrong)} of its {x.size} values are not (the "
            f"first is {x[at]}, at {list(at)}). A run that diverged counts as a finite "
            "worst value, the loss at initialisation: see `curvopt.final_metric`."
        )


def samples(name: str, x: Any) -> Float[np.ndarray, " n"]:
    """One finite value for each seed."""
    x = numbers(name, x, "run")
    if x.ndim != 1 or x.size == 0:
        raise ValueError(
            f"{name} must be one value for each seed, but it has shape {x.shape}."
        )
    check_finite(name, x)
    return x


def run_scores(name: str, x: Any) -> Float[np.ndarray, "run problem"]:
    """One finite value for each run on each problem."""
    x = numbers(name, x, "run", "problem")
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            f"{name} must have the shape (run, problem), but it has shape {x.shape}. For "
            f"one problem pass `{name}[:, None]`."
        )
    check_finite(name, x)
    return x


def unit_scale(x: Float[np.ndarray, "*n"]) -> tuple[Float[np.ndarray, "*n"], int]:
    """Scale finite values by a power of two so that the largest is between 1/2 and 1, and
    return its exponent. Then no sum or power overflows or vanishes, and values that matter
    stay exact."""
    exponent = int(np.frexp(np.abs(x).max())[1])
    return np.ldexp(x, -exponent), exponent


def mean(x: Float[np.ndarray, " n"]) -> float:
    """The mean of finite values, however large or small."""
    scaled, exponent = unit_scale(x)
    return float(np.ldexp(scaled.mean(), exponent))


def check_fraction(name: str, x: Any) -> None:
    """Raise a `ValueError` if a confidence or a level is not strictly between 0 and 1."""
    if not isinstance(x, (int, float, np.number)) or not 0 < x < 1:
        raise ValueError(f"{name} must be above 0 and below 1, but it is {x!r}.")


def check_flag(name: str, x: Any) -> None:
    """Raise a `ValueError` if this is neither `True` nor `False`."""
    if not isinstance(x, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, but it is {x!r}.")
