"""What people turn on in jax: each setting with every direction, search and method."""

import contextlib
from itertools import cycle

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optimistix as optx
import pytest
from strategies_by_name import DIRECTIONS, LINE_SEARCHES, PARTNERS

import curvopt
from strategies import CurvatureRescaling, scale_by_line_search, SGD


def debugged():
    """Both of jax's checks at once: each raises by itself."""
    stack = contextlib.ExitStack()
    stack.enter_context(jax.debug_nans(True))
    stack.enter_context(jax.debug_key_reuse(True))
    return stack


SETTINGS = {"debug_nans, key reuse": debugged, "disable_jit": jax.disable_jit}
METHODS = [
    curvopt.AdjointCurvature(),
    curvopt.AdjointCurvature(products="two"),
    curvopt.ForwardCurvature(),
    curvopt.HvpCurvature(),
    curvopt.FiniteDifferenceCurvature(),
]
# Each rule with a direction and a method: each of these is met.
CASES = [(*pair, method) for pair, method in zip(PARTNERS.items(), cycle(METHODS))]


def quadratic(y, args):
    del args
    return jnp.sum((y["a"] - 1) ** 2) + jnp.sum((y["b"].astype(y["a"].dtype) - 1) ** 2)


def start(dtype, other):
    return {"a": jnp.full(3, 2.0, dtype), "b": jnp.full(2, 0.5, other)}


# Each method under each setting in the tests that are always run, with other strategies.
ROWS = [
    pytest.param(setting, *case, marks=() if k // 5 == i else pytest.mark.slow)
    for i, setting in enumerate(SETTINGS)
    for k, case in enumerate(CASES)
]


@pytest.mark.parametrize("setting, rule, direction, method", ROWS)
def test_a_healthy_problem_runs(setting, rule, direction, method):
    rule, direction = LINE_SEARCHES[rule], DIRECTIONS[direction]
    solver = curvopt.LineSearchMinimiser(direction, rule, curvature=method)
    tx = optax.chain(optax.scale(-1.0), scale_by_line_search(rule, curvature=method))
    y = start(jnp.float32, jnp.float32)
    loss = lambda y, args: quadratic(y, args)  # traced anew under the setting

    def update(y):
        grad = jax.grad(loss)(y, None)
        return tx.update(grad, tx.init(y), y, value_fn=lambda y: loss(y, None))[0]

    with SETTINGS[setting]():
        solution = optx.minimise(
            loss, solver, y, throw=False, max_steps=2, options={"key": jr.key(1)}
        )
        updates = jax.jit(update)(y)
    for x in jax.tree.leaves((solution.value, updates)):
        assert np.isfinite(x).all()


DTYPES = {
    "float32": (jnp.float32, jnp.float32),
    "float64": (jnp.float64, jnp.float64),
    "bfloat16": (jnp.bfloat16, jnp.bfloat16),
    "mixed": (jnp.float32, jnp.bfloat16),
}


@pytest.mark.parametrize(
    "dtype",
    [
        # All in one dtype: what fails there fails in two as well.
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("float32", "float64", "bfloat16")
        ),
        "mixed",
    ],
)
@pytest.mark.parametrize("rule, direction, method", CASES)
def test_strict_promotion(rule, direction, method, dtype, x64):
    """Abstractly: it is a matter of types alone."""
    rule, direction = LINE_SEARCHES[rule], DIRECTIONS[direction]
    solver = curvopt.LineSearchMinimiser(direction, rule, curvature=method)
    tx = optax.chain(optax.scale(-1.0), scale_by_line_search(rule, curvature=method))

    def both(y):
        loss = lambda y, args: (quadratic(y, args), None)
        state = solver.init_strategy(y, jr.key(0))
        new, *_ = solver.update(loss, y, None, jnp.array(0, jnp.int32), state)
        updates, _ = tx.update(y, tx.init(y), y, value_fn=lambda y: quadratic(y, None))
        return new, updates

    y = start(*DTYPES[dtype])
    with jax.numpy_dtype_promotion("strict"):
        expected = jax.eval_shape(lambda y: (y, y), y)
        assert jax.eval_shape(both, y) == expected


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_a_user_stays_strict(method):
    def loss(y, args):
        return jnp.sum(y * jnp.ones(3, jnp.bfloat16))

    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(), curvature=method)
    strict = jax.numpy_dtype_promotion("strict")
    with strict, pytest.raises(Exception, match="no available implicit dtype promotion"):
        optx.minimise(loss, solver, jnp.ones(3), max_steps=2)
    optx.minimise(loss, solver, jnp.ones(3), max_steps=2, throw=False)
