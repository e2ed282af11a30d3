"""The question of distance: its rules by hand, and its conclusion from known data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import curvopt
from experiments.research._bench import Bench
from experiments.research._settings import SETTINGS
from experiments.research.questions.distance import (
    BY_CURVATURE,
    BY_DISTANCE,
    Combined,
    DISTANCE,
    DistanceOverGradients,
    ELL,
    FACTORS,
    geometric_mean,
    MEAN,
    Reached,
    SMALLER,
)
from strategies import HindsightRescaling, LearningRate, Momentum, SGD


pytestmark = pytest.mark.host


def run(direction, rule, slopes, y=0.0):
    """The points and the states of a run on losses that are linear in one parameter."""
    solver = curvopt.LineSearchMinimiser(direction, rule)
    loss = lambda y, slope: (slope * y[0], None)
    y = jnp.array([y])
    state = solver.init_strategy(y, jax.random.key(0))
    points, states = [float(y[0])], []
    for count, slope in enumerate(slopes):
        y, state, *_ = solver.update(loss, y, slope, jnp.array(count), state)
        points.append(float(y[0]))
        states.append(state.line_search)
    return points, states


def test_the_reach_counts_the_fresh_parts_of_the_steps():
    # A tenth of .1 and .2 at once, of the first nine hundredths with the second.
    points, states = run(Momentum(0.9), Reached(LearningRate(0.1)), [1.0, -2.0, 0.0])
    np.testing.assert_allclose(points[:3], [0, -0.01, -0.01 + 0.02 - 0.009], atol=1e-7)
    # Fresh parts are whole gradients.
    walk = np.hypot(0.1, 0.2)
    np.testing.assert_allclose(states[2].travels.farthest, 0.01, rtol=1e-6)
    np.testing.assert_allclose(states[2].travels.squares, walk**2, rtol=1e-6)
    np.testing.assert_allclose(states[2].reach, 0.01 / walk, rtol=1e-6)


def test_distance_over_gradients_by_hand():
    halved = lambda count: jnp.where(count < 2, 1.0, 0.5)
    rule = DistanceOverGradients(0.5, halved, first=0.1)
    points, _ = run(SGD(), rule, [-3.0, -4.0, 1.0], y=2.0)
    # It has not moved: a tenth of the norm of the parameters.
    first = 0.5 * 0.2 / 3
    # The way is shorter than that still.
    second = 0.5 * 0.2 / 5
    way = points[2] - 2
    third = 0.5 * 0.5 * max(way, 0.2) / np.sqrt(26)
    steps = np.diff(points) / np.array([3, 4, -1])
    np.testing.assert_allclose(steps, [first, second, third], rtol=1e-4)


def test_rules_are_combined():
    for combine, expected in ((geometric_mean, 0.2), (jnp.minimum, 0.1)):
        rule = Combined(LearningRate(0.1), LearningRate(0.4), combine)
        points, _ = run(SGD(), rule, [-1.0])
        np.testing.assert_allclose(points[1], expected, rtol=1e-6)


def test_the_number_that_is_multiplied_is_the_default():
    """Guards against a default that changes while the question keeps the old number."""
    losses = []
    for rate in (None, ELL):
        rule = HindsightRescaling(rate, schedule=lambda count: 1.0)
        solver = curvopt.LineSearchMinimiser(Momentum(), rule)
        loss = lambda y, _: (jnp.sum(y**4), None)
        y = jnp.array([2.0])
        state = solver.init_strategy(y, jax.random.key(0))
        for count in range(5):
            y, state, *_ = solver.update(loss, y, None, jnp.array(count), state)
        losses.append(float(y[0]))
    assert losses[0] == losses[1] < 2


def results(by_distance, reach, seeds=12):
    spread = 0.01 * np.linspace(-1, 1, seeds)
    ends = np.array([1.0, by_distance, 1.0, 2.0])[:, None] + spread
    return xr.Dataset(
        {
            "train_loss": (("strategy", "seed"), ends.astype(np.float32)),
            "start": (("strategy", "seed"), np.full((4, seeds), 9, np.float32)),
            "diverged": (("strategy", "seed"), np.zeros((4, seeds), bool)),
            "factors": (("rule", "factor"), np.arange(6).reshape(2, 3) + 0.5),
            "reach": ("rate", np.array([3.0, reach, 0.5], np.float32)),
            "tuning_loss": ("rate", np.array([2.0, 1.0, 3.0], np.float32)),
            "reach_in_hindsight": np.float32(0.7),
        },
        {
            "strategy": [BY_CURVATURE, BY_DISTANCE, MEAN, SMALLER],
            "rule": [BY_CURVATURE, BY_DISTANCE],
            "factor": list(FACTORS),
            "rate": [0.001, 0.01, 0.1],
        },
        {"metric": "train_loss", "label": "a model", "steps": "10"},
    )


def test_the_conclusion():
    found = DISTANCE.conclude({"mlp": results(0.5, 1.1), "gru": results(1.5, 0.8)})
    assert found.numbers["DistanceDistanceBetter"] == "1"
    assert found.numbers["DistanceDistanceWorse"] == "1"
    assert found.numbers["DistanceSmallerWorse"] == "2"
    assert found.numbers["DistanceReach"] == "0.80 to 1.1"
    assert found.numbers["DistanceReachHindsight"] == "0.70"
    assert found.numbers["DistanceReachShort"] == "3.0"
    # Of the way from 9 to .5 and to 1: half of 8.5 and of 8.
    assert found.numbers["DistanceDistanceLost"] == r"3.1\,\%"
    row = r"a model & 1.000 & \textbf{0.5000} & 1.000 & 2.000 & 0.5000 & 1.500"
    assert row in found.tables["distance"]


@pytest.mark.slow
def test_a_quick_run(tmp_path):
    setting = SETTINGS["mlp"]
    assert setting.quick is not None
    found = DISTANCE.ask(Bench("mlp", setting, setting.quick(), tmp_path, True))
    assert (found.reach > 0).all() and found.reach_in_hindsight > 0
    assert found.reach[0] > found.reach[-1]  # short steps stay in one direction
    assert (found.train_loss < found.start).all()
    assert np.isfinite(found.factors).all()
