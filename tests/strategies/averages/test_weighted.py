"""The weights of the points in each average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt
from strategies import ExponentialAverage, LearningRate, SGD, WindowAverage


# The weights of the points, from the latest to the first, up to a factor.
AVERAGES = {
    "decay": (ExponentialAverage(0.6), lambda n: 0.6 ** np.arange(n)),
    "uniform": (WindowAverage(1.0), np.ones),
    "uniform, by decay": (ExponentialAverage(1.0), np.ones),
    "half of the steps": (WindowAverage(0.5), lambda n: np.arange(n, 0.0, -1)),
    "the last point": (ExponentialAverage(0.0), lambda n: np.eye(1, n)[0]),
    "no window": (WindowAverage(0.0), lambda n: np.eye(1, n)[0]),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_it_is_the_weighted_mean_of_all_points(name):
    average, weighted = AVERAGES[name]
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.3), average=average)
    y = jnp.array([1.0, -2.0])
    state, points = solver.init_strategy(y, jax.random.key(0)), [y]
    loss = lambda y, args: (jnp.sum(args * y**2), None)
    for k in range(6):
        y, state, *_ = solver.update(loss, y, jnp.array([1.0, 2.0]), jnp.array(k), state)
        points.append(y)
        weights = weighted(len(points))[::-1]
        mean = np.average(points, axis=0, weights=weights)
        np.testing.assert_allclose(state.answer(y), mean, rtol=2e-6, atol=1e-7)


def test_bad_arguments(unchecked):
    with pytest.raises(ValueError, match="decay must be at least 0 and at most 1"):
        ExponentialAverage(1.1)
    with pytest.raises(ValueError, match="window must be at least 0 and at most 1"):
        WindowAverage(2.0)
