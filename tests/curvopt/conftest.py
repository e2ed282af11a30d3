"""Problems small enough to run many times."""

import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import Array

import curvopt


TRACES: list[str] = []


class Network(eqx.Module):
    """Written out, since it is traced hundreds of times."""

    layers: list[eqx.nn.Linear]

    def __init__(self, key):
        a, b = jr.split(key)
        self.layers = [eqx.nn.Linear(3, 8, key=a), eqx.nn.Linear(8, "scalar", key=b)]

    def __call__(self, x):
        first, second = self.layers
        return second(jnp.tanh(first(x)))


class Regression(curvopt.AbstractProblem):
    """A small network fitted to a smooth function; counts how often it is traced."""

    x: Array
    z: Array
    poison: Array  # a start above it makes the loss non-finite

    def __init__(self, poison=float("inf")):
        self.x = jr.normal(jr.key(0), (24, 3))
        self.z = jnp.sin(self.x.sum(axis=1))
        self.poison = jnp.array(poison)

    def init(self, key):
        return Network(key), None

    def batch(self, key, count):
        TRACES.append("batch")
        chosen = jr.randint(jr.fold_in(key, count), (8,), 0, 24)
        return self.x[chosen], self.z[chosen]

    def _loss(self, params, x, z):
        return jnp.mean((jax.vmap(params)(x) - z) ** 2)

    def loss(self, params, args):
        (x, z), model_state, _ = args
        value = self._loss(params, x, z)
        bad = jnp.sum(params.layers[0].weight) > self.poison
        # A factor, so that the gradient is not finite either.
        return value * jnp.where(bad, jnp.nan, 1.0), (model_state, {"seen": jnp.sum(z)})

    def evaluate(self, params, model_state):
        del model_state
        return {"train_loss": self._loss(params, self.x, self.z)}

    @property
    def steps_per_epoch(self):
        return 3


class Normalised(eqx.Module):
    """Batch norm (a state) and dropout (randomness)."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    second: eqx.nn.Linear

    def __init__(self, key):
        a, b = jr.split(key)
        self.first = eqx.nn.Linear(3, 8, key=a)
        self.norm = eqx.nn.BatchNorm(8, "batch", mode="batch")
        self.dropout = eqx.nn.Dropout(0.5)
        self.second = eqx.nn.Linear(8, "scalar", key=b)

    def __call__(self, x, state, key):
        x, state = self.norm(self.first(x), state)
        return self.second(self.dropout(jax.nn.relu(x), key=key)), state


NORMALISED = eqx.filter(
    eqx.nn.make_with_state(Normalised)(jr.key(0))[0], eqx.is_inexact_array, inverse=True
)


class Stateful(curvopt.AbstractProblem):
    """A model with state and randomness, on one batch."""

    x: Array
    z: Array

    def __init__(self):
        self.x = jr.normal(jr.key(0), (16, 3))
        self.z = jnp.sin(self.x.sum(axis=1))

    def init(self, key):
        model, state = eqx.nn.make_with_state(Normalised)(key)
        return eqx.filter(model, eqx.is_inexact_array), state

    def batch(self, key, count):
        del key, count
        return self.x, self.z

    def loss(self, params, args):
        (x, z), state, key = args
        model = eqx.combine(params, NORMALISED)
        keys = jr.split(key, len(x))
        out, state = jax.vmap(
            model, in_axes=(0, None, 0), out_axes=(0, None), axis_name="batch"
        )(x, state, keys)
        noise = jr.uniform(key)
        return jnp.mean((out - z) ** 2), (state, {"noise": noise})

    def evaluate(self, params, model_state):
        return {"size": curvopt.tree_norm(params)}

    @property
    def steps_per_epoch(self):
        return 1


@pytest.fixture(scope="session")
def regression():
    return Regression()


@pytest.fixture(scope="session")
def finished(regression, tmp_path_factory):
    """The folder of a finished study, for reading, and its dataset."""
    from test_resume import study

    folder = tmp_path_factory.mktemp("finished")
    return folder, study(regression, folder)


@pytest.fixture
def poisoned():
    """A regression whose loss is non-finite from some starts: about one in two."""
    return Regression(poison=0.0)


@pytest.fixture
def stateful():
    return Stateful()


@pytest.fixture
def interruptible():
    """A shell starts what runs in the background with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def traces():
    TRACES.clear()
    return TRACES
