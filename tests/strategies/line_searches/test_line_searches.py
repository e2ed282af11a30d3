"""Each line search against closed forms on a quadratic, and its guards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lines import exact, line_of, MATRIX, quadratic, steps_of, Y

import curvopt
from strategies import (
    Adam,
    BacktrackingArmijo,
    BarzilaiBorwein,
    CDAT,
    CurvatureRescaling,
    GeneralizedNewton,
    LearningRate,
    Momentum,
    Polyak,
    recipes,
    RobbinsMonro,
    SGD,
    StepTuned,
)


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
            ((None,), "learning_rate must be a number, but it is None"),
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

    def test_negative_curvature_enters_by_its_absolute_value(self):
        ((tau, info),) = steps_of(CurvatureRescaling(), lambda y: -quadratic(y), [Y])
        np.testing.assert_allclose(tau, exact(), rtol=1e-6)
        assert info.negative and info.curvature < 0

    def test_negative_curvature_as_none(self):
        rule = CurvatureRescaling(negative="flat", initial=0.3)
        ((tau, info),) = steps_of(rule, lambda y: -quadratic(y), [Y])
        np.testing.assert_allclose(tau, 0.3, rtol=1e-6)
        assert info.negative and info.flat

    def test_zero_curvature_repeats_the_last_step(self):
        """A linear loss, after a quadratic one."""
        fn = lambda y: jnp.where(y[0] > 1.5, quadratic(y), jnp.sum(y))
        (t0, i0), (t1, i1) = steps_of(CurvatureRescaling(), fn, [Y, jnp.ones(2)])
        assert t1 == t0 > 0 and i1.flat and not i0.flat
        ((tau, _),) = steps_of(CurvatureRescaling(), fn, [jnp.ones(2)])
        assert tau == 1.0  # before there was any

    def test_ascent_is_a_step_of_zero(self):
        ((tau, info),) = steps_of(CurvatureRescaling(), quadratic, [Y], [MATRIX @ Y])
        assert tau == 0 and info.ascent

    def test_ascent_with_its_sign(self):
        """A step of zero where the average ascends; the averages keep their sign, so that
        an ascent counts against later descents."""
        rule = CurvatureRescaling(ascent="signed", average=0.5)
        g = MATRIX @ Y
        steps = steps_of(rule, quadratic, [Y] * 4, [-g, g, -g, -g])
        descent, sharpness, expected = 0.0, 0.0, []
        for sign in (1, -1, 1, 1):
            descent, sharpness = descent / 2 + sign, sharpness / 2 + 1
            expected.append(max(descent, 0) / sharpness * exact())
        assert expected[1] == 0 < expected[2] < expected[3]
        np.testing.assert_allclose([tau for tau, _ in steps], expected, rtol=1e-6)
        assert [bool(info.ascent) for _, info in steps] == [
            False,
            True,
            False,
            False,
        ]

    def test_ascent_with_its_sign_is_as_zero_where_all_slopes_descend(self):
        points = [Y, jnp.array([0.3, 1.0]), jnp.array([-1.0, 0.2])]
        signed, zero = (
            steps_of(CurvatureRescaling(ascent=ascent, average=0.9), quadratic, points)
            for ascent in ("signed", "zero")
        )
        for (a, _), (b, _) in zip(signed, zero):
            assert a == b > 0

    def test_zero_gradient(self):
        ((tau, info),) = steps_of(CurvatureRescaling(), quadratic, [jnp.zeros(2)])
        assert tau == 0 and not info.ascent and not info.nonfinite

    def test_what_is_not_finite_leaves_the_averages_alone(self):
        fn = lambda y: quadratic(y) * jnp.where(y[0] > 0, 1.0, jnp.nan)
        rule = CurvatureRescaling(average=0.5)
        sick = jnp.array([-1.0, 1.0])
        (t0, _), (t1, info), (t2, _) = steps_of(rule, fn, [Y, sick, Y])
        assert t1 == 0 and info.nonfinite and t0 > 0
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
            ({"initial": 0.0}, "initial must be above 0"),
            ({"along": "gradient"}, "along must be one of 'direction', 'fresh'"),
            ({"negative": "zero"}, "negative must be one of 'absolute', 'flat'"),
            (
                {"ascent": "stop"},
                "ascent must be one of 'zero', 'signed'",
            ),
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
        assert tau == expected < 1 and info.losses == trials and info.limited
        assert info.curvatures == 0

    def test_a_trial_that_is_not_finite_is_rejected(self):
        fn = lambda y: jnp.where(jnp.sum(y**2) < 6, quadratic(y), jnp.nan)
        ((tau, info),) = steps_of(BacktrackingArmijo(8.0), fn, [Y])
        assert 0 < tau < 1 and not info.nonfinite

    def test_no_trial_accepted(self):
        rule = BacktrackingArmijo(1e3, 0.9, max_trials=3)
        ((tau, info),) = steps_of(rule, quadratic, [Y])
        assert tau == 0 and info.exhausted and info.losses == 3

    def test_ascent(self):
        ((tau, info),) = steps_of(BacktrackingArmijo(), quadratic, [Y], [MATRIX @ Y])
        assert tau == 0 and info.ascent and info.losses == 0

    def test_bad_hyper_parameters(self):
        with pytest.raises(ValueError, match="backtrack must be above 0 and below 1"):
            BacktrackingArmijo(backtrack=1.0)
        with pytest.raises(ValueError, match="max_trials must be an integer"):
            BacktrackingArmijo(max_trials=0)


class TestRobbinsMonro:
    def test_steps(self):
        taus = [t for t, _ in steps_of(RobbinsMonro(0.5, 0.75), quadratic, [Y] * 3)]
        np.testing.assert_allclose(taus, 0.5 * np.arange(1, 4) ** -0.75, rtol=1e-6)

    @pytest.mark.parametrize("exponent", [0.5, 1.1])
    def test_exponents_whose_steps_do_not_converge(self, exponent):
        with pytest.raises(ValueError, match="exponent must be above 0.5 and at most 1"):
            RobbinsMonro(0.1, exponent)


class TestGeneralizedNewton:
    def test_it_is_exact_on_a_parabola(self, x64):
        rule = GeneralizedNewton(0.01, smoothing=0, clip=float("inf"))
        y = Y.astype(jnp.float64)
        ((tau, info),) = steps_of(rule, quadratic, [y])
        np.testing.assert_allclose(tau, exact(y), rtol=1e-8)
        assert info.losses == 2 and info.curvatures == 0

    def test_smoothing_and_clip(self):
        rule = GeneralizedNewton(0.1, smoothing=0.9, clip=2.0)
        (t0, i0), (t1, _) = steps_of(rule, quadratic, [Y] * 2)
        np.testing.assert_allclose(t0, 0.09 + 0.1 * 0.2, rtol=1e-5)
        np.testing.assert_allclose(t1, 0.9 * t0 + 0.1 * 2 * t0, rtol=1e-4)
        assert i0.limited

    @pytest.mark.parametrize(
        "fn, guard",
        [
            (lambda y: -quadratic(y), "negative"),
            (lambda y: 4 * jnp.sum(y), "flat"),
            (lambda y: jnp.where(y[0] == 2, quadratic(y), jnp.nan), "nonfinite"),
        ],
    )
    def test_what_is_no_parabola_keeps_the_rate(self, fn, guard):
        rate = 0.25  # exact in binary: the losses of the plane have no rounding
        ((tau, info),) = steps_of(GeneralizedNewton(rate), fn, [Y], [-MATRIX @ Y])
        assert tau == rate and getattr(info, guard)

    def test_ascent_keeps_the_rate(self):
        rule = GeneralizedNewton(0.1)
        ((tau, info),) = steps_of(rule, quadratic, [Y], [MATRIX @ Y])
        np.testing.assert_allclose(tau, 0.1, rtol=1e-6)
        assert info.ascent


class TestPolyak:
    def test_the_step_and_its_growth(self):
        g = MATRIX @ Y
        wanted = (quadratic(Y) - 1.0) / (0.5 * g @ g)
        ((tau, info),) = steps_of(Polyak(1.0, steps_per_epoch=1), quadratic, [Y])
        np.testing.assert_allclose(tau, wanted, rtol=1e-6)
        assert not info.limited and info.losses == 0
        rule = Polyak(initial=1e-3, steps_per_epoch=4)
        (t0, info), (t1, _) = steps_of(rule, quadratic, [Y] * 2)
        np.testing.assert_allclose([t0, t1], 1e-3 * 2 ** np.array([0.25, 0.5]), rtol=1e-5)
        assert info.limited

    def test_on_a_parabola_in_one_dimension_it_is_exact(self):
        """With c = 1/2 and the right bound; Newton's method for a double root."""
        fn = lambda y: 3 * jnp.sum(y**2)
        ((tau, _),) = steps_of(Polyak(scale=0.5), fn, [jnp.array([2.0])])
        np.testing.assert_allclose(tau, 1 / 6, rtol=1e-6)

    @pytest.mark.parametrize("bound, directions", [(10.0, None), (0.0, [MATRIX @ Y])])
    def test_nothing_to_gain(self, bound, directions):
        ((tau, info),) = steps_of(Polyak(bound), quadratic, [Y], directions)
        assert tau == 0 and info.ascent == (directions is not None)

    def test_nothing_to_gain_where_the_slope_underflows(self):
        """The step was 0 / 0."""
        fn = lambda y: -jnp.float32(2e-38) * jnp.sum(y)
        ((tau, info),) = steps_of(Polyak(1.0), fn, [jnp.zeros(1)], [jnp.ones(1)])
        assert tau == 0 and not info.nonfinite

    def test_zero_gradient_and_bad_numbers(self):
        rule = Polyak(-1.0)
        bad = lambda y: quadratic(y) * jnp.where(y[0] > 0, 1.0, jnp.nan)
        points = [Y, jnp.array([-1.0, 0.0]), Y]
        (t0, _), (t1, i1), (t2, _) = steps_of(rule, bad, points)
        assert t1 == 0 and i1.nonfinite and t2 == t0 > 0
        assert steps_of(rule, quadratic, [jnp.zeros(2)])[0][0] == 0


class TestBarzilaiBorwein:
    POINTS = (Y, jnp.array([0.3, 1.0]))

    def test_along_the_gradient_on_a_quadratic_it_is_the_last_exact_step(self):
        g = MATRIX @ Y
        points = [Y, Y - 0.05 * g]
        _, (tau, _) = steps_of(BarzilaiBorwein(0.05), quadratic, points)
        np.testing.assert_allclose(tau, exact(Y), rtol=1e-4)

    def test_both_formulas(self):
        s = self.POINTS[1] - self.POINTS[0]
        z = MATRIX @ s
        for kind, wanted in (("long", (s @ s) / (s @ z)), ("short", (s @ z) / (z @ z))):
            rule = BarzilaiBorwein(0.1, kind=kind)
            (t0, _), (t1, _) = steps_of(rule, quadratic, self.POINTS)
            np.testing.assert_allclose([t0, t1], [0.1, wanted], rtol=1e-5)

    def test_once_an_epoch_with_averaged_gradients(self):
        """By hand, as Tan et al. have it, but for the start of the average."""
        points = [Y, *self.POINTS[1:], jnp.array([0.1, -0.4]), jnp.array([-0.2, 0.2])]
        points += [jnp.array([0.5, 0.1])]
        rule = BarzilaiBorwein(0.1, every=2, average=0.25)
        taus = [float(t) for t, _ in steps_of(rule, quadratic, points)]
        average, anchor, kept, wanted = None, None, 0.1, []
        for k, y in enumerate(points):
            g = MATRIX @ y
            average = g if average is None else 0.25 * average + 0.75 * g
            if k % 2 == 0:
                if anchor is not None:
                    s, z = y - anchor[0], average - anchor[1]
                    kept = float((s @ s) / abs(s @ z) / 2)
                anchor = y, average
            wanted.append(kept)
        np.testing.assert_allclose(taus, wanted, rtol=1e-4)

    def test_no_change_repeats_the_step(self):
        _, (tau, info) = steps_of(BarzilaiBorwein(0.1), quadratic, [Y, Y])
        np.testing.assert_allclose(tau, 0.1)
        assert info.flat

    def test_negative_curvature(self):
        rule = BarzilaiBorwein(0.1)
        _, (tau, info) = steps_of(rule, lambda y: -quadratic(y), self.POINTS)
        assert tau > 0 and info.negative


class TestStepTuned:
    def test_against_the_algorithm_by_hand(self):
        """Noisy gradients, two half-steps on each batch, as published."""
        noise = 0.1 * np.random.default_rng(0).normal(size=(6, 2))
        g = lambda y, k: np.asarray(MATRIX) @ y + noise[k]
        alpha, nu, beta, low, high, delta = 0.2, 2.0, 0.9, 0.5, 2.0, 0.001
        y, gamma, average = np.asarray(Y), 1.0, np.zeros(2)
        points, batches, wanted = [], [], []
        for k in range(6):
            tau = alpha * gamma / (k + 1) ** (0.5 + delta)
            half = y - tau * g(y, k)
            points += [y, half]
            batches += [k, k]
            wanted += [tau, tau]
            s, z = half - y, g(half, k) - g(y, k)
            average = beta * average + (1 - beta) * z
            inner = average / (1 - beta ** (k + 1)) @ s
            gamma = np.clip(s @ s / inner if inner > 0 else nu, low, high)
            y = half - tau * g(half, k)
        rule = StepTuned(alpha)
        state, taus = rule.init(Y), []
        for count, (point, k) in enumerate(zip(points, batches)):
            point = jnp.asarray(point, jnp.float32)
            line = line_of(lambda y, k=k: quadratic(y) + noise[k] @ y, point)
            tau, _, state = rule.step(line, jnp.array(count), state)
            taus.append(tau)
        np.testing.assert_allclose(taus, wanted, rtol=1e-4)

    def test_it_asks_for_two_steps_on_a_batch_through_wrappers_too(self):
        from strategies import Clipped, Scheduled

        rule = StepTuned(0.1)
        assert Clipped(Scheduled(rule, lambda k: 1.0)).steps_per_batch == 2
        assert rule.steps_per_batch == 2 and Polyak().steps_per_batch == 1

    def test_negative_curvature_takes_the_published_constant(self):
        rule = StepTuned(0.1, nonconvex=1.5)
        points = [Y, jnp.array([1.0, 1.0]), Y]
        (t0, _), (t1, info), (t2, _) = steps_of(rule, lambda y: -quadratic(y), points)
        assert t0 == t1 and info.negative
        np.testing.assert_allclose(t2, 0.1 * 1.5 / 2**0.501, rtol=1e-5)


@pytest.mark.parametrize("direction", [SGD(), Momentum(), Adam()])
@pytest.mark.parametrize(
    "recipe",
    [
        functools.partial(recipes.rescaled, steps=200),
        functools.partial(recipes.hindsight, steps=200),
        recipes.hindsight,
        functools.partial(recipes.layerwise, curvature=curvopt.AdjointCurvature()),
    ],
)
def test_recipes_descend_on_noisy_gradients(recipe, direction):
    """A noisy quadratic: a recipe ends below where it began. Made again it is the same
    program: a new schedule would be a new one."""
    solver = recipe(direction)
    assert jax.tree.structure(recipe(direction)) == jax.tree.structure(solver)

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


def test_recipes_take_another_curvature():
    method = curvopt.GaussNewtonCurvature()
    assert recipes.rescaled(SGD(), steps=5, curvature=method).curvature is method
    assert recipes.rescaled_constant(SGD(), curvature=method).curvature is method
    assert recipes.hindsight(SGD(), curvature=method).curvature is method
    assert recipes.layerwise(SGD(), curvature=method).curvature is method


@pytest.mark.parametrize("recipe", [recipes.rescaled, recipes.hindsight, recipes.layerwise])
def test_recipes_refuse_a_run_without_steps(recipe):
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        recipe(SGD(), steps=0)
