"""What all statistics share: checked input, means at any scale, and how often and from
where they resample."""

from collections.abc import Mapping
from types import EllipsisType
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from .._runs import check_distinct


RESAMPLES = 9999
SEED = 0  # of the resampling: the same data give the same interval

# What the dimensions of labelled arrays are called.
_NAMES = {
    "run": ("seed", "run"),
    "problem": ("problem",),
    "solver": ("strategy", "solver"),
    "time": ("step", "evaluation_step"),
}


def numbers(name: str, x: Any, *axes: str | EllipsisType) -> Float[np.ndarray, "..."]:
    """What converts to real numbers, as an array; of a labelled one, the axes are in the
    order that is asked for, as far as their names tell which they are.

    **Raises:**

    `ValueError` if it is something else, or labels repeat.
    """
    if isinstance(x, xr.DataArray):
        _check_labels(name, x)
        x = _laid_out(x, axes)
    try:
        array = np.asarray(x)
        if x is None or array.dtype.kind in "cmMSTU":
            raise TypeError
        return array.astype(float)
    except (TypeError, ValueError):
        what = f"{x!r}" if x is None or np.isscalar(x) else f"a {type(x).__name__}"
        raise ValueError(
            f"{name} must be an array of real numbers, but it is {what}. Rows must be "
            "of one length; of a dataset, pass one variable."
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
        return x  # of another shape: refused as such
    return x.transpose(*order)  # pyright: ignore[reportArgumentType]


def matched(axis: str, name: str, x: Any, other_name: str, other: Any) -> Any:
    """What is to be paired with `x`: if both have labels along the axis, `other` in the
    order of those of `x`.

    **Raises:**

    `ValueError` if they have not the same labels, or labels repeat.
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
    """Refuse what is not by name."""
    if not isinstance(x, Mapping):
        raise ValueError(
            f"{name} must be a dictionary, by name, but it is a {type(x).__name__}."
        )
    return x


def check_finite(name: str, x: Float[np.ndarray, "..."]) -> None:
    """Refuse values that are not finite, naming the first of them."""
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
    """Finite values over a power of two, the largest between 1/2 and 1, and its exponent:
    no sum or power of them overflows or vanishes, and not a bit is lost of those that
    count."""
    exponent = int(np.frexp(np.abs(x).max())[1])
    return np.ldexp(x, -exponent), exponent


def mean(x: Float[np.ndarray, " n"]) -> float:
    """The mean of finite values, however large or small."""
    scaled, exponent = unit_scale(x)
    return float(np.ldexp(scaled.mean(), exponent))


def check_fraction(name: str, x: Any) -> None:
    """Refuse a confidence or a level that is not strictly between 0 and 1."""
    if not isinstance(x, (int, float, np.number)) or not 0 < x < 1:
        raise ValueError(f"{name} must be above 0 and below 1, but it is {x!r}.")


def check_flag(name: str, x: Any) -> None:
    """Refuse what is neither `True` nor `False`."""
    if not isinstance(x, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, but it is {x!r}.")
