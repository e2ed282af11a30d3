"""Each line search against closed forms on a quadratic, and its guards."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import curvopt
from curvopt import Line
from strategies import (
    Adam,
    BacktrackingArmijo,
    CDAT,
    CurvatureRescaling,
    LearningRate,
    Momentum,
    recipes,
    SGD,
)


MATRIX = jnp.diag(jnp.array([1.0, 4.0]))
Y = jnp.array([2.0, -1.0])


def quadratic(y):
    return 0.5 * y @ MATRIX @ y


def line_of(fn=quadratic, y=Y, direction=None, fresh=None):
    model = curvopt.quadratic_model(lambda y, _: fn(y), y)
    direction = -model.grad if direction is None else direction
    return Line(y, direction, direction if fresh is None else fresh, model, fn)


@eqx.filter_jit
def steps_of(rule, fn, points, directions=None):
    """The step sizes and infos of a rule that is led over given points."""
    state = rule.init(points[0])
    out = []
    for k, y in enumerate(points):
        direction = None if directions is None else directions[k]
        tau, info, state = rule.step(line_of(fn, y, direction), jnp.array(k), state)
        out.append((tau, info))
    return out


def exact(y=Y):
    g = MATRIX @ y
    return (g @ g) / (g @ MATRIX @ g)


class TestLearningRate:
    def test_a_rate_times_a_schedule(self):
        rule = LearningRate(0.3, optax.cosine_decay_schedule(1.0, 4))
        taus = [tau for tau, _ in steps_of(rule, quadratic, [Y] * 5)]
        cosine = 0.3 * 0.5 * (1 + np.cos(np.pi * np.arange(5) / 4))
        np.testing.assert_allclose(taus, cosine, atol=1e-7)

    @pytest.mark.parametrize(
        "args, message",
        [
            ((-0.1,), "learning_rate must be at least 0"),
            (("0.1",), "must be a number, but it is '0.1'"),
            ((jnp.ones(2),), r"must be one number, but it has shape \(2,\)"),
            ((0.1, 0.5), "schedule must be a function of the step count"),
        ],
    )
    def test_bad_hyper_parameters(self, args, message, unchecked):
        with pytest.raises(ValueError, match=message):
            LearningRate(*args)

    def test_it_asks_for_nothing(self):
        ((_, info),) = steps_of(LearningRate(0.3), quadratic, [Y])
        assert np.isnan(info.slope) and np.isnan(info.curvature)
        assert info.curvatures == info.losses == 0


class TestCurvatureRescaling:
    @pytest.mark.parametrize("rate", [0.25, 0.5, 1.0])
    def test_the_natural_scale_of_the_learning_rate(self, rate):
        """1/2 is the minimiser on the line, 1 returns to the same loss."""
        ((tau, info),) = steps_of(CurvatureRescaling(rate), quadratic, [Y])
        np.testing.assert_allclose(tau, 2 * rate * exact(), rtol=1e-6)
        assert info.curvatures == 1
        line = line_of()
        if rate == 0.5:
            assert abs(line.slope_at(tau)) < 1e-5
        if rate == 1.0:
            np.testing.assert_allclose(line.at(tau), line.value, rtol=1e-5)

    def test_it_does_not_depend_on_the_length_of_the_direction(self):
        rule = CurvatureRescaling()
        short, long = (
            steps_of(rule, quadratic, [Y], [-c * (MATRIX @ Y)])[0][0] for c in (1.0, 10.0)
        )
        np.testing.assert_allclose(short, 10 * long, rtol=1e-5)

    def test_averages_are_of_slope_and_curvature_apart(self):
        points = [Y, jnp.array([0.3, 1.0])]
        taus = [t for t, _ in steps_of(CurvatureRescaling(average=0.75), quadratic, points)]
        g = [MATRIX @ y for y in points]
        descent = 0.75 * g[0] @ g[0] + g[1] @ g[1]
        sharpness = 0.75 * g[0] @ MATRIX @ g[0] + g[1] @ MATRIX @ g[1]
        # The first step is unaffected by the average's start at zero.
        np.testing.assert_allclose(taus[0], exact(), rtol=1e-6)
        np.testing.assert_allclose(taus[1], descent / sharpness, rtol=1e-5)

    def test_along_the_fresh_part(self):
        rule = CurvatureRescaling(along="fresh")
        line = line_of(direction=jnp.array([-1.0, 0.0]), fresh=-(MATRIX @ Y))
        tau, _, _ = rule.step(line, jnp.array(0), rule.init(Y))
        np.testing.assert_allclose(tau, exact(), rtol=1e-6)

    def test_schedule(self):
        rule = CurvatureRescaling(0.5, lambda k: 1.0 / (k + 1))
        taus = [t for t, _ in steps_of(rule, quadratic, [Y] * 3)]
        np.testing.assert_allclose(taus, exact() / np.arange(1, 4), rtol=1e-6)

    def test_growth_and_first_step(self):
        rule = CurvatureRescaling(first=1e-3, growth=1.5)
        (t0, i0), (t1, i1), _ = steps_of(rule, quadratic, [Y] * 3)
        g = MATRIX @ Y
        np.testing.assert_allclose(
            t0 * jnp.linalg.norm(g), 1e-3 * jnp.linalg.norm(Y), rtol=1e-5
        )
        np.testing.assert_allclose(t1, 1.5 * t0, rtol=1e-5)
        assert i0.guards.limited and i1.guards.limited

    def test_a_first_step_from_zero_parameters_is_not_zero(self):
        rule = CurvatureRescaling(first=1e-3)
        fn = lambda y: quadratic(y - Y)
        ((tau, _),) = steps_of(rule, fn, [jnp.zeros(2)])
        np.testing.assert_allclose(tau * jnp.linalg.norm(MATRIX @ Y), 1e-3, rtol=1e-5)

    def test_clips(self):
        rule = CurvatureRescaling(min_step_size=2.0)
        assert steps_of(rule, quadratic, [Y])[0][0] == 2.0
        rule = CurvatureRescaling(max_step_size=0.01)
        ((tau, info),) = steps_of(rule, quadratic, [Y])
        np.testing.assert_allclose(tau, 0.01)
        assert info.guards.limited

    def test_negative_curvature_enters_by_its_absolute_value(self):
        ((tau, info),) = steps_of(CurvatureRescaling(), lambda y: -quadratic(y), [Y])
        np.testing.assert_allclose(tau, exact(), rtol=1e-6)
        assert info.guards.negative and info.curvature < 0

    def test_zero_curvature_repeats_the_last_step(self):
        """A linear loss, after a quadratic one."""
        fn = lambda y: jnp.where(y[0] > 1.5, quadratic(y), jnp.sum(y))
        (t0, i0), (t1, i1) = steps_of(CurvatureRescaling(), fn, [Y, jnp.ones(2)])
        assert t1 == t0 > 0 and i1.guards.flat and not i0.guards.flat
        ((tau, _),) = steps_of(CurvatureRescaling(), fn, [jnp.ones(2)])
        assert tau == 1.0

    def test_zero_curvature_takes_the_limit_where_there_is_one(self):
        fn = lambda y: jnp.sum(y)
        rule = CurvatureRescaling(first=0.1, growth=2.0)
        (t0, _), (t1, info) = steps_of(rule, fn, [jnp.ones(4)] * 2)
        np.testing.assert_allclose([t0, t1], [0.1, 0.2], rtol=1e-6)
        assert info.guards.flat and info.guards.limited

    def test_ascent_is_a_step_of_zero(self):
        ((tau, info),) = steps_of(CurvatureRescaling(), quadratic, [Y], [MATRIX @ Y])
        assert tau == 0 and info.guards.ascent

    def test_zero_gradient(self):
        ((tau, info),) = steps_of(CurvatureRescaling(), quadratic, [jnp.zeros(2)])
        assert tau == 0 and not info.guards.ascent and not info.guards.nonfinite

    def test_what_is_not_finite_leaves_the_averages_alone(self):
        fn = lambda y: jnp.where(y[0] > 0, quadratic(y), jnp.nan * jnp.sum(y))
        rule = CurvatureRescaling(average=0.5)
        sick = jnp.array([-1.0, 1.0])
        (t0, _), (t1, info), (t2, _) = steps_of(rule, fn, [Y, sick, Y])
        assert t1 == 0 and info.guards.nonfinite
        np.testing.assert_allclose(t2, t0, rtol=1e-6)

    @pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e18])
    def test_steps_stay_finite_at_extreme_scales(self, scale):
        ((tau, _),) = steps_of(CurvatureRescaling(), lambda y: scale * quadratic(y), [Y])
        assert np.isfinite(tau) and tau >= 0

    @pytest.mark.parametrize(
        "kwargs, message",
        [
            ({"learning_rate": -1}, "learning_rate must be at least 0, but it is -1"),
            ({"average": 1.0}, "average must be at least 0 and below 1"),
            ({"growth": 0.5}, "growth must be at least 1"),
            ({"first": 0.0}, "first must be above 0"),
            ({"along": "gradient"}, "along must be 'direction' or 'fresh'"),
        ],
    )
    def test_bad_hyper_parameters(self, kwargs, message, unchecked):
        with pytest.raises(ValueError, match=message):
            CurvatureRescaling(**kwargs)


class TestCDAT:
    @pytest.mark.parametrize("sigma", [1.0, 2.0])
    def test_without_averages_it_is_the_rescaling_at_half_of_sigma(self, sigma):
        points = [Y, jnp.array([0.3, 1.0])]
        cdat = steps_of(CDAT(sigma, 0.0, 0.0), quadratic, points)
        rescaled = steps_of(CurvatureRescaling(sigma / 2), quadratic, points)
        for (a, _), (b, _) in zip(cdat, rescaled):
            assert a == b

    def test_averages_and_epsilon(self):
        points = [Y, jnp.array([0.3, 1.0])]
        taus = [t for t, _ in steps_of(CDAT(2.0, 0.5, 0.1), quadratic, points)]
        g = [MATRIX @ y for y in points]
        n = 0.5 * (0.5 * g[0] @ g[0]) + 0.5 * g[1] @ g[1]
        d = 0.5 * (0.5 * (g[0] @ MATRIX @ g[0] + 0.1)) + 0.5 * (g[1] @ MATRIX @ g[1] + 0.1)
        np.testing.assert_allclose(taus[1], 2 * n / d, rtol=1e-5)

    def test_bad_hyper_parameters(self):
        with pytest.raises(ValueError, match="sigma must be at least 0"):
            CDAT(-1.0)


class TestBacktrackingArmijo:
    def test_the_first_trial_with_sufficient_decrease(self):
        rule = BacktrackingArmijo(1.0, 0.5, 0.1)
        ((tau, info),) = steps_of(rule, quadratic, [Y])
        g = MATRIX @ Y
        expected = 1.0
        trials = 1
        while quadratic(Y - expected * g) > quadratic(Y) - 0.1 * expected * (g @ g):
            expected, trials = expected / 2, trials + 1
        assert tau == expected < 1 and info.losses == trials and info.guards.limited
        assert info.curvatures == 0

    def test_a_trial_that_is_not_finite_is_rejected(self):
        fn = lambda y: jnp.where(jnp.sum(y**2) < 6, quadratic(y), jnp.nan)
        ((tau, info),) = steps_of(BacktrackingArmijo(8.0), fn, [Y])
        assert 0 < tau < 1 and not info.guards.nonfinite

    def test_no_trial_accepted(self):
        rule = BacktrackingArmijo(1e3, 0.9, max_trials=3)
        ((tau, info),) = steps_of(rule, quadratic, [Y])
        assert tau == 0 and info.guards.exhausted and info.losses == 3

    def test_ascent(self):
        ((tau, info),) = steps_of(BacktrackingArmijo(), quadratic, [Y], [MATRIX @ Y])
        assert tau == 0 and info.guards.ascent and info.losses == 0

    def test_bad_hyper_parameters(self):
        with pytest.raises(ValueError, match="backtrack must be above 0 and below 1"):
            BacktrackingArmijo(backtrack=1.0)
        with pytest.raises(ValueError, match="max_trials must be an integer"):
            BacktrackingArmijo(max_trials=0)


@pytest.mark.parametrize("direction", [SGD(), Momentum(), Adam()])
def test_recipes_descend_on_noisy_gradients(direction):
    """A noisy quadratic: the recipe with a horizon ends below where it began."""
    solver = recipes.rescaled(direction, steps=200)
    assert recipes.rescaled(direction, steps=200).line_search.schedule is (
        solver.line_search.schedule
    )

    def fn(y, noise):
        return quadratic(y) + noise @ y, None

    def body(carry, count):
        y, state = carry
        noise = 0.3 * jax.random.normal(jax.random.fold_in(jax.random.key(0), count), (2,))
        y, state, _, _ = solver.update(fn, y, noise, count, state)
        return (y, state), None

    start = (Y, solver.init_strategy(Y, jax.random.key(0)))
    (y, _), _ = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(200)))(start)
    assert quadratic(y) < 0.05 * quadratic(Y)


def test_recipes_refuse_a_run_without_steps():
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        recipes.rescaled(SGD(), steps=0)
