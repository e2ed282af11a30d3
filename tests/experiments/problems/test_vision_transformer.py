import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import curvopt
from experiments.data import load_subset
from experiments.problems import VisionTransformerClassifier


def _network(problem):
    """Its network, made once: a model is what `eqx.combine` makes of parameters."""
    return problem.problem.model.make(key=jr.key(0))


@pytest.fixture(scope="module")
def problem():
    return VisionTransformerClassifier(
        load_subset(), 7, 16, 1, heads=2, batch_size=32, evaluated=60, tested=40
    )


def _image():
    return np.random.default_rng(0).normal(size=(1, 28, 28)).astype(np.float32)


def test_patches(problem):
    """Each is a square of the image, row by row; where nothing else tells them apart, their
    order does not matter."""
    network, image = _network(problem), _image()
    patches = network._patches(jnp.asarray(image))
    assert patches.shape == (16, 49) == (len(network.positions), 49)
    np.testing.assert_array_equal(patches[6], image[0, 7:14, 14:21].ravel())

    turned = jnp.asarray(image[:, ::-1])
    same_rows = image.reshape(1, 4, 7, 28)[:, ::-1].reshape(1, 28, 28)
    alone = eqx.tree_at(lambda n: n.positions, network, jnp.zeros_like(network.positions))
    found = [eqx.filter_jit(alone)(jnp.asarray(x)) for x in (image, same_rows, turned)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[0], found[2], rtol=1e-3)
    assert not np.allclose(
        eqx.filter_jit(network)(jnp.asarray(same_rows)), found[0], rtol=1e-3
    )


@pytest.mark.slow
def test_curvature(x64):
    """The adjoint sweep is exact on attention without a mask."""
    problem = VisionTransformerClassifier(load_subset(), 14, 4, 1, heads=2, batch_size=4)
    params, state = problem.init(jr.key(0))
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    args = problem.batch(jr.key(1), jnp.array(0)), state, jr.key(2)
    loss = lambda y, args: problem.loss(y, args)[0]
    u = jax.tree.map(lambda p: jnp.sin(jnp.arange(p.size) + 1.0).reshape(p.shape), params)
    along = lambda t: loss(jax.tree.map(lambda p, v: p + t * v, params, u), args)
    expected = jax.jit(jax.grad(jax.grad(along)))(0.0)
    found = jax.jit(lambda: curvopt.quadratic_model(loss, params, args).curvature(u))()
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.slow
def test_it_learns(problem):
    adam = optax.adam(1e-2)

    @eqx.filter_jit
    def step(params, state, count):
        args = problem.batch(jr.key(1), count), None, jr.key(2)
        (loss, _), grad = jax.value_and_grad(problem.loss, has_aux=True)(params, args)
        updates, state = adam.update(grad, state)
        return optax.apply_updates(params, updates), state, loss

    params, _ = problem.init(jr.key(0))
    state, losses = adam.init(params), []
    for count in range(60):
        params, state, loss = step(params, state, jnp.array(count))
        losses.append(float(loss))
    np.testing.assert_allclose(losses[0], np.log(10), atol=0.5)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
