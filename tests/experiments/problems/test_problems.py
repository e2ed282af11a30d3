import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import curvopt
import experiments.problems
from experiments.data import load_subset
from experiments.problems import (
    Autoencoder,
    ConvolutionalAutoencoder,
    LeNetClassifier,
    LogisticRegression,
    MLPClassifier,
    PROBLEMS,
    VisionTransformerClassifier,
)
from strategies import Adam, LearningRate


CLASSIFICATION = {f"{a}_{b}" for a in ("train", "test") for b in ("loss", "accuracy")}
RECONSTRUCTION = {f"{a}_{b}" for a in ("train", "test") for b in ("loss", "squared_error")}


@pytest.fixture(scope="module")
def few():
    """A few of the embedded images: evaluating all takes seconds."""
    images = load_subset()
    return dataclasses.replace(
        images,
        name="few",
        train_images=images.train_images[:150],
        train_labels=images.train_labels[:150],
        test_images=images.test_images[:40],
        test_labels=images.test_labels[:40],
    )


@eqx.filter_jit
def _init(problem, key):
    return problem.init(key)


@eqx.filter_jit
def _evaluate(problem, params):
    return problem.evaluate(params, None)


def test_the_classifier():
    problem = MLPClassifier(load_subset(), width=16, depth=1, batch_size=64, evaluated=60)
    params, model_state = _init(problem, jr.key(0))
    assert model_state is None
    images, labels = problem.batch(jr.key(1), jnp.array(3))
    assert images.shape == (64, 28, 28) and labels.shape == (64,)
    args = (images, labels), None, jr.key(0)
    loss, (_, metrics) = eqx.filter_jit(problem.loss)(params, args)
    # An untrained classifier of ten classes knows nothing.
    np.testing.assert_allclose(loss, np.log(10), atol=0.5)
    assert 0 <= metrics["accuracy"] <= 1
    assert set(_evaluate(problem, params)) == CLASSIFICATION
    assert problem.steps_per_epoch == 187


@pytest.mark.slow
def test_it_learns_what_is_known_to_be_learnable():
    """A linear classifier reaches about 84 % on the full set; a small network on a part
    of it should come near within two epochs."""
    problem = MLPClassifier(load_subset(), width=32, depth=1)
    solver = curvopt.LineSearchMinimiser(Adam(), LearningRate(3e-3))
    result = curvopt.train(
        problem, solver, jr.key(0), steps=180, evaluations=1, progress=False
    )
    assert result.history.test_accuracy[-1] > 0.78
    assert jax.tree.all(jax.tree.map(lambda p: jnp.isfinite(p).all(), result.params))


# What makes it, its loss before training, the weights and biases of its layers, metrics.
_AUTOENCODER = [(128, 784), (32, 128), (8, 32), (32, 8), (128, 32), (784, 128)]
_CONVOLUTIONAL = [
    *[(8, 1, 3, 3), (16, 8, 3, 3), (16, 784), (784, 16)],
    *[(8, 16, 3, 3), (1, 8, 3, 3)],
]
_LENET = [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]
# The problems of the tests below are the same ones, which are compiled once.
CASES = {
    "autoencoder": (Autoencoder, 784 * np.log(2), _AUTOENCODER, RECONSTRUCTION),
    "convolutional autoencoder": (
        ConvolutionalAutoencoder,
        784 * np.log(2),
        _CONVOLUTIONAL,
        RECONSTRUCTION,
    ),
    "lenet": (LeNetClassifier, np.log(10), _LENET, CLASSIFICATION),
    "lenet, not smooth": (
        lambda *args, **kwargs: LeNetClassifier(*args, smooth=False, **kwargs),
        np.log(10),
        _LENET,
        CLASSIFICATION,
    ),
}


def _trained(problem, params):
    """Thirty steps of Adam; a call for each, since convolutions in a loop are slow."""
    adam = optax.adam(3e-3)

    @eqx.filter_jit
    def step(problem, params, state, count):
        args = problem.batch(jr.key(1), count), None, jr.key(2)
        (loss, _), grad = jax.value_and_grad(problem.loss, has_aux=True)(params, args)
        updates, state = adam.update(grad, state)
        return optax.apply_updates(params, updates), state, loss

    before, losses = _evaluate(problem, params), []
    state = jax.jit(adam.init)(params)
    for count in range(30):
        params, state, loss = step(problem, params, state, jnp.array(count))
        losses.append(float(loss))
    return before, _evaluate(problem, params), losses


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_shapes_and_training(case, few):
    make, untrained, shapes, names = CASES[case]
    problem = make(few, batch_size=32, evaluated=60)
    assert problem.steps_per_epoch == 4
    params, model_state = _init(problem, jr.key(0))
    assert model_state is None
    leaves = jax.tree.leaves(params)
    assert [p.shape for p in leaves if p.shape in shapes] == shapes
    assert len(leaves) == 2 * len(shapes)
    assert all(p.dtype == jnp.float32 for p in leaves)
    images, labels = eqx.filter_eval_shape(problem.batch, jr.key(1), jnp.array(3))
    assert images.shape == (32, 28, 28) and labels.shape == (32,)
    assert images.dtype == labels.dtype == jnp.uint8

    before, after, losses = _trained(problem, params)
    assert set(before) == set(after) == names
    assert all(np.isfinite(x) for x in (*before.values(), *after.values()))
    np.testing.assert_allclose(losses[0], untrained, rtol=0.05)
    fallen = 0.75 * before["train_loss"]
    assert np.mean(losses[-5:]) < fallen and after["train_loss"] < fallen


def _gelu(x):
    """Hendrycks & Gimpel (2016), equation of the approximation with tanh."""
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _relu(x):
    return np.maximum(x, 0)


def _evaluated_by_hand(few, evaluated, by_hand):
    size = len(few.train_images)
    chosen = [k * size // evaluated for k in range(evaluated)]
    parts = {
        "train": (few.train_images[chosen], few.train_labels[chosen]),
        "test": (few.test_images, few.test_labels),
    }
    return {
        f"{part}_{name}": value
        for part, batch in parts.items()
        for name, value in by_hand(*batch).items()
    }


def _check_evaluation(problem, params, few, by_hand):
    expected = _evaluated_by_hand(few, 60, by_hand)
    found = _evaluate(problem, params)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, err_msg=name)


def test_autoencoder_by_hand(few):
    problem = Autoencoder(few, batch_size=32, evaluated=60)
    params, _ = _init(problem, jr.key(0))
    # Far from p = 1/2, where mistakes in the loss would not show.
    params = jax.tree.map(lambda p: 2 * np.asarray(p), params)

    def by_hand(images, labels):
        x = z = images.reshape(-1, 784) / 255
        for k, layer in enumerate(params.layers[::2]):
            z = _gelu(z) if k else z
            z = z @ layer.weight.T + layer.bias
        p = 1 / (1 + np.exp(-z))
        loss = -(x * np.log(p) + (1 - x) * np.log1p(-p))
        return {
            "loss": loss.sum() / len(x),
            "squared_error": np.square(x - p).sum() / len(x),
        }

    _check_evaluation(problem, jax.tree.map(jnp.asarray, params), few, by_hand)


@pytest.mark.parametrize("smooth", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_lenet_by_hand(few, smooth):
    problem = LeNetClassifier(few, smooth=smooth, batch_size=32, evaluated=60)
    params, _ = _init(problem, jr.key(0))
    params = jax.tree.map(lambda p: 2 * np.asarray(p), params)
    first, _, _, second, _, _, _, *full = params.layers
    activation = _gelu if smooth else _relu

    def convolved(layer, z):
        windows = np.lib.stride_tricks.sliding_window_view(z, (5, 5), axis=(2, 3))
        z = np.einsum("nchwij,ocij->nohw", windows, layer.weight, optimize=True)
        z = activation(z + layer.bias)
        n, c, h, w = z.shape
        z = z.reshape(n, c, h // 2, 2, w // 2, 2)
        return z.mean(axis=(3, 5)) if smooth else z.max(axis=(3, 5))

    def by_hand(images, labels):
        pixels = few.train_images.astype(float)
        z = (images[:, None] - pixels.mean()) / pixels.std()
        z = convolved(first, np.pad(z, ((0, 0), (0, 0), (2, 2), (2, 2))))
        z = convolved(second, z).reshape(len(z), -1)
        for k, layer in enumerate(full[::2]):
            z = activation(z) if k else z
            z = z @ layer.weight.T + layer.bias
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(len(z)), labels])
        return {"loss": loss.mean(), "accuracy": (z.argmax(axis=1) == labels).mean()}

    _check_evaluation(problem, jax.tree.map(jnp.asarray, params), few, by_hand)


def test_what_is_evaluated(few):
    """All images where there are no more; an evaluation on fewer is on a fixed part."""
    assert LeNetClassifier(few, batch_size=32).problem.evaluated == 150
    assert LeNetClassifier(few, batch_size=32, evaluated=None).problem.evaluated == 150
    assert MLPClassifier(load_subset()).problem.evaluated == 12_000
    problem = LogisticRegression(few, batch_size=32, evaluated=50)
    third = jax.tree.map(lambda x: x[::3], problem.problem.data)
    of_third = eqx.tree_at(lambda p: p.problem.data, problem, third)
    params, _ = _init(problem, jr.key(0))
    found, alone = (_evaluate(p, params) for p in (problem, of_third))
    assert found["train_loss"] == alone["train_loss"]


def test_names(monkeypatch, tmp_path, few):
    models = {
        "logistic": LogisticRegression,
        "mlp": MLPClassifier,
        "mlp-relu": MLPClassifier,
        "autoencoder": Autoencoder,
        "conv-autoencoder": ConvolutionalAutoencoder,
        "lenet": LeNetClassifier,
        "lenet-relu": LeNetClassifier,
        "vit": VisionTransformerClassifier,
    }
    on_images = {
        f"{source}-{model}": kind
        for source in ("fashion-subset", "fashion", "mnist")
        for model, kind in models.items()
    }
    assert list(PROBLEMS)[: len(on_images)] == list(on_images)
    asked = []
    load_full = lambda *args: asked.append(args) or few
    monkeypatch.setattr(experiments.problems, "load_full", load_full)
    monkeypatch.setattr(experiments.problems, "load_subset", lambda: few)
    for name, kind in on_images.items():
        assert type(PROBLEMS[name](tmp_path)) is kind
    assert asked == [
        (name, tmp_path) for name in ("fashion-mnist", "mnist") for _ in models
    ]


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="it is 12001 and there are 12000"):
        MLPClassifier(load_subset(), batch_size=12_001)


BAD = {
    "batch": (Autoencoder, dict(batch_size=151), "at most .* it is 151 and there are 150"),
    "no batch": (LeNetClassifier, dict(batch_size=0), "batch_size .* at least 1.* is 0"),
    "evaluated": (LeNetClassifier, dict(evaluated=0), "evaluated .* at least 1.* it is 0"),
    "a width": (Autoencoder, dict(widths=(784, 0, 784)), r"widths\[1\] .* it is 0"),
    "pixels": (
        Autoencoder,
        dict(widths=(784, 8, 64)),
        r"number of pixels, which is 784 in few, .* they are \(784, 8, 64\)",
    ),
    "no convolution": (ConvolutionalAutoencoder, dict(channels=()), "they are \\(\\)"),
    "halved": (
        ConvolutionalAutoencoder,
        dict(channels=(4, 4, 4)),
        r"multiples of 8, which 3 .* few have shape \(28, 28\)",
    ),
    "an empty code": (ConvolutionalAutoencoder, dict(code=0), "code .* it is 0"),
    "patches": (
        VisionTransformerClassifier,
        dict(patch=5),
        "patch must divide .* it is 5 and those of few have 28 x 28",
    ),
    "heads": (VisionTransformerClassifier, dict(heads=5), "it is 64 and heads is 5"),
    "no code": (Autoencoder, dict(widths=(784, 784)), r"one width between.*\(784, 784\)"),
    "channels": (LeNetClassifier, dict(channels=(6,)), r"channels must be two.*\(6,\)"),
    "smooth": (LeNetClassifier, dict(smooth="no"), "smooth must be True .* it is 'no'"),
    "units": (LeNetClassifier, dict(widths=(120, 1.5)), r"widths\[1\] .* it is 1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, few, unchecked):
    make, arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make(few, **arguments)


def test_images_too_small(few):
    small = dataclasses.replace(
        few, train_images=few.train_images[:, :11], test_images=few.test_images[:, :11]
    )
    with pytest.raises(ValueError, match=r"at least 12 .* few have shape \(11, 28\)"):
        LeNetClassifier(small)
