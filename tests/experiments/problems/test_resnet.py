import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from experiments.data import Images
from experiments.problems import LeNetClassifier, ResNetClassifier
from strategies import CurvatureRescaling, SGD


@pytest.fixture(scope="module")
def colourful():
    """Two classes, of which one is redder, on channels of different scales."""
    rng = np.random.default_rng(0)
    scales = np.array([60, 30, 10])[:, None, None]

    def images(n):
        labels = np.arange(n) % 2
        x = 100 + scales * rng.normal(size=(n, 3, 6, 6))
        x[:, 0] += 50 * labels[:, None, None]
        return np.clip(x, 0, 255).astype(np.uint8), labels.astype(np.uint8)

    return Images("colourful", *images(12), *images(6))


def tiny(images, **kwargs):
    """Of one stage, quickly compiled. Its batch is all of the training images, in some
    order."""
    return ResNetClassifier(images, **(dict(channels=(2,), batch_size=12) | kwargs))


@eqx.filter_jit
def _init(problem, key):
    return problem.init(key)


@eqx.filter_jit
def _evaluate(problem, params, state):
    return problem.evaluate(params, state)


@eqx.filter_jit
def _step(problem, params, state, count, learning_rate):
    args = problem.batch(jr.key(1), count), state, jr.key(2)
    (loss, (state, metrics)), grad = jax.value_and_grad(problem.loss, has_aux=True)(
        params, args
    )
    params = jax.tree.map(lambda p, g: p - learning_rate * g, params, grad)
    return params, state, loss, metrics


def _settled(problem, params, state):
    """After so many batches with the same parameters that the averages are theirs."""
    for count in range(250):
        _, state, loss, metrics = _step(problem, params, state, jnp.array(count), 0.0)
    return state, loss, metrics


def test_colours_are_standardised_each_by_itself(colourful):
    assert colourful.shape == (3, 6, 6) and colourful.channels == 3
    problem = tiny(colourful).problem
    x, labels = problem.prepare(problem.data)
    assert x.dtype == jnp.float32 and labels.dtype == jnp.int32
    np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=(0, 2, 3)), 1, rtol=1e-5)


@pytest.mark.slow
def test_the_state_is_updated_and_evaluated_with(colourful):
    problem = tiny(colourful)
    params, before = _init(problem, jr.key(0))
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
    state, loss, metrics = _settled(problem, params, before)
    old, new = jax.tree.leaves(before), jax.tree.leaves(state)
    assert list(map(jax.typeof, new)) == list(map(jax.typeof, old))
    assert not any(x.weak_type for x in new)
    assert not any((a == b).any() for a, b in zip(old, new))

    # Each batch is all of the images, which are evaluated one by one as in it.
    evaluated = _evaluate(problem, params, state)
    np.testing.assert_allclose(evaluated["train_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(evaluated["train_accuracy"], metrics["accuracy"])
    assert abs(_evaluate(problem, params, before)["train_loss"] - loss) > 1e-3

    for count in range(30):
        params, state, loss, _ = _step(problem, params, state, jnp.array(count), 0.2)
    after = _evaluate(problem, params, state)
    assert after["train_loss"] < 0.6 * evaluated["train_loss"]
    assert after["test_accuracy"] > 0.8


def test_what_is_evaluated(colourful):
    problem = tiny(colourful, evaluated=4, tested=2)
    params, state = _init(problem, jr.key(0))
    few = dataclasses.replace(
        colourful,
        test_images=colourful.train_images[[0, 3, 6, 9]],
        test_labels=colourful.train_labels[[0, 3, 6, 9]],
    )
    found, alone = (_evaluate(p, params, state) for p in (problem, tiny(few)))
    np.testing.assert_allclose(found["train_loss"], alone["test_loss"], rtol=1e-6)
    test = problem.problem.held_out["test"]
    np.testing.assert_array_equal(test[0], colourful.test_images[[0, 3]])
    np.testing.assert_array_equal(test[1], colourful.test_labels[[0, 3]])
    problem = tiny(colourful, evaluated=None, tested=None).problem
    assert problem.evaluated == 12 and len(problem.held_out["test"][0]) == 6


def _convolved(layer, x, stride):
    weight = np.asarray(layer.conv.weight)
    size = weight.shape[-1]
    edge = (size // 2, size // 2)
    x = np.pad(x, ((0, 0), (0, 0), edge, edge))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    x = np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], weight)
    mean, variance = (f(x, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
    gain, shift = (
        np.asarray(a)[:, None, None] for a in (layer.norm.weight, layer.norm.bias)
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * gain + shift


@pytest.mark.parametrize("grey", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_network_by_hand(colourful, grey):
    if grey:
        colourful = dataclasses.replace(
            colourful,
            train_images=colourful.train_images[:, 0],
            test_images=colourful.test_images[:, 0],
        )
    problem = tiny(colourful, channels=(2, 3), blocks=2, activation=jnp.tanh)
    params, state = _init(problem, jr.key(0))
    # Gains and shifts are 1 and 0 at first, where they would not be missed.
    params = jax.tree.map(
        lambda p: p + 0.3 * jnp.sin(jnp.arange(p.size)).reshape(p.shape), params
    )
    pixels = colourful.train_images.reshape(12, colourful.channels, 6, 6).astype(float)
    mean, deviation = (f(pixels, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    x = np.tanh(_convolved(params.stem, (pixels - mean) / deviation, 1))
    assert [block.shortcut is None for block in params.blocks] == [True, True, False, True]
    for block, stride in zip(params.blocks, (1, 1, 2, 1)):
        out = np.tanh(_convolved(block.first, x, stride))
        out = _convolved(block.second, out, 1)
        x = np.tanh(out + (_convolved(block.shortcut, x, stride) if block.shortcut else x))
    assert x.shape == (12, 3, 3, 3)
    z = x.mean(axis=(2, 3)) @ np.asarray(params.readout.weight).T + params.readout.bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(12), colourful.train_labels]).mean()
    batch = colourful.train_images, colourful.train_labels
    loss, _ = eqx.filter_jit(problem.loss)(params, (batch, state, jr.key(0)))
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


@pytest.mark.slow
def test_curvature(colourful, x64):
    problem = tiny(colourful, activation=jax.nn.gelu)
    params, state = _init(problem, jr.key(0))
    assert all(p.dtype == jnp.float64 for p in jax.tree.leaves(params))
    data = problem.problem.data
    args = data, state, jr.key(1)
    loss = jax.jit(lambda params: problem.loss(params, args)[0])
    wave = lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape)
    u = jax.tree.map(wave, params)

    @jax.jit
    def found(params, u):
        methods = (
            curvopt.AdjointCurvature(),
            curvopt.ForwardCurvature(),
            curvopt.GaussNewtonCurvature(),
        )
        models = [
            curvopt.quadratic_model(problem.loss, params, args, m, has_aux=True)
            for m in methods
        ]
        return [model.curvature(u) for model in models]

    @jax.jit
    def oracles(params, u):
        _, hu = jax.jvp(jax.grad(loss), (params,), (u,))
        terms = jax.tree.map(jnp.vdot, u, hu)
        x, _ = problem.problem.prepare(data)
        model = problem.problem.model
        logits = lambda params: model.apply(params, state, x, jr.key(1))[0]
        z, dz = jax.jvp(logits, (params,), (u,))
        p = jax.nn.softmax(z)
        gauss_newton = (p * dz**2).sum(axis=1) - (p * dz).sum(axis=1) ** 2
        return sum(jax.tree.leaves(terms)), gauss_newton.mean()

    exact, gauss_newton = oracles(params, u)
    assert abs(exact) > 1e-2
    np.testing.assert_allclose(found(params, u), [exact, exact, gauss_newton], rtol=1e-9)

    moved = lambda t: loss(jax.tree.map(lambda p, v: p + t * v, params, u))
    difference = (moved(-1e-4) - 2 * moved(0.0) + moved(1e-4)) / 1e-8
    np.testing.assert_allclose(difference, exact, rtol=1e-4)

    # The statistics of the batch move with the filters, whose scale they take away again,
    # but for the small number that is added to the variance.
    where = lambda tree: tree.stem.conv.weight
    scale = eqx.tree_at(where, jax.tree.map(jnp.zeros_like, u), where(params))
    assert np.abs(found(params, scale)).max() < 1e-4


@pytest.mark.slow
def test_seeds_together_are_as_one_by_one(colourful):
    problem = tiny(colourful)
    starts = [_init(problem, jr.key(seed)) for seed in range(2)]
    step = lambda params, state: _step(problem, params, state, jnp.array(0), 0.2)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    together = eqx.filter_jit(jax.vmap(step))(*stacked)
    for k, start in enumerate(starts):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(step(*start))):
            np.testing.assert_allclose(a[k], b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_in_a_study(colourful):
    problem = tiny(colourful, batch_size=6)
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())
    data = curvopt.run_study(
        problem, {"SGD": solver}, seeds=2, steps=2, evaluations=1, progress=False
    )
    assert data.loss.shape == (1, 2, 2)
    for name in (
        "loss",
        "batch_accuracy",
        "step_size",
        "curvature",
        "train_loss",
        "test_loss",
    ):
        assert np.isfinite(data[name]).all(), name
    assert "colourful" in data.attrs["problem"]


BAD = {
    "no stage": (dict(channels=()), r"channels must be .* they are \(\)"),
    "a stage": (dict(channels=(4, 0)), r"channels\[1\] .* it is 0"),
    "blocks": (dict(blocks=0), "blocks .* at least 1.* it is 0"),
    "activation": (dict(activation="relu"), "activation must be a function.* it is 'relu'"),
    "tested": (dict(tested=0), "tested .* at least 1.* it is 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, colourful, unchecked):
    arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        tiny(colourful, **arguments)


def test_lenet_is_for_grey_images(colourful):
    with pytest.raises(
        ValueError, match="grey.*colourful have 3 channels.*ResNetClassifier"
    ):
        LeNetClassifier(colourful, batch_size=6)
