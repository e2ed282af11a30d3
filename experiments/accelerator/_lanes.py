"""A study's lanes on the device, compared with those on the host."""

import jax
import numpy as np

import curvopt

from .._ways import FAMILIES
from ..data import load_subset
from ..problems import MLPClassifier
from ._bench import Bench, host, Rows


_RATE = 1e-3
# Rounding errors, as amplified by training.
_TOLERANCE = 1e-2


def lanes(bench: Bench) -> Rows:
    """The losses of a few steps in full precision, on device and host."""
    problem = MLPClassifier(load_subset(), width=32, depth=1, evaluated=500)
    names = ("SGD, rescaled",) if bench.quick else FAMILIES
    strategies = {name: FAMILIES[name](_RATE) for name in names}

    def losses(device: object) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            data = curvopt.run_study(
                problem,
                strategies,
                seeds=2,
                steps=5 if bench.quick else 20,
                evaluations=1,
                execution=curvopt.Execution(devices=[device]),
                progress=False,
            )
        return np.asarray(data.loss.transpose("strategy", "seed", "step").values)

    here, there = losses(bench.device), losses(host())
    for k, name in enumerate(strategies):
        error = np.abs(here[k] - there[k]) / np.abs(there[k])
        yield {
            "what": "lanes of a study",
            "method": name,
            "precision": "highest",
            "relative_error": float(np.max(error)),
            "first_step": float(np.max(error[:, 0])),
            "wrong": not np.max(error) <= _TOLERANCE,
        }
