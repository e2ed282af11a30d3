"""The rescaling in hindsight against closed forms, and its theory against simulation."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lines import exact, line_of, MATRIX, quadratic, steps_of, Y

import curvopt
from strategies import (
    GradientClipping,
    HindsightRescaling,
    Momentum,
    SGD,
    WeightDecay,
)


def _led(rule, share=1.0):
    """Two step sizes of a rule, of whose first a share is taken; and the first."""
    ((first, _),) = steps_of(rule, quadratic, [Y])
    moved = Y - share * first * MATRIX @ Y
    (_, (second, info)) = steps_of(rule, quadratic, [Y, moved])
    return first, second, info


def _free(rate, first):
    """The rule without its limits."""
    return HindsightRescaling(rate, max_change=0.99, growth=1e6, first=first)


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0])
def test_the_natural_scale_of_the_learning_rate(rate):
    """On a quadratic the second step is that of `CurvatureRescaling` at the first point."""
    first, second, info = _led(_free(rate, first=0.6))
    np.testing.assert_allclose(second, 2 * rate * exact(), rtol=1e-5)
    assert info.curvatures == 1 and not info.limited
    assert first > 0


def test_the_first_step_and_the_limits_of_its_change():
    rule = HindsightRescaling(0.5, max_change=0.1, growth=1e6, first=1e-3)
    first, second, info = _led(rule)
    norm = np.linalg.norm
    np.testing.assert_allclose(first * norm(MATRIX @ Y), 1e-3 * norm(Y), rtol=1e-6)
    np.testing.assert_allclose(second, 1.1 * first, rtol=1e-6)
    assert info.limited


def test_steps_grow_no_faster_than_the_averages_follow():
    """Where the direction grows by itself, as on the way from a plateau, the step size
    falls: what is limited is how far the parameters move."""
    rule = HindsightRescaling(0.5, growth=2.0, first=1e-3)
    directions = [-Y, -5 * Y, -Y]
    points = [Y, 0.999 * Y, 0.998 * Y]
    (first, _), (second, info), (third, _) = steps_of(rule, quadratic, points, directions)
    np.testing.assert_allclose(first, 1e-3, rtol=1e-6)
    np.testing.assert_allclose(5 * second, (1 + 2 / 11) * first, rtol=1e-5)
    np.testing.assert_allclose(third, 1.1 * second, rtol=1e-5)
    assert info.limited


def test_a_schedule_that_starts_at_zero():
    """Nothing has moved after the first step, and still the second is the first."""
    rule = HindsightRescaling(0.5, lambda count: jnp.minimum(count, 1), first=1e-3)
    (zero, _), (second, _) = steps_of(rule, quadratic, [Y, Y])
    assert zero == 0
    np.testing.assert_allclose(
        second * np.linalg.norm(MATRIX @ Y), 1e-3 * np.linalg.norm(Y), rtol=1e-6
    )


def test_a_direction_of_zero_changes_nothing():
    rule = HindsightRescaling(0.5)
    directions = [-Y, jnp.zeros_like(Y), -Y]
    (first, _), _, (third, info) = steps_of(rule, quadratic, [Y] * 3, directions)
    assert first == third and not info.nonfinite


def test_the_step_that_was_taken_counts():
    """A rule around it may change its steps: it sees where the parameters went."""
    rule = _free(0.5, first=0.3)
    np.testing.assert_allclose(_led(rule, 0.5)[1], _led(rule)[1], rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_long_direction_does_not_dominate_the_averages(scale):
    """The sharpness averages eigenvalues, however long the directions are."""
    rule, state = HindsightRescaling(0.5), HindsightRescaling(0.5).init(Y)
    one, four = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    points = [Y, Y + 0.1 * one, Y + 0.1 * one + 0.2 * four]
    for k, (y, u) in enumerate(zip(points, (one, scale * four, one))):
        _, _, state = rule.step(line_of(y=y, direction=u), jnp.array(k), state)
    expected = (1 - 1 / 12) * (1 / 11) * 1 + (1 / 12) * 4
    np.testing.assert_allclose(state.sharpness, expected, rtol=1e-5)


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
    """Step sizes, mean squares of the parameters, those of their average over a tenth of
    the steps, weighted by the eigenvalues, and $N / D$ over a run on a quadratic of given
    eigenvalues, with gradient noise of variance 1 in each coordinate."""
    loss = lambda y, noise: (0.5 * jnp.sum(values * y**2) + noise @ y, None)
    solver = curvopt.LineSearchMinimiser(direction, rule)
    y = spread * jr.normal(jr.key(0), values.shape)

    def step(carry, count):
        y, state, average = carry
        noise = jr.normal(jr.fold_in(jr.key(1), count), values.shape)
        y, state, record, _ = solver.update(loss, y, noise, count, state)
        average += (y - average) / (1 + 0.1 * (count + 1))
        excess = jnp.mean(values * average**2)
        ratio = state.line_search.descent / state.line_search.sharpness
        return (y, state, average), (record.step_size, jnp.mean(y**2), excess, ratio)

    start = y, solver.init_strategy(y, jr.key(2)), y
    return jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(steps))[1])(start)


@pytest.mark.parametrize("direction", [SGD(), Momentum()])
def test_where_nothing_is_gained_the_averages_ask_for_half_the_step(direction):
    r"""The theorem of the paper: $N / D = \tau / 2$ in the stationary state of any
    direction, so that the step size is multiplied by the learning rate."""
    rule = HindsightRescaling(0.5, max_change=1e-9, first=0.5, window=0.5)
    values = jnp.geomspace(0.5, 2.0, 300)
    step_sizes, *_, ratios = _run(direction, rule, values, 1000, spread=0.4)
    np.testing.assert_allclose(ratios[-1] / step_sizes[-1], 0.5, atol=0.03)


@pytest.mark.slow
def test_it_anneals_at_the_best_rate():
    r"""With one eigenvalue and $\ell = 1/2$ the step size follows $1 / (\lambda k)$, and
    the variance $1 / (\lambda^2 k)$ that no unbiased method improves on."""
    rule = HindsightRescaling(0.5, window=0.1, first=0.1)
    step_sizes, squares, *_ = _run(SGD(), rule, jnp.ones(20_000), 400, spread=0.3)
    late = np.arange(200, 400)
    assert 0.8 < np.median(late * step_sizes[200:]) < 1.6
    assert 0.9 < np.median(late * squares[200:]) < 1.2


@pytest.mark.slow
@pytest.mark.parametrize(("direction", "rate"), [(SGD(), 0.5), (Momentum(), 0.8)])
def test_at_rest_it_anneals_as_a_power_of_the_steps(direction, rate):
    r"""The proposition of the paper: $\tau_k \sim k^{-(1 - \ell)}$, here from 400 to 4,000
    steps. What the loss gains meanwhile holds the step up a little."""
    rule = HindsightRescaling(rate, first=0.5)
    values = jnp.geomspace(0.5, 2.0, 5000)
    step_sizes, *_ = _run(direction, rule, values, 4000, spread=0.4)
    fallen = np.log(step_sizes[-1] / step_sizes[400]) / np.log(10)
    np.testing.assert_allclose(fallen, rate - 1, atol=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.65, 0.8])
def test_the_average_of_the_parameters_needs_no_best_rate(rate):
    r"""As Polyak and Juditsky have it for given steps: whatever $\ell < 1$, the average
    over the fraction $c$ of the steps has $1 / (c (2 - c))$ times the excess loss of the
    minimiser of all $k$ losses, which is $1 / (2 \lambda k)$ in each eigenvector. The last
    point is far worse."""
    values, steps = jnp.geomspace(0.5, 1.0, 2000), 4000
    rule = HindsightRescaling(rate, first=0.5)
    _, squares, excess, _ = _run(Momentum(), rule, values, steps, spread=0.4)
    best = jnp.mean(1 / values) / steps
    theory = 1 / (0.1 * (2 - 0.1))
    assert 0.85 * theory < excess[-1] / best < 1.02 * theory
    assert squares[-1] > 8 * excess[-1]


@pytest.mark.parametrize(
    ("direction", "schedule", "rate"),
    [
        (SGD(), None, 1.5),
        (SGD(), jnp.ones_like, 2.0),
        (Momentum(), None, 0.65),
        (Momentum(), jnp.ones_like, 0.8),
        (GradientClipping(SGD(), 1e6), None, 1.5),
        (WeightDecay(Momentum(), 0.0), None, 0.65),
    ],
)
def test_the_default_learning_rate_is_that_of_the_directions_memory(
    direction, schedule, rate
):
    def run(learning_rate):
        rule = HindsightRescaling(
            learning_rate, schedule, growth=1e6, max_change=0.99, first=1.5
        )
        solver = curvopt.LineSearchMinimiser(direction, rule)
        y, state, steps = Y, solver.init_strategy(Y, jr.key(0)), []
        loss = lambda y, args: (quadratic(y), None)
        for count in range(3):
            y, state, record, _ = solver.update(loss, y, None, jnp.array(count), state)
            steps.append(record.step_size)
        return np.array(steps)

    np.testing.assert_allclose(run(None), run(rate), rtol=1e-6)
    assert not np.allclose(run(None), run(0.9 * rate))
