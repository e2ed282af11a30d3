"""Bad arguments are answered before anything is compiled, by name, value and remedy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optimistix as optx
import pytest

import curvopt
from strategies import ForwardGradient, FromOptax, LearningRate, Momentum, SGD


KEY, Y, TEXT = jr.key(0), jnp.ones(2), np.array("a")


def loss(y, args):
    return jnp.sum(y**2)


def solver(**kwargs):
    return curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1), **kwargs)


class Bounded(curvopt.AbstractDirection):
    """`low` is checked first, and its bound is not known to be a number yet."""

    low: curvopt.Number = curvopt.hyperparameter(0.0, at_most="high", kw_only=True)
    high: curvopt.Number = curvopt.hyperparameter()

    def step(self, model, y, state):
        return curvopt.Descent(model.grad), state


def study(seeds=1, steps=1, **options):
    """Fails before it asks what the problem is."""
    return curvopt.run_study(None, {"a": solver()}, seeds=seeds, steps=steps, **options)


def rule(operand):
    curvopt.register_rule(jax.lax.sin_p, "linear", operand)


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
        (
            lambda: indices(count=-1),
            "count must be an integer from 0, in int32, but it is -1",
        ),
        (lambda: indices(count=1.5), "count must be an integer"),
        (
            lambda: indices(count="a"),
            "count must be an integer from 0, in int32, but it is 'a'",
        ),
        (lambda: indices(key=None), "key must be one typed random key, .* but it is None"),
        (lambda: indices(key=jr.split(KEY)), "key must be one typed random key"),
        (lambda: indices(size=2**31), "size must be at most 2,147,483,647, but it is 214"),
        (lambda: indices(size=10**400), "size must be at most .* it is a number of 401 di"),
        (lambda: indices(count=10**400), "count must be an integer from 0, in int32"),
        (lambda: LearningRate(10**400), "learning_rate must be below 1.8e308 in size, but"),
        (
            lambda: LearningRate(TEXT),
            "learning_rate must be a number, but its dtype is <U1",
        ),
        (
            lambda: solver(rtol=10**400),
            "rtol must be below 1.8e308 in size, but it has 401",
        ),
        (lambda: Bounded("x"), "high must be a number, but it is 'x'"),
        (lambda: Bounded(Y), r"high must be one number, but it has shape \(2,\)"),
        (lambda: Bounded(-1), "low must be at most -1, but it is 0"),
        (
            lambda: study(seeds=10**400),
            "seeds must be at most 1,000,000, but it is a number",
        ),
        (lambda: study(steps=2**31), "steps must be at most 2,147,483,647, but it is 2147"),
        (lambda: study(hyperparameters="x"), "hyperparameters must be values by name"),
        (lambda: study(hyperparameters=Y), "hyperparameters must be values by name"),
        (
            lambda: curvopt.Family(solver, rtol=[10**400]),
            "'rtol' must have at least one val",
        ),
        (lambda: curvopt.Execution(measure=Y), "measure must be True, False or None, but"),
        (lambda: curvopt.tree_zeros("x"), "y must be a pytree of arrays, but a leaf of it"),
        (
            lambda: curvopt.tree_norm([TEXT]),
            "a must be a pytree of arrays, but a leaf of it",
        ),
        (
            lambda: curvopt.register_rule("sin", "linear"),
            "primitive must be an instance of",
        ),
        (
            lambda: rule(operand=-1),
            "operand must be None or an operand's index from 0, but",
        ),
        (lambda: rule(operand=Y), "operand must be None or an operand's index from 0, but"),
        (
            lambda: curvopt.quadratic_model(loss, Y, has_aux="yes"),
            "has_aux must be one of True, False, but it is 'yes'",
        ),
        (lambda: curvopt.CompositeLoss(3, loss), "output must be a function, but it is 3"),
        (
            lambda: curvopt.load_run("nowhere", problem=3),
            "problem must be an instance of curvopt.AbstractProblem, but it is 3",
        ),
        (
            lambda: curvopt.statistics.time_to_target(np.ones((2, 5)), np.ones(3)),
            r"target must be one number, or one .* of shape \(2, 5\), but it has shape",
        ),
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
