"""What a problem must hold to, refused before anything is compiled."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt
from strategies import LearningRate, SGD


pytestmark = pytest.mark.usefixtures("unchecked")

SOLVER = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))


def study(problem, **options):
    options = {"seeds": 2, "steps": 2, "evaluations": 1, "progress": False} | options
    return curvopt.run_study(problem, {"a": SOLVER}, **options)


def changed(problem, **methods):
    """The problem with other methods."""
    kind = type(problem)
    return type(kind.__name__, (kind,), {"__module__": __name__, **methods})()


STREAM, RANDOM = itertools.count(), np.random.default_rng(0)


@pytest.mark.parametrize(
    "name, method",
    [
        ("batch", lambda self, key, count: self.x[RANDOM.integers(0, 8, 4)]),
        ("batch", lambda self, key, count: self.x[:4] + float(next(STREAM))),
        ("init", lambda self, key: (jnp.asarray(RANDOM.normal(size=3)), None)),
        (
            "evaluate",
            lambda self, params, state: {"train_loss": jnp.sum(params) * RANDOM.random()},
        ),
        (
            "loss",
            lambda self, params, args: (jnp.sum(params) * RANDOM.random(), (None, {})),
        ),
    ],
)
def test_what_is_read_from_outside_of_jax(regression, name, method):
    """Guards against one batch for ever: an iterator or `numpy.random` is traced once."""

    class Plain(type(regression)):
        def init(self, key):
            return jax.random.normal(key, (3,)), None

        def batch(self, key, count):
            return self.x[curvopt.minibatch_indices(key, count, size=24, batch_size=4)]

        def loss(self, params, args):
            return jnp.mean((args[0] @ params - 1) ** 2), (args[1], {})

        def evaluate(self, params, state):
            return {"train_loss": jnp.sum(params)}

    with pytest.raises(ValueError, match=f"`{name}` of Plain reads something that changes"):
        study(changed(Plain(), **{name: method}))
    study(Plain())


def test_data_in_numpy(regression):
    """They train as arrays of jax do; they were taken for a part of the program."""

    class Data(type(regression)):
        def __init__(self, as_array):
            super().__init__()
            self.x, self.z = as_array(self.x), as_array(self.z)

    numpy, jaxs = study(Data(np.asarray)), study(Data(jnp.asarray))
    np.testing.assert_array_equal(numpy.loss, jaxs.loss)


def test_what_cannot_be_hashed(regression):
    class Marked(type(regression)):
        mark: object

        def __init__(self, mark):
            super().__init__()
            self.mark = mark

    with pytest.raises(ValueError, match=r"Marked\.mark is \{1\}, which cannot be hashed"):
        study(Marked({1}))
    study(Marked(frozenset({1})))


@pytest.mark.parametrize(
    "methods, message",
    [
        (
            {"init": lambda self, key: jnp.ones(3)},
            "`init` of Regression must return a pair",
        ),
        (
            {"loss": lambda self, params, args: jnp.ones(())},
            "`loss` of Regression must return a pair",
        ),
        (
            {"loss": lambda self, params, args: (jnp.ones(()), (jnp.ones(3), {}))},
            r"a model state like the one it was given, which has no arrays, but .*\[3\]",
        ),
        ({"evaluate": lambda self, params, state: 1.0}, "must be a dictionary of scalars"),
    ],
)
def test_what_functions_return(regression, methods, message):
    with pytest.raises(ValueError, match=message):
        study(changed(regression, **methods))


def test_large_integers_are_kept(regression):
    """Guards against a metric of uint32 that wraps around in int32."""
    large = jnp.uint32(2**32 - 1)
    problem = changed(regression, evaluate=lambda self, params, state: {"n": large})
    assert (study(problem)["n"] == 2**32 - 1).all()


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_counts_of_numpy(regression, kind):
    data = study(regression, seeds=kind(2), steps=kind(3), evaluations=kind(1))
    assert data.sizes["seed"] == 2 and data.sizes["step"] == 3
    key = jax.random.key(0)
    result = curvopt.train(regression, SOLVER, key, steps=kind(2), progress=False)
    assert result.history.sizes["step"] == 2


@pytest.mark.parametrize("problem", [None, 3, "mlp"])
def test_no_problem(problem):
    with pytest.raises(ValueError, match="problem must be an instance of"):
        study(problem)
    with pytest.raises(ValueError, match="problem must be an instance of"):
        curvopt.train(problem, SOLVER, jax.random.key(0), steps=1)
