"""The rescaling in hindsight against closed forms, and its theory against simulation."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lines import exact, MATRIX, quadratic, steps_of, Y

import curvopt
from strategies import HindsightRescaling, Momentum, SGD


def _led(rule, share=1.0):
    """Two step sizes of a rule, of whose first a share is taken; and the first."""
    ((first, _),) = steps_of(rule, quadratic, [Y])
    moved = Y - share * first * MATRIX @ Y
    (_, (second, info)) = steps_of(rule, quadratic, [Y, moved])
    return first, second, info


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0])
def test_the_natural_scale_of_the_learning_rate(rate):
    """On a quadratic the second step is that of `CurvatureRescaling` at the first point."""
    first, second, info = _led(HindsightRescaling(rate, max_change=0.99, first=0.6))
    np.testing.assert_allclose(second, 2 * rate * exact(), rtol=1e-5)
    assert info.curvatures == 1 and not info.limited
    assert first > 0


def test_the_first_step_and_the_limits_of_its_change():
    first, second, info = _led(HindsightRescaling(0.5, max_change=0.1, first=1e-3))
    norm = np.linalg.norm
    np.testing.assert_allclose(first * norm(MATRIX @ Y), 1e-3 * norm(Y), rtol=1e-6)
    np.testing.assert_allclose(second, 1.1 * first, rtol=1e-6)
    assert info.limited


def test_the_step_that_was_taken_counts():
    """A rule around it may change its steps: it sees where the parameters went."""
    rule = HindsightRescaling(0.5, max_change=0.99, first=0.3)
    np.testing.assert_allclose(_led(rule, 0.5)[1], _led(rule)[1], rtol=1e-5)


def test_where_nothing_moved_the_step_stays():
    rule = HindsightRescaling(0.5)
    (first, _), (second, info) = steps_of(rule, quadratic, [Y, Y])
    assert first == second and not info.nonfinite


def test_a_step_that_is_not_finite_is_skipped_and_forgotten():
    rule = HindsightRescaling(0.5)
    directions = [-Y, jnp.array([jnp.nan, 1.0]), -Y]
    (first, _), (bad, info), (next_, _) = steps_of(rule, quadratic, [Y] * 3, directions)
    assert bad == 0 and info.nonfinite
    assert next_ == first


def _run(direction, rule, values, steps, spread):
    """Step sizes, mean squares of the parameters and $N / D$ over a run on a quadratic of
    given eigenvalues, with gradient noise of variance 1 in each coordinate."""
    loss = lambda y, noise: (0.5 * jnp.sum(values * y**2) + noise @ y, None)
    solver = curvopt.LineSearchMinimiser(direction, rule)
    y = spread * jr.normal(jr.key(0), values.shape)

    def step(carry, count):
        y, state = carry
        noise = jr.normal(jr.fold_in(jr.key(1), count), values.shape)
        y, state, record, _ = solver.update(loss, y, noise, count, state)
        averages = state.line_search
        ratio = averages.descent / averages.sharpness
        return (y, state), (record.step_size, jnp.mean(y**2), ratio)

    start = y, solver.init_strategy(y, jr.key(2))
    return jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(steps))[1])(start)


@pytest.mark.parametrize("direction", [SGD(), Momentum()])
def test_where_nothing_is_gained_the_averages_ask_for_half_the_step(direction):
    r"""The theorem of the paper: $N / D = \tau / 2$ in the stationary state of any
    direction, so that the step size is multiplied by the learning rate."""
    rule = HindsightRescaling(0.5, max_change=1e-9, first=0.5, window=0.5)
    values = jnp.geomspace(0.5, 2.0, 300)
    step_sizes, _, ratios = _run(direction, rule, values, 1000, spread=0.4)
    np.testing.assert_allclose(ratios[-1] / step_sizes[-1], 0.5, atol=0.03)


@pytest.mark.slow
def test_it_anneals_at_the_best_rate():
    r"""With one eigenvalue and $\ell = 1/2$ the step size follows $1 / (\lambda k)$, and
    the variance $1 / (\lambda^2 k)$ that no unbiased method improves on."""
    rule = HindsightRescaling(0.5, window=0.1, first=0.1)
    step_sizes, squares, _ = _run(SGD(), rule, jnp.ones(20_000), 400, spread=0.3)
    late = np.arange(200, 400)
    assert 0.8 < np.median(late * step_sizes[200:]) < 1.6
    assert 0.9 < np.median(late * squares[200:]) < 1.2
