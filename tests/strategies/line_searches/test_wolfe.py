"""Searches that evaluate gradients: the strong Wolfe conditions, and Hager & Zhang's."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from lines import line_of

import curvopt
from strategies import (
    BacktrackingArmijo,
    BFGS,
    CurvatureRescaling,
    FirstSteps,
    HagerZhang,
    LBFGS,
    LearningRate,
    NonlinearCG,
    SGD,
    StrongWolfe,
)


# Moré & Thuente's functions 1 to 3 for line searches, and Yanai, Ozawa & Kaneko's, their 4
# to 6, along the first coordinate (Moré & Thuente 1994, section 5).
def _first(t):
    return -t / (t**2 + 2)


def _second(t):
    return (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4


def _third(t):
    beta, cycles = 0.01, 39
    inner = jnp.where(
        t <= 1 - beta,
        1 - t,
        jnp.where(t >= 1 + beta, t - 1, (t - 1) ** 2 / (2 * beta) + beta / 2),
    )
    waves = 2 * (1 - beta) / (cycles * jnp.pi) * jnp.sin(cycles * jnp.pi / 2 * t)
    return inner + waves


def _yanai(a, b):
    gamma = lambda x: jnp.sqrt(1 + x**2) - x
    return lambda t: (
        gamma(a) * jnp.sqrt((1 - t) ** 2 + b**2) + gamma(b) * jnp.sqrt(t**2 + a**2)
    )


FUNCTIONS = {
    "1": _first,
    "2": _second,
    "3": _third,
    "4": _yanai(0.001, 0.001),
    "5": _yanai(0.01, 0.001),
    "6": _yanai(0.001, 0.01),
    # A region of infinite values, and one that is flat far out.
    "wall": lambda t: -jnp.log(2 - t) - 3 * t,
    "well": lambda t: -jnp.exp(-(((t - 3) / 2) ** 2)),
}
STARTS = (1e-3, 0.1, 10.0, 1e3)


def run(rule, phi, sign=1.0):
    line = line_of(lambda y: phi(y[0]), jnp.zeros(1), jnp.array([sign]))
    return line, *rule.search(line, jnp.array(0), rule.init(jnp.zeros(1)))[:2]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_conditions_hold(name, x64):
    phi = FUNCTIONS[name]
    derivative = jax.jit(jax.grad(phi))
    value, slope0 = phi(0.0), derivative(0.0)

    @jax.jit
    def strong(start, slope):
        _, trial, info = run(StrongWolfe(LearningRate(start), 1e-4, slope), phi)
        return trial, info

    @jax.jit
    def approximate(start, slope):
        _, trial, info = run(HagerZhang(LearningRate(start), 0.1, slope), phi)
        return trial, info

    for start, slope in itertools.product(STARTS, (0.1, 0.9)):
        trial, info = strong(start, slope)
        t = trial.step_size
        assert not info.exhausted and info.gradients + info.losses <= 16
        np.testing.assert_allclose(trial.value, phi(t), rtol=1e-12)
        np.testing.assert_allclose(trial.grad, [derivative(t)], rtol=1e-9, atol=1e-12)
        assert trial.value <= value + 1e-4 * t * slope0
        assert abs(trial.slope) <= -slope * slope0

        trial, info = approximate(start, slope)
        t = trial.step_size
        assert not info.exhausted and info.losses == 0 and info.gradients <= 20
        enough = trial.value <= value + 0.1 * t * slope0
        flat = trial.slope <= -0.8 * slope0 and trial.value <= value + 1e-6 * abs(value)
        assert (enough or flat) and trial.slope >= slope * slope0


@pytest.mark.parametrize("rule", [StrongWolfe, HagerZhang])
class TestBoth:
    def test_a_good_first_trial_costs_one_gradient(self, rule):
        _, trial, info = run(rule(LearningRate(1.0)), lambda t: (t - 1) ** 2)
        assert trial.step_size == 1 and trial.value == 0 and not trial.grad.any()
        assert (info.gradients, info.losses, info.curvatures) == (1, 0, 0)

    def test_what_inner_measured_is_counted(self, rule):
        _, trial, info = run(rule(CurvatureRescaling()), lambda t: (t - 1) ** 2)
        assert trial.step_size == 1
        assert (info.gradients, info.curvatures) == (1, 1) and info.curvature == 2

    @pytest.mark.parametrize("sign, phi", [(-1.0, lambda t: -t), (1.0, jnp.sqrt)])
    def test_no_descent_and_no_finite_slope(self, rule, sign, phi):
        """It ends at the start, with the gradient there."""
        line, trial, info = run(rule(LearningRate(1.0)), phi, sign)
        assert trial.step_size == 0 and info.gradients == info.losses == 0
        np.testing.assert_array_equal(trial.grad, line.grad)
        assert info.ascent if sign < 0 else info.nonfinite

    def test_no_condition_met_takes_the_lowest_trial(self, rule):
        """The loss has no minimum, and its slope does not become small."""
        _, trial, info = run(rule(LearningRate(1.0), max_trials=3), lambda t: -t)
        assert info.exhausted and info.gradients == 3
        assert trial.step_size > 4 and trial.value == -trial.step_size

    def test_near_a_minimum_losses_differ_by_rounding_only(self, rule, x64):
        """Guards against creeping: sufficient decrease cannot be seen there."""
        phi = lambda t: 1 + 1e-20 * (t - 1) ** 2
        _, trial, info = run(rule(LearningRate(1.0)), phi)
        assert trial.step_size == 1 and not info.exhausted and info.gradients == 1


def test_armijo_near_a_minimum(x64):
    """Guards against creeping, as above."""
    line = line_of(lambda y: 1 + 1e-20 * (y[0] - 1) ** 2, jnp.zeros(1), jnp.ones(1))
    t, info, _ = BacktrackingArmijo().step(line, jnp.array(0), None)
    assert t == 1 and info.losses == 1
    # No more than that: a step that climbs is refused.
    line = line_of(lambda y: 1 + 1e-12 * (y[0] - 1) ** 2, jnp.zeros(1), 4 * jnp.ones(1))
    t, info, _ = BacktrackingArmijo().step(line, jnp.array(0), None)
    assert t == 0.5 and info.losses == 2


def test_first_steps_ask_one_rule_at_a_time():
    rule = FirstSteps(CurvatureRescaling(), LearningRate(1.0), 2)
    line = line_of(lambda y: 2 * y @ y, jnp.ones(2))
    state, rows = rule.init(jnp.ones(2)), []
    for count in range(3):
        step_size, info, state = rule.step(line, jnp.array(count), state)
        rows.append((float(step_size), int(info.curvatures)))
    assert rows == [(0.25, 1), (0.25, 1), (1.0, 0)]


def rosenbrock(y, args):
    del args
    return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


@pytest.mark.parametrize(
    "direction, rule",
    [
        (BFGS(), HagerZhang),
        (LBFGS(), StrongWolfe),
        (NonlinearCG(), HagerZhang),
        pytest.param(BFGS(), StrongWolfe, marks=pytest.mark.slow),
        pytest.param(LBFGS(), HagerZhang, marks=pytest.mark.slow),
        pytest.param(NonlinearCG(), StrongWolfe, marks=pytest.mark.slow),
    ],
)
def test_a_hard_valley(direction, rule, x64):
    is_cg = isinstance(direction, NonlinearCG)
    inner = CurvatureRescaling() if is_cg else LearningRate(1.0)
    rule = rule(inner, slope=0.1 if is_cg else 0.9)
    solver = curvopt.LineSearchMinimiser(direction, rule, 1e-10, 1e-10)
    start = jnp.array([-1.2, 1.0])
    solution = optx.minimise(rosenbrock, solver, start, max_steps=150, throw=False)
    assert solution.result == optx.RESULTS.successful
    np.testing.assert_allclose(solution.value, 1, atol=1e-6)


def test_inside_a_mini_batch_step_it_is_a_line_search_like_any_other():
    """Two steps of `update` are two of `minimise`."""
    solver = curvopt.LineSearchMinimiser(SGD(), StrongWolfe(LearningRate(1.0)))
    y = start = jnp.array([-1.2, 1.0])
    state = solver.init_strategy(y, jax.random.key(0))
    update = jax.jit(
        lambda y, k, state: solver.update(
            lambda y, _: (rosenbrock(y, None), None), y, None, k, state
        )[:2]
    )
    for k in range(2):
        y, state = update(y, jnp.array(k), state)
    solution = optx.minimise(rosenbrock, solver, start, max_steps=2, throw=False)
    np.testing.assert_allclose(y, solution.value, rtol=1e-5)
