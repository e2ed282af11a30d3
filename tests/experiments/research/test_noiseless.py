"""What the question of problems without noise makes of runs."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import xarray as xr

from experiments.problems import NoisyQuadratic
from experiments.research._bench import Bench
from experiments.research._settings import SETTINGS
from experiments.research._tracked import Tracked
from experiments.research.questions import noiseless
from experiments.research.questions.noiseless import ARMIJO, BARE, TOLERANCE, TUNED
from strategies import CurvatureRescaling


@pytest.mark.slow
def test_times_to_the_target(tmp_path, monkeypatch):
    """On a quadratic of one eigenvalue the bare rule needs a single step."""
    monkeypatch.setattr(noiseless, "_RATED", ("SGD",))
    monkeypatch.setattr(noiseless, "_RATES", [1e-1, 1e-2, 1e-3])
    monkeypatch.setattr(noiseless, "_rules", lambda name: {BARE: CurvatureRescaling()})
    problem = Tracked(NoisyQuadratic(3, 1.0))
    bench = Bench("quadratic-100", SETTINGS["quadratic-100"], problem, tmp_path, True)
    data = noiseless.ask(bench)
    assert data.attrs["rates"] == "SGD: 0.001"
    steps = data.steps_needed.sel(strategy=f"SGD, {BARE}").values
    np.testing.assert_array_equal(steps, 1)
    # The first step is paid for when the loss after it is seen.
    cost = data.cost_needed.sel(strategy=f"SGD, {BARE}").values
    assert (cost >= 1).all() and (cost < 3).all()
    assert np.isinf(data.steps_needed.sel(strategy=f"SGD, {TUNED}")).all()
    assert float(data.gap.sel(strategy=f"SGD, {BARE}").max()) < TOLERANCE


def results(costs):
    """Twelve runs of every strategy; those that cost nothing miss the target."""
    names = list(costs)
    needed = np.array([[of or np.inf] * 12 for of in costs.values()])
    shape = len(names), 4
    return xr.Dataset(
        {
            "steps_needed": (("strategy", "seed"), needed * 2),
            "cost_needed": (("strategy", "seed"), needed),
            "gap": (("strategy", "step"), np.full(shape, 0.1)),
            "spent": (("strategy", "step"), np.tile([1.0, 2, 3, 4], (shape[0], 1))),
        },
        {"strategy": names},
        {"label": "valley, long", "steps": "100"},
    )


def test_costs_are_compared_where_both_rules_arrive():
    sgd, momentum = (
        {f"{d}, {BARE}": bare, f"{d}, {ARMIJO}": armijo}
        for d, bare, armijo in (("SGD", 10.0, 40.0), ("Momentum", 0.0, 40.0))
    )
    found = noiseless.conclude({"a": results(sgd | momentum)})
    assert found.numbers["NoiselessBareReached"] == "1"
    assert found.numbers["NoiselessArmijoReached"] == "2"
    assert found.numbers["NoiselessArmijoBoth"] == "1"
    assert found.numbers["NoiselessArmijoRatio"] == "0.25"
    assert found.numbers["NoiselessTunedRatio"] == "--"
    assert "20 (10)" in found.tables["noiseless"]
    assert r"$\ell = 1/2$ & --" in found.tables["noiseless"]
    assert set(found.figures) == {"noiseless"}


@pytest.mark.parametrize("name", noiseless.NOISELESS.settings)
def test_settings_are_deterministic(name):
    setting = SETTINGS[name]
    assert noiseless.NOISELESS.asked_of(name, setting)
    problem = setting.problem(None)
    params, state = problem.init(jr.key(0))
    first, later = (
        problem.loss(params, (problem.batch(jr.key(0), jnp.array(k)), state, jr.key(k)))[0]
        for k in (0, 9)
    )
    assert float(first) == float(later)
