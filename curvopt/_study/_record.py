"""What is recorded of a step: names, definitions, units."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from .._checks import check_scalars
from .._problem import Metrics
from .._solver import StepRecord


DEFINITIONS = {
    "loss": "mini-batch loss where the step began",
    "step_size": "step size tau in y + tau u",
    "gradient_norm": (
        "Euclidean norm of the mini-batch gradient where the step began; nan where the "
        "direction does not read the gradient"
    ),
    "slope": "<g, u> as the line search measured it; nan where it did not ask",
    "curvature": "<u, H u> as the line search measured it; nan where it did not ask",
    "gradient_equivalents": (
        "cost spent up to and including the step: XLA FLOPs of what was evaluated over "
        "those of one value-and-gradient"
    ),
    "evaluated_curvatures": "how many curvatures the line search asked for in the step",
    "evaluated_losses": "how many losses further along it asked for",
    "evaluated_slopes": "how many slopes further along it asked for",
    "evaluated_gradients": "how many gradients further along it asked for",
    "guard_ascent": "1 where the direction was not one of descent",
    "guard_flat": "1 where the curvature was zero, or too small to divide by",
    "guard_negative": "1 where the curvature was negative",
    "guard_limited": "1 where a limit or clip changed the step",
    "guard_nonfinite": "1 where a slope, curvature or trial was not finite",
    "guard_exhausted": "1 where a search ended without meeting its condition",
    "diverged_at": (
        "the first step from which on no loss was finite, -1 where there is none; the last "
        "step alone counts if the parameters are not finite after it. What comes later is "
        "nan, and costs nothing"
    ),
    "seconds": "wall time of all steps of all lanes of the strategy, evaluations left out",
    "compile_seconds": (
        "wall time of compiling the strategy, and what it was measured against"
    ),
    "execution": "how the lanes were run, and why, as JSON",
}

UNITS = {
    "gradient_equivalents": "C",
    "diverged_at": "step",
    "seconds": "s",
    "compile_seconds": "s",
}

# Recorded with the metrics, to tell whether a run diverged: 1 where all parameters were
# finite. It is not in the dataset.
FINITE = "finite_parameters"

# The kinds of evaluation that `EvaluationCosts` prices, by the name of their counts.
COUNTS = {
    "curvatures": "curvature",
    "losses": "loss",
    "slopes": "slope",
    "gradients": "gradient",
}
_GUARDS = ("ascent", "flat", "negative", "limited", "nonfinite", "exhausted")


def storable(name: str, x: Any) -> Array:
    """A metric as an array that NumPy's files know: they have no bfloat16 and the like.

    **Raises:**

    `ValueError` if it is no real number.
    """
    x = jnp.asarray(x)
    if x.dtype == jnp.bool_ or x.dtype in (jnp.int64, jnp.float64):
        return x
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.int32)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(jnp.float32)
    raise ValueError(f"metrics must be real numbers, but {name!r} has dtype {x.dtype}.")


def flat(record: StepRecord, metrics: Metrics) -> dict[str, Array]:
    """A step's record under the names that it has in datasets."""
    check_scalars("a loss's metrics", metrics)
    info = record.info
    return {
        "loss": record.loss,
        "step_size": record.step_size,
        "gradient_norm": record.gradient_norm,
        "slope": info.slope,
        "curvature": info.curvature,
        **{f"evaluated_{name}": getattr(info, name) for name in COUNTS},
        # int8: netCDF has no booleans.
        **{
            f"guard_{name}": getattr(info.guards, name).astype(jnp.int8) for name in _GUARDS
        },
        **{f"batch_{name}": storable(name, value) for name, value in metrics.items()},
    }
