"""Figures by rliable for seeded random scores, for `test_statistics.py` to compare with.

rliable wants an older pandas than xarray does, so it lives in an environment of its own:

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install rliable 'pandas<3'
    ENVIRONMENT/bin/python tests/curvopt/statistics/rliable_reference.py

writes `rliable_reference.json` beside this file.
"""

import importlib.metadata
import json
import pathlib
import platform

import numpy as np
from rliable import library, metrics


# The scores as (runs of x, runs of y, problems); ties are had by rounding.
SHAPES = ((8, 8, 5), (3, 5, 4), (12, 12, 1), (20, 10, 7))
REPS = 50_000  # rliable's own default
# Its Mann-Whitney tests for every problem of every resample take a minute even so.
REPS_OF_IMPROVEMENT = 5_000


def _interval(func, scores, reps=REPS):
    np.random.seed(0)  # noqa: NPY002 (rliable draws from the global generator)
    _, intervals = library.get_interval_estimates({"a": scores}, func, reps=reps)
    return np.asarray(intervals["a"]).tolist()


def _case(seed, shape, digits):
    rng = np.random.default_rng(seed)
    runs_x, runs_y, problems = shape
    scale = rng.uniform(0.5, 2.0, problems)
    x = np.round(scale * rng.gamma(3.0, 0.3, (runs_x, problems)), digits)
    y = np.round(scale * rng.gamma(3.0, 0.4, (runs_y, problems)), digits)
    taus = np.quantile(x, [0.1, 0.3, 0.5, 0.8])  # with ties, some of them are scores
    iqm = lambda scores: np.array([metrics.aggregate_iqm(scores)])
    improvement = lambda *scores: np.array([metrics.probability_of_improvement(*scores)])
    np.random.seed(0)  # noqa: NPY002
    profiles, bands = library.create_performance_profile({"a": x}, taus, reps=REPS)
    return {
        "digits": digits,
        "x": x.tolist(),
        "y": y.tolist(),
        "iqm": float(metrics.aggregate_iqm(x)),
        "iqm_interval": _interval(iqm, x),
        "improvement": float(metrics.probability_of_improvement(x, y)),
        "improvement_interval": _interval(improvement, [x, y], REPS_OF_IMPROVEMENT),
        "taus": taus.tolist(),
        "profile": profiles["a"].tolist(),
        "profile_band": bands["a"].tolist(),
    }


def main():
    """Write the reference."""
    cases = [
        _case(seed, shape, digits)
        for seed, (shape, digits) in enumerate(
            (shape, digits) for shape in SHAPES for digits in (1, 4)
        )
    ]
    packages = ("rliable", "arch", "scipy", "numpy")
    reference = {
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "reps": REPS,
        "reps_of_improvement": REPS_OF_IMPROVEMENT,
        "cases": cases,
    }
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(reference) + "\n", "utf-8")


if __name__ == "__main__":
    main()
