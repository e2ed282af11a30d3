"""Searches along the line: Armijo's, in several shapes, and Optimistix's own."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from lines import exact, MATRIX, quadratic, steps_of, Y

import curvopt
from strategies import (
    BacktrackingArmijo,
    FromSearch,
    HessianAwareScaling,
    LearningRate,
    SGD,
    StochasticArmijo,
)


G = MATRIX @ Y


def armijo(start, factor, sufficient):
    """By hand: the step, and the trials that it took."""
    t, trials = start, 1
    while quadratic(Y - t * G) > quadratic(Y) - sufficient * t * (G @ G):
        t, trials = t * factor, trials + 1
    return t, trials


class TestStochasticArmijo:
    def test_it_starts_a_little_above_the_last_step(self):
        rule = StochasticArmijo(2.0, steps_per_epoch=3)
        (t0, i0), (t1, i1) = steps_of(rule, quadratic, [Y] * 2)
        first, trials = armijo(2.0, 0.9, 0.1)
        np.testing.assert_allclose(t0, first, rtol=1e-5)
        assert i0.losses == trials
        second, trials = armijo(first * 2 ** (1 / 3), 0.9, 0.1)
        np.testing.assert_allclose(t1, second, rtol=1e-5)
        assert i1.losses == trials

    def test_no_trial_accepted(self):
        rule = StochasticArmijo(1e6, max_trials=3)
        (t0, info), (t1, i1) = steps_of(rule, quadratic, [Y] * 2)
        np.testing.assert_allclose([t0, t1], [1e-6, 2e-6], rtol=1e-5)
        assert info.exhausted and i1.losses == 1

    def test_ascent_leaves_the_start_of_the_next_search_alone(self):
        rule = StochasticArmijo()
        (t0, info), (t1, _) = steps_of(rule, quadratic, [Y] * 2, [G, -G])
        assert info.ascent and info.losses == 0
        np.testing.assert_allclose([t0, t1], [1e-6, armijo(1.0, 0.9, 0.1)[0]], rtol=1e-5)


class TestHessianAwareScaling:
    def test_strong_curvature_is_the_exact_step(self):
        ((tau, info),) = steps_of(HessianAwareScaling(), quadratic, [Y])
        np.testing.assert_allclose(tau, exact(), rtol=1e-6)
        assert info.losses == 1 and not info.flat

    def test_weak_curvature_goes_forward(self):
        """A flat quadratic: doubled from 1, as long as there is sufficient decrease."""
        fn = lambda y: 0.01 * quadratic(y)
        rule = HessianAwareScaling(sufficient=0.1)
        ((tau, info),) = steps_of(rule, fn, [Y])
        g = 0.01 * G
        meets = lambda t: fn(Y - t * g) <= fn(Y) - 0.1 * t * (g @ g)
        assert tau > 1 and meets(tau) and not meets(2 * tau)
        assert info.flat and info.losses == 2 + np.log2(tau)

    def test_negative_curvature_starts_from_its_own_scale(self):
        """Bounded below, so that going forward ends."""
        fn = lambda y: jnp.sum(jnp.cos(y))
        y = jnp.array([0.3, -0.2])
        rule = HessianAwareScaling(negative_scale=0.5)
        ((tau, info),) = steps_of(rule, fn, [y])
        assert (
            info.negative
            and tau >= 0.5
            and tau / 0.5 == 2 ** round(float(jnp.log2(tau / 0.5)))
        )
        assert fn(y + tau * jnp.sin(y)) < fn(y)

    def test_trials_are_bounded_where_the_loss_is_not(self):
        rule = HessianAwareScaling(max_trials=5)
        ((tau, info),) = steps_of(rule, jnp.sum, [Y])
        assert tau == 2.0**5 and info.losses == 6

    def test_a_curvature_that_is_not_finite(self):
        fn = lambda y: jnp.sum(jnp.abs(y) ** 1.5)
        ((tau, info),) = steps_of(
            HessianAwareScaling(), fn, [jnp.array([1.0, 0.0])], [jnp.array([-1.0, 1.0])]
        )
        assert tau == 0 and info.nonfinite

    def test_the_largest_weak_scale(self):
        """Guards against a refusal by rounding."""
        HessianAwareScaling(strong=1.1, weak_scale=1 / 1.1)

    def test_a_weak_scale_beyond_its_range(self):
        with pytest.raises(ValueError, match="weak_scale must be above 0 and at most 10"):
            HessianAwareScaling(weak_scale=11.0)


class TestFromSearch:
    def test_a_learning_rate(self):
        ((tau, info),) = steps_of(FromSearch(optx.LearningRate(0.3)), quadratic, [Y])
        np.testing.assert_allclose(tau, 0.3, rtol=1e-6)
        assert info.losses == 1

    def test_armijo_is_ours(self, dtype):
        """Two implementations, one rule."""
        y = Y.astype(dtype)
        theirs = FromSearch(optx.BacktrackingArmijo(0.5, 0.1, 2.0))
        ours = BacktrackingArmijo(2.0, 0.5, 0.1)
        points = [y, jnp.array([0.3, 1.0], dtype)]
        for (a, i), (b, j) in zip(
            steps_of(theirs, quadratic, points), steps_of(ours, quadratic, points)
        ):
            assert a == b and i.losses == j.losses

    def test_a_radius_grows_with_success(self):
        rule = FromSearch(optx.LinearTrustRegion())
        (t0, _), (t1, _) = steps_of(rule, lambda y: 1e-3 * quadratic(y), [Y] * 2)
        assert t1 > t0 == 1.0

    def test_nothing_accepted(self):
        rule = FromSearch(optx.BacktrackingArmijo(), max_trials=4)
        (t0, info), (t1, _) = steps_of(rule, quadratic, [Y] * 2, [G, -G])
        assert t0 == 0 and info.exhausted and info.ascent
        assert t1 > 0  # it starts anew

    def test_the_solver_is_optimistixs_own(self, x64):
        """Gradient descent in both, trial by trial."""
        fn = lambda y, _: quadratic(y) + jnp.sum(y**4)
        solver = curvopt.LineSearchMinimiser(
            SGD(), FromSearch(optx.BacktrackingArmijo()), 1e-8, 1e-8
        )

        class Descent(optx.AbstractGradientDescent):
            rtol: float = 1e-8
            atol: float = 1e-8
            norm: object = optx.max_norm
            descent: object = optx.SteepestDescent()
            search: object = optx.BacktrackingArmijo()

        ours = optx.minimise(fn, solver, Y, max_steps=50)
        theirs = optx.minimise(fn, Descent(), Y, max_steps=500)
        np.testing.assert_allclose(ours.value, theirs.value, atol=1e-7)

    def test_what_needs_a_hessian(self):
        rule = FromSearch(optx.ClassicalTrustRegion())
        with pytest.raises(
            ValueError, match="ClassicalTrustRegion cannot be used as a line"
        ):
            steps_of(rule, quadratic, [Y])

    @pytest.mark.parametrize("search", [LearningRate(0.1), optx.SteepestDescent()])
    def test_what_is_no_search(self, search, unchecked):
        with pytest.raises(ValueError, match="an instance of optimistix.AbstractSearch"):
            FromSearch(search)


def test_searches_are_jittable_with_hyper_parameters_as_data():
    traces = 0

    @eqx.filter_jit
    def run(rule):
        nonlocal traces
        traces += 1
        return steps_of(rule, quadratic, [Y])[0][0]

    a, b = run(HessianAwareScaling(0.1)), run(HessianAwareScaling(0.2))
    assert traces == 1 and a == b
