"""Bad arguments are answered before anything is compiled, by name, value and remedy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import optimistix as optx
import pytest

import curvopt
from strategies import ForwardGradient, FromOptax, LearningRate, Momentum, SGD


KEY, Y = jr.key(0), jnp.ones(2)


def loss(y, args):
    return jnp.sum(y**2)


def solver(**kwargs):
    return curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1), **kwargs)


def indices(key=KEY, count=0, size=10, batch_size=2):
    return curvopt.minibatch_indices(key, count, size=size, batch_size=batch_size)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: solver(rtol="x"), "rtol must be a number, but it is 'x'"),
        (lambda: solver(rtol=float("nan")), "rtol must be at least 0, but it is nan"),
        (lambda: solver(atol=-1.0), "atol must be at least 0, but it is -1"),
        (lambda: solver(norm=None), "norm must be a function of a pytree, such as optim"),
        (lambda: solver(verbose="yes"), "verbose must be one of True, False"),
        (lambda: Momentum(nesterov="yes"), "nesterov must be one of True, False, but it"),
        (lambda: Momentum(nesterov=1), "nesterov must be one of True, False, but it is 1"),
        (lambda: LearningRate(0.1, lambda k: -1.0), r"schedule\(0\) must be at least 0"),
        (lambda: LearningRate(0.1, lambda k: jnp.nan), r"schedule\(0\) must be at least 0"),
        (lambda: LearningRate(0.1, lambda k: jnp.inf), "schedule .* at step 0 it is inf"),
        (lambda: LearningRate(0.1, lambda k: "x"), r"schedule\(0\) must be a number"),
        (lambda: LearningRate(0.1, lambda k: Y), r"schedule\(0\) must be one number"),
        (lambda: LearningRate(0.1, lambda k, j: 1.0), "at step 0 it fails: .*missing 1"),
        (lambda: indices(count=-1), "count must be an integer of at least 0, but it is -1"),
        (lambda: indices(count=1.5), "count must be an integer"),
        (
            lambda: indices(count="a"),
            "count must be an integer of at least 0, but it is 'a'",
        ),
        (lambda: indices(key=None), "key must be one typed random key, .* but it is None"),
        (lambda: indices(key=jr.split(KEY)), "key must be one typed random key"),
        (lambda: indices(size=2**31), r"size must be below 2\*\*31, but it is 2147483648"),
        (lambda: curvopt.final_metric(None, "m"), "data must be the dataset of a study"),
        (lambda: curvopt.tree_dot([Y], [Y, Y]), r"a and b must have the same shapes"),
        (
            lambda: curvopt.tree_dot(Y, jnp.ones(3)),
            r"have \[\(2,\)\] and \[\(3,\)\]",
        ),
        (
            lambda: curvopt.tree_norm("x"),
            "a must be a pytree of arrays, but",
        ),
        (lambda: curvopt.scalar_dtype(3), "y must be a pytree of arrays"),
        (lambda: curvopt.quadratic_model(None, Y), r"fn must be the loss, fn\(y, args\)"),
        (
            lambda: curvopt.tag_output(None),
            "z must be the model's output, a pytree of arrays",
        ),
        (lambda: FromOptax(None), "tx must be an optax.GradientTransformation"),
        (
            lambda: FromOptax(optax.adam(1.0), hyperparameters=3),
            "hyperparameters must be a dictionary of numbers by name, but it is 3",
        ),
    ],
)
def test_a_bad_argument(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_key_among_the_options():
    random = curvopt.LineSearchMinimiser(ForwardGradient(), LearningRate(0.1))
    with pytest.raises(ValueError, match=r"options\['key'\] must be one typed random key"):
        optx.minimise(loss, random, Y, options=dict(key=3), max_steps=2)


def test_a_traced_schedule_is_not_looked_at():
    """A factor that is data, under vmap, is no constant that could be checked."""

    def last(factor):
        return LearningRate(0.1, lambda k: factor).schedule(0)

    assert jax.vmap(last)(jnp.array([1.0, 2.0])).shape == (2,)


def test_what_is_traced_is_not_looked_at():
    counts = jnp.arange(3)
    drawn = eqx.filter_vmap(lambda n: indices(count=n))(counts)
    assert drawn.shape == (3, 2)


def test_what_is_known_is_looked_at_within_a_trace_too():
    """A comparison in jax would be traced, and have no truth."""
    made = jax.jit(lambda key: indices(key, jnp.array(3)))(KEY)
    assert made.shape == (2,)
    searched = jax.jit(lambda rate: LearningRate(rate, lambda k: jnp.cos(k)).learning_rate)
    assert searched(0.1) == jnp.float32(0.1)
