"""The records of runs: names, definitions, units, and the arrays themselves."""

import threading
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from .._problem import Metrics
from .._solver import StepRecord
from .._tree import tree_allfinite


DEFINITIONS = {
    "loss": "mini-batch loss where the step began",
    "step_size": "step size tau in y + tau u",
    "gradient_norm": (
        "Euclidean norm of the mini-batch gradient where the step began; nan where the "
        "direction does not read the gradient"
    ),
    "slope": "<g, u> as the line search measured it; nan where it did not",
    "curvature": "<u, H u> as the line search measured it; nan where it did not",
    "gradient_equivalents": (
        "cost spent up to and including the step: XLA FLOPs of what was evaluated over "
        "those of one value-and-gradient"
    ),
    "evaluated_curvatures": "how many curvatures the line search evaluated in the step",
    "evaluated_losses": "how many losses it evaluated further along the line",
    "evaluated_slopes": "how many slopes it evaluated further along the line",
    "evaluated_gradients": "how many gradients it evaluated further along the line",
    "guard_ascent": "1 where u was not a descent direction",
    "guard_flat": "1 where the curvature was zero, or too small to divide by",
    "guard_negative": "1 where the curvature was negative",
    "guard_limited": "1 where a limit or clip changed the step",
    "guard_nonfinite": "1 where a slope, curvature or trial was not finite",
    "guard_exhausted": "1 where a search ended without meeting its condition",
    "diverged_at": (
        "the first step from which on no loss was finite, -1 where there is none; the last "
        "step alone counts only if the parameters are not finite after it. Later values "
        "are nan, and cost nothing"
    ),
    "stopped_at": "the step after which `on_evaluation` stopped the run, -1 if it did not",
    "seconds": "wall time of all steps of all lanes of the strategy, without evaluations",
    "compile_seconds": (
        "wall time of compiling the strategy, and the programs it was measured against"
    ),
    "execution": "how the lanes were run, and why, as JSON",
}

UNITS = {
    "gradient_equivalents": "C",
    "diverged_at": "step",
    "stopped_at": "step",
    "seconds": "s",
    "compile_seconds": "s",
}

# Recorded with the metrics to tell whether a run diverged: 1 where all parameters were
# finite. It is left out of the dataset.
FINITE = "finite_parameters"

# The kinds of evaluation that `EvaluationCosts` prices, by the names of their counts.
COUNTS = {
    "curvatures": "curvature",
    "losses": "loss",
    "slopes": "slope",
    "gradients": "gradient",
}


def storable(x: Any) -> Array:
    """A metric as an array of a dtype that NumPy can store: bfloat16 becomes float32."""
    x = jnp.asarray(x)
    if x.dtype == jnp.bool_ or x.dtype in (jnp.int64, jnp.uint64, jnp.uint32, jnp.float64):
        return x
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.int32)
    return x.astype(jnp.float32)


def finite_parameters(params: PyTree[Array]) -> dict[str, Array]:
    """The record of whether all parameters are finite."""
    return {FINITE: tree_allfinite(params).astype(jnp.int8)}


def flat(record: StepRecord, metrics: Metrics) -> dict[str, Array]:
    """A step's record, under the names of the dataset."""
    info = record.info
    return {
        "loss": record.loss,
        "step_size": record.step_size,
        "gradient_norm": record.gradient_norm,
        "slope": info.slope,
        "curvature": info.curvature,
        **{f"evaluated_{name}": n for name, n in info.counts.items()},
        # int8: netCDF has no booleans.
        **{f"guard_{name}": x.astype(jnp.int8) for name, x in info.guards.items()},
        **{f"batch_{name}": storable(value) for name, value in metrics.items()},
    }


Rows = dict[str, np.ndarray]


def packed(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Named arrays of one shape as one structured array."""
    shape = next(iter(rows.values())).shape
    out = np.empty(shape, [(name, x.dtype) for name, x in rows.items()])
    for name, x in rows.items():
        out[name] = x
    return out


def blank(dtype: np.dtype) -> Any:
    """The value where nothing was recorded: nan if the dtype has it, otherwise zero."""
    return np.nan if dtype.kind == "f" else 0


class Records:
    """The records of the runs of one strategy, filled in along the way.

    **Arguments:**

    - `runs`: how many runs there are.
    - `steps`: how many steps the longest makes.
    - `schedule`: after how many steps the metrics are evaluated.

    **Attributes:**

    - `made`: how many steps each run has made.
    - `owner`: the process that made the last of them.
    - `evaluated`: which of the evaluations each run has.
    - `reported`: the last step whose evaluation was passed to the user's function, for each
        run; -1 if there is none.
    - `stopped_at`: the step after which that function stopped each run; -1 if it did not.
    - `steps`, `evaluations`: arrays by name, of shape `(runs, steps)` and
        `(runs, evaluations)`. The first rows determine the names.
    """

    def __init__(self, runs: int, steps: int, schedule: Int[np.ndarray, " evaluations"]):
        self.length, self.schedule = steps, schedule
        self.made = np.zeros(runs, int)
        self.owner = np.zeros(runs, int)
        self.evaluated = np.zeros((runs, len(schedule)), bool)
        self.reported, self.stopped_at = np.full((2, runs), -1)
        self.steps: Rows = {}
        self.evaluations: Rows = {}
        self._lock = threading.Lock()  # groups advance in their own threads

    def __len__(self) -> int:
        return len(self.made)

    @property
    def last(self) -> Int[np.ndarray, " runs"]:
        """After how many steps each run ends."""
        stopped = self.stopped_at >= 0
        return np.where(stopped, np.minimum(self.stopped_at, self.length), self.length)

    @property
    def unfinished(self) -> Bool[np.ndarray, " runs"]:
        """Which runs have steps left to make."""
        return self.made < self.last

    def _arrays(self, known: Rows, rows: Rows, length: int) -> Rows:
        with self._lock:
            for name, x in rows.items():
                if name not in known:
                    shape = len(self), length
                    known[name] = np.full(shape, blank(x.dtype), x.dtype)
        return known

    def put_steps(self, runs: Int[np.ndarray, " n"], first: int, rows: Rows) -> None:
        """Fill in steps from `first` on, from arrays of shape `(n, steps)`."""
        known = self._arrays(self.steps, rows, self.length)
        for name, x in rows.items():
            known[name][runs, first : first + x.shape[1]] = x

    def put_evaluation(self, runs: Int[np.ndarray, " n"], step: int, row: Rows) -> None:
        """Fill in the evaluation after `step` steps, from arrays of shape `(n,)`."""
        k = int(np.searchsorted(self.schedule, step))
        known = self._arrays(self.evaluations, row, len(self.schedule))
        for name, x in row.items():
            known[name][runs, k] = x
        self.evaluated[runs, k] = True

    def fill(self, steps: np.ndarray, evaluations: np.ndarray) -> None:
        """Fill in everything from structured arrays."""
        split = lambda whole: {name: whole[name] for name in whole.dtype.names}
        self.steps, self.evaluations = split(steps), split(evaluations)
        del self.evaluations["step"]
        for name, x in self.steps.items():
            # The fields of a structured array are strided views of all of it.
            self.steps[name] = np.ascontiguousarray(x)
            if x.dtype.kind == "f":
                self.steps[name][np.arange(self.length) >= self.made[:, None]] = np.nan

    def between(self, run: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """What a run recorded in steps `first .. last - 1`, and its evaluations after more
        than `first` steps and at most `last` (that of the start too if `first` is 0), as
        structured arrays; the evaluations with their `step`."""
        steps = packed({name: x[run, first:last] for name, x in self.steps.items()})
        begun = self.schedule > first if first else self.schedule >= 0
        which = self.evaluated[run] & begun & (self.schedule <= last)
        rows = {name: x[run, which] for name, x in self.evaluations.items()}
        return steps, packed({"step": self.schedule[which].astype(np.int32)} | rows)
