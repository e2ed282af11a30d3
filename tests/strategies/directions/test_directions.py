"""Each direction against optax's, or by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import curvopt
from strategies import Adam, Momentum, RMSProp, SGD


def directions_of(direction, gradients, y=None):
    """The descents that a direction proposes for given gradients."""
    y = jnp.zeros_like(gradients[0]) if y is None else y
    state = direction.init(y, key=jax.random.key(0))
    out = []
    for g in gradients:
        model = curvopt.quadratic_model(lambda y, g: jnp.sum(g * y), y, g)
        descent, state = direction.step(model, y, state)
        out.append(descent)
    return out


def updates_of(tx, gradients, y=None):
    y = jnp.zeros_like(gradients[0]) if y is None else y
    state = tx.init(y)
    out = []
    for g in gradients:
        update, state = tx.update(g, state, y)
        out.append(update)
    return out


GRADIENTS = [
    jnp.array([1.0, -2.0, 0.0]),
    jnp.array([0.5, 1.0, 3.0]),
    jnp.array([-1.0, 0.1, 2.0]),
]

# optax's transformations end in a learning rate of one: their updates descend.
CASES = {
    "SGD": (SGD(), optax.sgd(1.0)),
    "classical": (Momentum(0.9, 0.0), optax.sgd(1.0, momentum=0.9)),
    "Nesterov": (
        Momentum(0.9, 0.0, nesterov=True),
        optax.sgd(1.0, momentum=0.9, nesterov=True),
    ),
    "normalised": (
        Momentum(0.9),
        optax.chain(optax.ema(0.9, debias=False), optax.scale(-1.0)),
    ),
    "RMSProp": (
        RMSProp(0.99),
        optax.rmsprop(1.0, decay=0.99, bias_correction=True, eps=1e-8, eps_in_sqrt=False),
    ),
    "Adam": (Adam(), optax.adam(1.0)),
    "Adam, faster": (Adam(0.8, 0.99, 1e-6), optax.adam(1.0, 0.8, 0.99, 1e-6)),
}


@pytest.mark.parametrize("name", CASES)
def test_against_optax(name):
    direction, tx = CASES[name]
    y = jnp.array([0.3, -1.0, 2.0])
    got = directions_of(direction, GRADIENTS, y)
    for descent, expected in zip(got, updates_of(tx, GRADIENTS, y), strict=True):
        np.testing.assert_allclose(descent.u, expected, rtol=1e-5, atol=1e-7)


def test_fresh_parts():
    for direction in (Momentum(), Momentum(0.5, 0.2), Momentum(nesterov=True)):
        for descent, g in zip(directions_of(direction, GRADIENTS), GRADIENTS):
            np.testing.assert_array_equal(descent.fresh, -g)
    for direction in (SGD(), RMSProp()):
        for descent in directions_of(direction, GRADIENTS):
            np.testing.assert_array_equal(descent.fresh, descent.u)
    # Adam without memory of the gradient is RMSProp, and is Adam's fresh part.
    adam = directions_of(Adam(0.9, 0.99), GRADIENTS)
    rmsprop = directions_of(RMSProp(0.99), GRADIENTS)
    for a, r in zip(adam, rmsprop):
        np.testing.assert_allclose(a.fresh, r.u, rtol=1e-5)
    for descent, g in zip(adam, GRADIENTS):
        assert jnp.sum(descent.fresh * g) < 0


@pytest.mark.parametrize("direction", [SGD(), Momentum(), RMSProp(0.9, 0), Adam(epsilon=0)])
def test_a_zero_gradient_gives_a_finite_direction(direction):
    for descent in directions_of(direction, [jnp.zeros(3)] * 2):
        np.testing.assert_array_equal(descent.u, jnp.zeros(3))
        np.testing.assert_array_equal(descent.fresh, jnp.zeros(3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Momentum(1.0), "decay must be at least 0 and below 1, but it is 1.0"),
        (lambda: Momentum(0.9, 1.5), "dampening must be at least 0 and at most 1"),
        (lambda: RMSProp(-0.1), "decay must be"),
        (lambda: RMSProp(epsilon=-1e-8), "epsilon must be at least 0"),
        (lambda: Adam(square_decay=2), "square_decay must be"),
        (lambda: Adam(decay=float("nan")), "decay must be"),
    ],
)
def test_bad_hyper_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
