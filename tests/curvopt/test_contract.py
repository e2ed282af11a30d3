"""What a problem must hold to, refused before anything is compiled."""

import itertools

import equinox as eqx
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

    message = f"`{name}` of Plain reads something that changes.*curvopt/guides/data.md"
    with pytest.raises(ValueError, match=message):
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


# What a function returns, and what is said of that.
RETURNED = {
    "init": [
        (jnp.ones(3), r"a pair, `\(params, model_state\)`, .* returned float32\[3\]"),
        ((1.0, None), "parameters must be arrays only"),
        (({"n": jnp.ones(3, int)}, None), r"floating-point, but \['n'\] has dtype int32"),
        ((jnp.ones(3), 1), "a model's state must consist of arrays"),
    ],
    "batch": [({"x": "all"}, r"a pytree of arrays, but \['x'\] is str")],
    "loss": [
        (jnp.ones(()), r"a pair, `\(loss, \(model_state, metrics\)\)`, .* float32\[\]"),
        ((jnp.ones(()), {}), r"a pair, `\(model_state, metrics\)`, but it returned dict"),
        ((jnp.ones(3), (None, {})), r"the loss must be a scalar, but it has shape \(3,\)"),
        (
            (jnp.array(1), (None, {})),
            "a real floating-point number, but .* is int32",
        ),
        (
            (jnp.ones(()), (jnp.ones(3), {})),
            r"a model state like the one it was given, which has no arrays, but .*\[3\]",
        ),
        ((jnp.ones(()), (None, {"m": jnp.ones(2)})), r"scalars, but 'm' has shape \(2,\)"),
        ((jnp.ones(()), (None, {"m": 1j})), "real numbers, but 'm' has dtype complex64"),
    ],
    "evaluate": [
        (1.0, "metrics must be a dictionary of scalars, but they are float"),
        ({"m": "low"}, "metrics must be numbers, but 'm' is 'low'"),
        ({"loss": 1.0}, "a metric cannot be called 'loss'"),
    ],
    "steps_per_epoch": [(0.5, "it must be an integer of at least 1, but it is 0.5")],
}


def _train(problem):
    return curvopt.train(problem, SOLVER, jax.random.key(0), steps=1, progress=False)


def _tune(problem):
    solver = lambda rate: curvopt.LineSearchMinimiser(SGD(), LearningRate(rate))
    return curvopt.tune(
        problem,
        {"a": solver},
        {"rate": [0.1]},
        metric="train_loss",
        seeds=[9],
        reported_seeds=[1],
        steps=1,
    )


@pytest.mark.parametrize(
    "name, door",
    [
        # By the first door all functions, and one of them by the others.
        pytest.param(
            name, door, marks=() if door is study or name == "batch" else pytest.mark.slow
        )
        for name in RETURNED
        for door in (study, _train, _tune)
    ],
)
def test_what_functions_return(regression, name, door):
    """It is said whose it is, whichever way the problem came in."""
    for returned, message in RETURNED[name]:
        method = lambda *args, returned=returned: returned
        if name == "steps_per_epoch":
            method = property(method)
        message = f"`{name}` of Regression: .*{message}"
        with pytest.raises(ValueError, match=message):
            door(changed(regression, **{name: method}))


class Refusing(curvopt.AbstractProblem):
    """Ends with an error of its own."""

    where: str = eqx.field(static=True)

    def _checked(self, x, where, value):
        return eqx.error_if(x, (self.where == where) & (value > -1), f"no {where} is left")

    def init(self, key):
        params = jax.random.normal(key, (3,))
        return self._checked(params, "start", jnp.abs(params[0])), None

    def batch(self, key, count):
        return self._checked(count.astype(float), "batch", count)

    def loss(self, params, args):
        loss = jnp.sum(params**2) * (1 + args[0])
        return self._checked(loss, "loss", loss), (None, {})

    def evaluate(self, params, state):
        loss = jnp.sum(params**2)
        return {"train_loss": self._checked(loss, "evaluation", loss)}

    steps_per_epoch = 1


@pytest.mark.parametrize(
    "where, lanes, loop",
    [
        pytest.param(where, *how, marks=() if k % 2 == j else pytest.mark.slow)
        for k, where in enumerate(["start", "batch", "loss", "evaluation"])
        for j, how in enumerate([(1, "scan"), (2, "dispatch")])
    ],
)
def test_errors_at_run_time_are_their_own(where, lanes, loop, caplog):
    """Guards against a sentence behind thousands of characters on jit and callbacks."""
    execution = curvopt.Execution(lanes_at_once=lanes, loop=loop)
    with pytest.raises(eqx.EquinoxRuntimeError) as error:
        study(Refusing(where), execution=execution)
    assert str(error.value) == f"no {where} is left" and not caplog.records
    if lanes == 1:
        with pytest.raises(eqx.EquinoxRuntimeError, match=f"^no {where} is left$"):
            _train(Refusing(where))


def test_large_integers_are_kept(regression):
    """Guards against a metric of uint32 that wraps around in int32."""
    large = jnp.uint32(2**32 - 1)
    problem = changed(regression, evaluate=lambda self, params, state: {"n": large})
    assert (study(problem)["n"] == 2**32 - 1).all()


@pytest.mark.parametrize(
    "kind",
    [np.int64, *(pytest.param(n, marks=pytest.mark.slow) for n in (np.int32, np.uint8))],
)
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
