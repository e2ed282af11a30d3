"""What all statistics share: checked input, and how often and from where they resample."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


RESAMPLES = 9999
SEED = 0  # of the resampling: the same data give the same interval


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


def samples(name: str, x: ArrayLike) -> Float[np.ndarray, " n"]:
    """One finite value for each seed."""
    x = np.asarray(x, dtype=float)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(
            f"{name} must be one value for each seed, but it has shape {x.shape}."
        )
    check_finite(name, x)
    return x


def run_scores(name: str, x: ArrayLike) -> Float[np.ndarray, "run problem"]:
    """One finite value for each run on each problem."""
    x = np.asarray(x, dtype=float)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            f"{name} must have the shape (run, problem), but it has shape {x.shape}. For "
            f"one problem pass `{name}[:, None]`."
        )
    check_finite(name, x)
    return x


def check_fraction(name: str, x: float) -> None:
    """Refuse a confidence or a level that is not strictly between 0 and 1."""
    if not 0 < x < 1:
        raise ValueError(f"{name} must be above 0 and below 1, but it is {x}.")
