"""Line searches that change what another one proposes."""

import jax.numpy as jnp
import numpy as np
import pytest
from lines import exact, MATRIX, quadratic, steps_of, Y

from strategies import (
    Backtracking,
    Clipped,
    CurvatureRescaling,
    GrowthLimited,
    LearningRate,
    Restarted,
    Scheduled,
    Smoothed,
    StepTuned,
)


WRAPPERS = {
    "Backtracking": Backtracking,
    "Clipped": Clipped,
    "GrowthLimited": lambda inner: GrowthLimited(inner, 1.5),
    "Restarted": Restarted,
    "Scheduled": lambda inner: Scheduled(inner, lambda count: 0.5**count),
    "Smoothed": Smoothed,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_the_inner_rule_measured_is_kept(name):
    rule = WRAPPERS[name](CurvatureRescaling())
    ((_, info),) = steps_of(rule, lambda y: -quadratic(y), [Y])
    assert info.curvatures == 1 and info.curvature < 0 and info.slope < 0
    assert info.negative


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_step_that_the_inner_rule_refused_stays_zero(name):
    """Here because the direction ascends, and where there is no gradient."""
    rule = WRAPPERS[name](CurvatureRescaling())
    points, directions = [Y, jnp.zeros(2)], [MATRIX @ Y, jnp.zeros(2)]
    (t0, info), (t1, _) = steps_of(rule, quadratic, points, directions)
    assert t0 == 0 and t1 == 0 and info.ascent


@pytest.mark.parametrize("name", WRAPPERS)
def test_inner_must_be_a_line_search(name, unchecked):
    with pytest.raises(ValueError, match="inner must be an instance of curvopt.Abstract"):
        WRAPPERS[name](0.1)


RANGE = dict(min_step_size=0.3, max_step_size=2.0)


class TestClipped:
    def test_both_ends(self):
        ((low, i0),) = steps_of(Clipped(LearningRate(0.1), **RANGE), quadratic, [Y])
        ((high, i1),) = steps_of(Clipped(LearningRate(3.0), **RANGE), quadratic, [Y])
        np.testing.assert_allclose([low, high], [0.3, 2.0])
        assert i0.limited and i1.limited

    def test_within(self):
        ((tau, info),) = steps_of(Clipped(LearningRate(0.5), **RANGE), quadratic, [Y])
        assert tau == 0.5 and not info.limited

    def test_bounds_that_exclude_each_other(self):
        with pytest.raises(
            ValueError, match="max_step_size must be above 0 and at least 2"
        ):
            Clipped(LearningRate(0.1), min_step_size=2.0, max_step_size=1.0)


class TestGrowthLimited:
    def test_growth_and_first_step(self):
        rule = GrowthLimited(CurvatureRescaling(), 1.5, first=1e-3)
        (t0, i0), (t1, i1), _ = steps_of(rule, quadratic, [Y] * 3)
        moved = t0 * jnp.linalg.norm(MATRIX @ Y)
        np.testing.assert_allclose(moved, 1e-3 * jnp.linalg.norm(Y), rtol=1e-5)
        np.testing.assert_allclose(t1, 1.5 * t0, rtol=1e-5)
        assert i0.limited and i1.limited

    def test_a_first_step_from_zero_parameters_is_not_zero(self):
        rule = GrowthLimited(CurvatureRescaling())
        ((tau, _),) = steps_of(rule, lambda y: quadratic(y - Y), [jnp.zeros(2)])
        np.testing.assert_allclose(tau * jnp.linalg.norm(MATRIX @ Y), 1e-3, rtol=1e-5)

    def test_norms_that_would_overflow(self):
        """Guards against a bound of zero, or none: float32 squares end at 3e38."""
        rule = GrowthLimited(LearningRate(1e-21))
        ((tau, _),) = steps_of(rule, lambda y: 1e20 * jnp.sum(y**2), [jnp.ones(3)])
        np.testing.assert_allclose(tau, 5e-24, rtol=1e-5)

    def test_the_first_step_may_be_free(self):
        rule = GrowthLimited(CurvatureRescaling(), first=None)
        ((tau, info),) = steps_of(rule, quadratic, [Y])
        np.testing.assert_allclose(tau, exact(), rtol=1e-6)
        assert not info.limited

    def test_zero_curvature_takes_the_limit(self):
        """Guards the start of a network, where the curvature may vanish."""
        rule = GrowthLimited(CurvatureRescaling(), 2.0, first=0.1)
        (t0, _), (t1, info) = steps_of(rule, jnp.sum, [jnp.ones(4)] * 2)
        np.testing.assert_allclose([t0, t1], [0.1, 0.2], rtol=1e-6)
        assert info.flat and info.limited

    @pytest.mark.parametrize(
        "kwargs, message",
        [
            ({"factor": 0.5}, "factor must be at least 1"),
            ({"first": 0.0}, "first must be above 0"),
        ],
    )
    def test_bad_hyper_parameters(self, kwargs, message):
        with pytest.raises(ValueError, match=message):
            GrowthLimited(LearningRate(0.1), **kwargs)


class TestRestarted:
    def test_above_its_last_start_the_inner_rule_takes_a_first_step_again(self):
        rule = GrowthLimited(CurvatureRescaling(average=0.9), 1.5, first=1e-3)
        points = [Y, 0.9 * Y, 2 * Y, 1.5 * Y, 3 * Y]
        steps = steps_of(Restarted(rule), quadratic, points)
        first = lambda y: steps_of(rule, quadratic, [y])[0][0]
        t0, t1, t2, t3, t4 = (tau for tau, _ in steps)
        np.testing.assert_allclose([t0, t2, t4], [first(y) for y in points[::2]], rtol=1e-6)
        # Between, it goes on: 1.5 Y is above the first start, but not above the second.
        np.testing.assert_allclose([t1, t3], [1.5 * t0, 1.5 * t2], rtol=1e-6)

    def test_a_loss_that_is_not_finite_starts_nothing(self):
        rule = Restarted(GrowthLimited(LearningRate(1.0), 1.5, first=1e-3))
        points = [Y, jnp.full(2, jnp.nan), jnp.full(2, jnp.inf), 2 * Y]
        *_, (tau, _) = steps_of(rule, quadratic, points)
        ((first, _),) = steps_of(rule, quadratic, [2 * Y])
        np.testing.assert_allclose(tau, first, rtol=1e-6)

    def test_pairs_of_steps_are_refused(self):
        with pytest.raises(ValueError, match="StepTuned looks at several in a row"):
            Restarted(StepTuned(0.1))


class TestSmoothed:
    def test_the_average_is_corrected_for_its_start(self):
        rule = Smoothed(LearningRate(1.0, lambda count: 2.0 - count), 0.75)
        (t0, _), (t1, _), (t2, _), (t3, _) = steps_of(rule, quadratic, [Y] * 4)
        np.testing.assert_allclose([t0, t1], [2.0, (0.75 * 2 + 1) / 1.75], rtol=1e-6)
        # Steps of zero and below were refused: the average waits.
        assert t2 == 0 and t3 == 0


class TestScheduled:
    def test_a_product(self):
        rule = Scheduled(CurvatureRescaling(), lambda count: 0.5**count)
        taus = [tau for tau, _ in steps_of(rule, quadratic, [Y] * 3)]
        np.testing.assert_allclose(taus, exact() * 0.5 ** np.arange(3), rtol=1e-6)

    def test_what_is_no_schedule(self, unchecked):
        with pytest.raises(ValueError, match="schedule must be a function of the step"):
            Scheduled(LearningRate(0.1), 0.5)


class TestBacktracking:
    def test_the_exact_step_of_a_parabola_is_accepted_at_once(self):
        ((tau, info),) = steps_of(Backtracking(CurvatureRescaling()), quadratic, [Y])
        np.testing.assert_allclose(tau, exact(), rtol=1e-6)
        assert info.losses == 1 and not info.limited

    def test_it_comes_back_from_what_is_too_long(self):
        rule = Backtracking(LearningRate(4.0), sufficient=0.1)
        ((tau, info),) = steps_of(rule, quadratic, [Y])
        g = MATRIX @ Y
        meets = lambda t: quadratic(Y - t * g) <= quadratic(Y) - 0.1 * t * (g @ g)
        assert meets(tau) and not meets(2 * tau)
        assert info.losses == 1 + np.log2(4 / tau) and info.limited

    def test_no_trial_accepted(self):
        rule = Backtracking(LearningRate(1e3), max_trials=3, fallback=0.25)
        ((tau, info),) = steps_of(rule, quadratic, [Y])
        assert tau == 0.25 and info.exhausted and info.losses == 3

    def test_where_the_inner_rule_goes_uphill(self):
        for fallback in (0.0, 0.5):
            rule = Backtracking(LearningRate(0.1), fallback=fallback)
            ((tau, info),) = steps_of(rule, quadratic, [Y], [MATRIX @ Y])
            assert tau == fallback and info.ascent and info.losses == 0

    def test_what_is_not_finite_has_no_fallback(self):
        rule = Backtracking(LearningRate(0.1), fallback=0.5)
        fn = lambda y: jnp.inf + quadratic(y)
        ((tau, info),) = steps_of(rule, fn, [Y], [MATRIX @ Y])
        assert tau == 0 and info.nonfinite
