"""A model, a data set and a loss function as a problem: Equinox, linen and NNX alike."""

import subprocess
import sys
from functools import partial

import equinox as eqx
import flax.linen
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax import nnx

import curvopt
from strategies import CurvatureRescaling, SGD


X = np.asarray(jr.normal(jr.key(0), (30, 3)), np.float32)
LABELS = (X.sum(axis=1) > 0).astype(np.int32)
TRAIN, TEST = (X[:21], LABELS[:21]), (X[21:], LABELS[21:])
CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels


class EquinoxNet(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    second: eqx.nn.Linear
    order: jax.Array  # a buffer: no floating-point numbers

    def __init__(self, rate=0.5, *, key):
        a, b, c = jr.split(key, 3)
        self.first = eqx.nn.Linear(3, 8, key=a)
        self.norm = eqx.nn.BatchNorm(8, "batch", momentum=0.9, mode="batch")
        self.dropout = eqx.nn.Dropout(rate)
        self.second = eqx.nn.Linear(8, 2, key=b)
        self.order = jr.permutation(c, 8)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.first(x), state)
        return self.second(self.dropout(jnp.tanh(x[self.order]), key=key)), state


class LinenNet(flax.linen.Module):
    rate: float = 0.5

    @flax.linen.compact
    def __call__(self, x, train: bool):
        x = flax.linen.Dense(8)(x)
        x = flax.linen.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = flax.linen.Dropout(self.rate, deterministic=not train)(jnp.tanh(x))
        return flax.linen.Dense(2)(x)


class NNXNet(nnx.Module):
    def __init__(self, rate=0.5, *, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.second = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(jnp.tanh(self.norm(self.first(x)))))


MODELS = {
    "equinox": lambda rate: curvopt.EquinoxModel(partial(EquinoxNet, rate)),
    "linen": lambda rate: curvopt.LinenModel(LinenNet(rate)),
    "nnx": lambda rate: curvopt.NNXModel(partial(NNXNet, rate)),
}


def accuracy(logits, labels):
    return logits.argmax(axis=-1) == labels


def made(model, **options):
    options = (
        dict(
            loss=CROSS_ENTROPY,
            train=TRAIN,
            test=TEST,
            batch_size=7,
            metrics={"accuracy": accuracy},
        )
        | options
    )
    return curvopt.SupervisedProblem(model, **options)


@pytest.fixture(params=MODELS)
def framework(request):
    return request.param


def _first(problem):
    params, state = problem.init(jr.key(0))
    return params, state, problem.batch(jr.key(1), jnp.array(0))


def _close(a, b, **tolerance):
    jax.tree.map(lambda x, z: np.testing.assert_allclose(x, z, **tolerance), a, b)


def test_state_randomness_and_mode(framework):
    problem = made(MODELS[framework](0.5))
    params, state, batch = eqx.filter_jit(_first)(problem)
    assert problem.steps_per_epoch == 3
    assert all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(params))
    assert sum(x.size for x in jax.tree.leaves(params)) == 3 * 8 + 8 + 16 + 8 * 2 + 2
    loss = eqx.filter_jit(problem.loss)
    one, (after, metrics) = loss(params, (batch, state, jr.key(2)))
    again, (same, _) = loss(params, (batch, state, jr.key(2)))
    other, (_, _) = loss(params, (batch, state, jr.key(3)))
    assert one == again and one != other, "dropout is a function of the key"
    assert set(metrics) == {"accuracy"} and 0 <= metrics["accuracy"] <= 1
    kinds = lambda tree: [(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)]
    assert kinds(after) == kinds(state), "a loop can carry it"
    _close(jax.tree.leaves(same), jax.tree.leaves(after))
    moved = [bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (state, after)))]
    # Of Equinox, a counter and the buffer beside the averages.
    assert sum(moved) >= 2

    # In inference: no dropout, and the averages as they are, so that examples are alone.
    evaluate = eqx.filter_jit(lambda p, *args: p.evaluate(*args))
    found = evaluate(problem, params, after)
    assert set(found) == {
        f"{a}_{b}" for a in ("train", "test") for b in ("loss", "accuracy")
    }
    assert evaluate(problem, params, state)["train_loss"] != found["train_loss"]
    pieces = evaluate(made(problem.model, evaluation_batch_size=4), params, after)
    _close(pieces, found, rtol=1e-5)


def _by_hand(framework, params, state, x):
    """The network in inference mode, from its arrays."""
    if framework == "equinox":
        index = MODELS["equinox"](0.5).merge(params, state)[0].norm.batch_state_index
        # After one step, without the bias towards their start, which is zero.
        mean, variance = (x / (1 - 0.9) for x in state[0].get(index))
        first, second, norm = params.first, params.second, params.norm
        z = x @ first.weight.T + first.bias
        z = (z - mean) / np.sqrt(variance + 1e-5) * norm.weight + norm.bias
        return np.tanh(z)[:, state[1].order] @ second.weight.T + second.bias
    if framework == "linen":
        first, norm, second = params["Dense_0"], params["BatchNorm_0"], params["Dense_1"]
        averages = state["batch_stats"]["BatchNorm_0"]
    else:
        first, norm, second = params["first"], params["norm"], params["second"]
        averages = state["norm"]
    z = x @ first["kernel"] + first["bias"]
    z = (z - averages["mean"]) / np.sqrt(averages["var"] + 1e-5)
    z = np.tanh(z * norm["scale"] + norm["bias"])
    return z @ second["kernel"] + second["bias"]


def test_by_hand(framework):
    """Inference and its means, against NumPy; and the module that one gets back."""
    problem = made(MODELS[framework](0.5))
    params, state, batch = eqx.filter_jit(_first)(problem)
    _, (state, _) = eqx.filter_jit(problem.loss)(params, (batch, state, jr.key(2)))
    found = eqx.filter_jit(problem.evaluate)(params, state)
    for part, (x, labels) in (("train", TRAIN), ("test", TEST)):
        z = np.asarray(_by_hand(framework, params, state, x))
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        losses = -np.log(p[np.arange(len(x)), labels])
        np.testing.assert_allclose(found[f"{part}_loss"], losses.mean(), rtol=1e-4)
        right = (z.argmax(axis=1) == labels).mean()
        np.testing.assert_allclose(found[f"{part}_accuracy"], right, rtol=1e-6)

    back = problem.model.merge(params, state)
    if framework == "equinox":
        model, own = eqx.nn.inference_mode(back[0]), back[1]
        z = jax.vmap(lambda x: model(x, own)[0])(X)
    elif framework == "linen":
        z = LinenNet().apply(back, X, train=False)
    else:
        back.eval()
        z = back(X)
    np.testing.assert_allclose(z, _by_hand(framework, params, state, X), rtol=2e-4)


@pytest.mark.slow
def test_training_and_lanes(framework):
    """Seeds at once are as one after another, and as by hand."""
    problem = made(MODELS[framework](0.2))
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(0.2))
    run = lambda lanes: curvopt.run_study(
        problem,
        {"a": solver},
        seeds=2,
        steps=4,
        evaluations=2,
        execution=curvopt.Execution(loop="scan", lanes_at_once=lanes),
        progress=False,
    )
    together, alone = run(2), run(1)
    for name in ("loss", "step_size", "batch_accuracy", "train_loss", "test_accuracy"):
        np.testing.assert_allclose(together[name], alone[name], rtol=2e-4, atol=1e-5)
    assert (together.loss.isel(seed=0) != together.loss.isel(seed=1)).all()
    assert together.train_loss[0, :, -1].mean() < together.train_loss[0, :, 0].mean()


@pytest.mark.parametrize(
    "framework",
    ["linen", *(pytest.param(n, marks=pytest.mark.slow) for n in ("equinox", "nnx"))],
)
def test_gauss_newton(framework):
    """Against `diag(p) - p pᵀ` of the tangents that the model's own function has; with a
    penalty, which enters in full."""
    decay = lambda params: 0.1 * optax.tree.norm(params, squared=True)
    problem = made(MODELS[framework](0.5), penalty=decay)
    params, state, batch = eqx.filter_jit(_first)(problem)
    args, key = (batch, state, jr.key(2)), jr.key(2)
    wave = lambda p: np.cos(np.arange(p.size, dtype=p.dtype)).reshape(p.shape)
    u = jax.tree.map(wave, params)

    @jax.jit
    def run(params, u):
        model = curvopt.quadratic_model(
            problem.loss, params, args, curvopt.GaussNewtonCurvature(), has_aux=True
        )
        output = lambda params: problem.model.apply(params, state, batch[0], key)[0]
        return model.curvature(u), model.value, jax.jvp(output, (params,), (u,))

    found, value, (z, dz) = run(params, u)
    p = jax.nn.softmax(z)
    squares = (p * dz**2).sum(axis=-1) - (p * dz).sum(axis=-1) ** 2
    flat, _ = jax.flatten_util.ravel_pytree(u)
    np.testing.assert_allclose(found, squares.mean() + 0.2 * flat @ flat, rtol=1e-4)
    losses = CROSS_ENTROPY(z, batch[1])
    np.testing.assert_allclose(value, losses.mean() + decay(params), rtol=1e-5)
    plain = eqx.filter_jit(made(problem.model).evaluate)(params, state)
    assert eqx.filter_jit(problem.evaluate)(params, state) == plain, "without penalty"


def _mlp(out="scalar"):
    return curvopt.EquinoxModel(partial(eqx.nn.MLP, 3, out, 4, 1))


def test_regression():
    """On data that are prepared, with all parts; targets are not labels."""
    data = {"x": (10 * X).astype(np.int8), "z": X.sum(axis=1)}
    part = lambda of: {k: v[of] for k, v in data.items()}
    make = partial(
        curvopt.SupervisedProblem,
        _mlp(),
        loss=optax.squared_error,
        train=part(slice(0, 20)),
        validation=part(slice(20, 25)),
        test=part(slice(25, 30)),
        batch_size=20,
        prepare=lambda batch: (batch["x"] / 10, batch["z"]),
        evaluated=5,
    )
    problem = make()
    params, state, batch = eqx.filter_jit(_first)(problem)
    assert state is None
    assert batch["x"].dtype == jnp.int8
    loss, (state, metrics) = eqx.filter_jit(problem.loss)(params, (batch, None, jr.key(2)))
    assert state is None and metrics == {}
    model, _ = problem.model.merge(params, None)
    squares = (jax.jit(lambda x: jax.vmap(model)(x))(data["x"] / 10) - data["z"]) ** 2
    np.testing.assert_allclose(loss, squares[:20].mean(), rtol=1e-5)
    expected = {
        "train_loss": squares[:20:4].mean(),
        "validation_loss": squares[20:25].mean(),
        "test_loss": squares[25:].mean(),
    }
    for width in (None, 2, 100):
        evaluate = eqx.filter_jit(make(evaluation_batch_size=width).evaluate)
        _close(evaluate(params, None), expected, rtol=1e-5)


def test_a_model_of_ones_own():
    class Line(curvopt.AbstractModel):
        def init(self, key, inputs):
            return {"w": jr.normal(key, inputs.shape[1:]), "b": jnp.zeros(())}, None

        def apply(self, params, model_state, inputs, key):
            return inputs @ params["w"] + params["b"], model_state

    problem = curvopt.SupervisedProblem(
        Line(), optax.squared_error, (X, X @ np.array([1, -2, 3.0])), batch_size=30
    )
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())
    result = curvopt.train(problem, solver, jr.key(0), steps=60, progress=False)
    np.testing.assert_allclose(result.params["w"], [1, -2, 3], atol=1e-3)


def test_state_by_equinox():
    """`make_with_state` or not is the same."""
    of_two = curvopt.EquinoxModel(eqx.nn.make_with_state(EquinoxNet))
    models = MODELS["equinox"](0.5), of_two
    one, two = (model.init(jr.key(0), jnp.asarray(X[:1])) for model in models)
    assert eqx.tree_equal(one, two)


def test_data_are_no_constants():
    """Neither of the program of a step nor of that of the evaluation."""
    problem = made(_mlp(2))

    def run(problem, key, count):
        params, state = problem.init(key)
        args = problem.batch(key, count), state, key
        return problem.loss(params, args), problem.evaluate(params, state)

    jaxpr, _, _ = eqx.filter_make_jaxpr(run)(problem, jr.key(0), jnp.array(0))
    assert len(jaxpr.in_avals) >= 4, "the data are among the arguments"
    assert all(np.size(x) < TRAIN[1].size for x in jaxpr.consts)


def test_flax_is_no_dependency():
    code = "import curvopt, sys; sys.exit('flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BAD_DATA = {
    "lengths": (dict(train=(X, LABELS[:29])), r"30 in train\[0\], 29 in train\[1\]"),
    "none": (dict(train=(X[:0], LABELS[:0])), r"at least one.*there are 0 in train\[0\]"),
    "no pair": (dict(train=X), r"pair of inputs and targets, but it is float32\[30, 3\]"),
    "a list": (dict(train=([1.0, 2.0], LABELS)), r"train\[0\]\[0\] is float.*asarray"),
    "words": (dict(train=(X, np.array(["a"] * 30))), r"train\[1\] is ndarray.*asarray"),
    "a number": (dict(train=(X, np.array(1))), r"train\[1\] is one number"),
    "test": (
        dict(test=(X[:, :2], LABELS)),
        r"test must be like train, .*float32\[n, 3\], int32\[n\], .* it is float32\[n, 2\]",
    ),
    "test's dtype": (dict(test=(X, X[:, 0])), r"but it is float32\[n, 3\], float32\[n\]"),
    "batch": (dict(batch_size=22), "batch_size .* but it is 22 and there are 21"),
    "no batch": (dict(batch_size=0), "batch_size must be an integer of at least 1.* is 0"),
    "evaluated": (dict(evaluated=0), "evaluated must be an integer of at least 1.* is 0"),
    "pieces": (dict(evaluation_batch_size=1.5), "evaluation_batch_size .* it is 1.5"),
    "loss": (dict(loss="mse"), "loss must be a function, but it is 'mse'"),
    "metric": (dict(metrics={"a": 1}), r"metrics\['a'\] must be a function, but it is 1"),
    "its name": (dict(metrics={"loss": accuracy}), "cannot be called 'loss'"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_arguments(case, unchecked):
    options, message = BAD_DATA[case]
    with pytest.raises(ValueError, match=message):
        made(_mlp(2), **options)


@pytest.mark.parametrize(
    "model, message",
    [
        (eqx.nn.Linear(3, 2, key=jr.key(0)), r"is Linear. .*EquinoxModel\(lambda key"),
        (LinenNet(), r"is LinenNet. Wrap it: `curvopt.LinenModel"),
        (lambda x: x, "is function. Give the function that makes it"),
    ],
)
def test_no_model(model, message, unchecked):
    with pytest.raises(ValueError, match=message):
        made(model)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: curvopt.EquinoxModel(eqx.nn.Identity()),
            "function of `key`.* is Identity",
        ),
        (lambda: curvopt.NNXModel(3), "function of `rngs`.* is int"),
        (lambda: curvopt.LinenModel(LinenNet), "LinenModel needs a module"),
    ],
)
def test_bad_models(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()


BAD_FUNCTIONS = {
    "a mean": (
        dict(loss=lambda z, t: CROSS_ENTROPY(z, t).mean()),
        r"`loss` .* each of the 7 .* float32\[7, 2\].* float32\[\]. Leave the mean",
    ),
    "classes": (dict(loss=lambda z, t: z.sum(axis=0)), r"it returned float32\[2\]"),
    "pairs": (
        dict(loss=lambda z, t: (z[:, :1] - t) ** 2),
        r"it returned float32\[7, 7\], each example against the others.*targets\[:, None\]",
    ),
    "a metric": (
        dict(metrics={"right": lambda z, t: 1.0}),
        "`right` must return numbers for each of the 7 .* it returned float",
    ),
    "penalty": (dict(penalty=lambda y: jax.tree.leaves(y)[0]), "penalty must return one"),
    "prepare": (dict(prepare=lambda batch: batch[0]), r"prepare must return a pair"),
}


@pytest.mark.parametrize("case", BAD_FUNCTIONS)
def test_bad_functions(case, unchecked):
    """Refused before anything is compiled: an outer product of losses would train."""
    options, message = BAD_FUNCTIONS[case]
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())
    with pytest.raises(ValueError, match=message):
        curvopt.train(made(_mlp(2), **options), solver, jr.key(0), steps=1)
