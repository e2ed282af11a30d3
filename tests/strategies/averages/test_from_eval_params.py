"""The point at which an optax optimiser is to be evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import curvopt
from strategies import FromEvalParams, FromOptax, LearningRate, SGD


AVERAGE = FromEvalParams(optax.contrib.schedule_free_eval_params)


def loss(y, args):
    return jnp.sum((y["a"] - args) ** 2), None


def test_it_is_the_point_of_optax():
    tx = optax.contrib.schedule_free_adamw(0.1)
    solver = curvopt.LineSearchMinimiser(FromOptax(tx), LearningRate(1.0), average=AVERAGE)
    own = y = {"a": jnp.array([1.0, -2.0])}
    state, theirs = solver.init_strategy(y, jax.random.key(0)), tx.init(own)
    for k in range(4):
        args = jnp.array(float(k))
        y, state, *_ = solver.update(loss, y, args, jnp.array(k), state)
        gradient = jax.grad(loss, has_aux=True)(own, args)[0]
        updates, theirs = tx.update(gradient, theirs, own)
        own = optax.apply_updates(own, updates)
        np.testing.assert_allclose(y["a"], own["a"], rtol=1e-5)
        point = optax.contrib.schedule_free_eval_params(theirs, own)
        np.testing.assert_allclose(state.answer(y)["a"], point["a"], rtol=1e-5)
    assert not np.allclose(point["a"], own["a"])


def test_another_direction_is_refused(unchecked):
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(1.0), average=AVERAGE)
    y = {"a": jnp.ones(2)}
    state = solver.init_strategy(y, jax.random.key(0))
    with pytest.raises(ValueError, match="must be a FromOptax, but its state is a None"):
        solver.update(loss, y, jnp.array(1.0), jnp.array(0), state)
