"""Directions that solve Newton's equations by conjugate gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx
import pytest

import curvopt
from strategies import (
    Backtracking,
    LearningRate,
    LevenbergMarquardt,
    StrongWolfe,
    TruncatedNewton,
)


def residuals(y):
    return jnp.array([10 * (y[1] - y[0] ** 2), 1 - y[0], 0.1 * y[0] * y[1]])


def squares(y, args):
    del args
    return 0.5 * jnp.sum(curvopt.tag_output(residuals(y)) ** 2)


def start():
    """In the precision of the test."""
    return jnp.array([-1.2, 1.0])


def step(direction, loss, y, curvature: Any = curvopt.AdjointCurvature(), args=None):
    model = curvopt.quadratic_model(loss, y, args, curvature)
    descent, state = direction.step(model, y, direction.init(y, key=jr.key(0)))
    return descent.u, state, model


@pytest.mark.parametrize("iterations", [1, 8])
def test_newtons_step(iterations, x64):
    """Exact in as many products as there are unknowns; the exact step along $-g$ in one."""
    q, _ = jnp.linalg.qr(jr.normal(jr.key(0), (8, 8)))
    matrix = (q * jnp.geomspace(1.0, 100.0, 8)) @ q.T
    y = 1e-9 * jr.normal(jr.key(1), (8,))  # near the minimum, where it is precise
    direction = TruncatedNewton(iterations)
    u, state, model = step(direction, lambda y, a: 0.5 * y @ a @ y, y, args=matrix)
    g = matrix @ y
    exact = -y if iterations == 8 else -(g @ g) / (g @ matrix @ g) * g
    np.testing.assert_allclose(u, exact, atol=1e-6 * jnp.linalg.norm(y))
    assert state.products == iterations
    assert model.slope(u) < 0


def test_it_is_no_more_precise_than_the_forcing_term(x64):
    matrix = jnp.diag(jnp.geomspace(1.0, 1e4, 20))
    y = jnp.ones(20)
    loss = lambda y, a: 0.5 * y @ a @ y
    products = []
    for forcing in (0.5, 1e-2):
        u, state, _ = step(TruncatedNewton(50, forcing), loss, y, args=matrix)
        left = jnp.linalg.norm(matrix @ (u + y)) / jnp.linalg.norm(matrix @ y)
        assert left <= forcing
        products.append(int(state.products))
    assert products[0] < products[1] < 50


@pytest.mark.parametrize("diagonal", [[-1.0, -4.0], [4.0, -1.0], [-1.0, 4.0]])
def test_negative_curvature_is_followed_away_from_a_saddle(diagonal, x64):
    d, y = jnp.array(diagonal), jnp.array([1.0, 0.1])
    u, _, model = step(TruncatedNewton(), lambda y, d: 0.5 * jnp.sum(d * y**2), y, args=d)
    assert model.slope(u) < 0 and jnp.isfinite(u).all()
    away = jnp.sign(u * y) == jnp.where(d < 0, 1, -1)
    assert away[d < 0].all()


def test_no_curvature_at_all():
    """The direction is $-g$ where nothing says how long it should be."""
    u, state, _ = step(TruncatedNewton(), lambda y, _: jnp.sum(y), start())
    np.testing.assert_array_equal(u, -jnp.ones(2))
    assert state.products == 1
    u, state, _ = step(TruncatedNewton(), lambda y, _: jnp.sum(0 * y), start())
    assert not u.any() and state.products == 0


def test_gauss_and_newton(x64):
    """With the tagged output the equations are those of the linearised residuals."""
    y = start()
    by_hand = lambda y: -jnp.linalg.lstsq(jax.jacobian(residuals)(y), residuals(y))[0]
    expected = jax.jit(by_hand)(y)
    u, *_ = step(TruncatedNewton(5, 1e-12), squares, y, curvopt.GaussNewtonCurvature())
    np.testing.assert_allclose(u, expected, rtol=1e-9)


def test_levenberg_and_marquardt(x64):
    y, damping = start(), 7.0

    @jax.jit
    def by_hand(y):
        jacobian = jax.jacobian(residuals)(y)
        damped = jacobian.T @ jacobian + damping * jnp.eye(2)
        return -jnp.linalg.solve(damped, jacobian.T @ residuals(y))

    expected = by_hand(y)
    direction = LevenbergMarquardt(damping=damping, precision=1e-12)
    u, state, model = step(direction, squares, y, curvopt.GaussNewtonCurvature())
    np.testing.assert_allclose(u, expected, rtol=1e-9)
    np.testing.assert_allclose(state.curvature, model.curvature(u), rtol=1e-9)


def test_the_damping_follows_the_promise(x64):
    """It shrinks after a step as good as the model promised, and grows, faster and faster,
    while nothing is gained."""
    direction = LevenbergMarquardt(damping=1.0)
    loss = lambda y, _: 0.5 * y @ y
    y = jnp.array([1.0, -2.0])
    state, seen = direction.init(y, key=jr.key(0)), []
    for t in (1.0, 1.0, 0.0, 0.0, 0.0):
        model = curvopt.quadratic_model(loss, y)
        descent, state = direction.step(model, y, state)
        y = y + t * descent.u
        seen.append(float(state.damping))
    np.testing.assert_allclose(seen, [1, 1 / 3, 1 / 9, 2 / 9, 8 / 9], rtol=1e-9)


CASES = [
    (TruncatedNewton(), curvopt.AdjointCurvature()),
    (TruncatedNewton(), curvopt.GaussNewtonCurvature()),
    (LevenbergMarquardt(), curvopt.GaussNewtonCurvature()),
]


@pytest.mark.parametrize(
    "direction, curvature, rule",
    [
        pytest.param(*case, rule, marks=() if k % 2 == j else pytest.mark.slow)
        for k, case in enumerate(CASES)
        for j, rule in enumerate([Backtracking, StrongWolfe])
    ],
)
def test_a_hard_valley(direction, curvature, rule, x64):
    solver = curvopt.LineSearchMinimiser(
        direction, rule(LearningRate(1.0)), 1e-10, 1e-10, curvature=curvature
    )
    solution = optx.minimise(squares, solver, start(), max_steps=60, throw=False)
    assert solution.result == optx.RESULTS.successful
    best = optx.least_squares(
        lambda y, _: residuals(y), optx.LevenbergMarquardt(1e-12, 1e-12), start()
    )
    np.testing.assert_allclose(solution.value, best.value, atol=1e-6)
