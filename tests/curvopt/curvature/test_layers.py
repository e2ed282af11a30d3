"""Layers and structures that networks are made of, against jax's Hessian in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from curvature_oracle import BY_EQUATION, check_along, name

import curvopt


def squares(out):
    """A loss that is no symmetric function of the outputs."""
    leaves = [x for x in jax.tree.leaves(out) if eqx.is_inexact_array(x)]
    weight = lambda x: jnp.linspace(0.5, 1.5, x.size).reshape(x.shape)
    return sum(jnp.mean(weight(x) * (x + 0.2) ** 2) for x in leaves)


def layer(make, *shape, key=None):
    """A layer on an input that is differentiated too, so that both factors are active."""

    def build():
        params, static = eqx.partition(make(), eqx.is_inexact_array)
        y = params, jr.normal(jr.key(1), shape)

        def loss(y):
            call = eqx.combine(y[0], static)
            return squares(call(y[1]) if key is None else call(y[1], key=jr.key(key)))

        return loss, y

    return build


def normalised(mode):
    def build():
        norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode=mode)
        params, static = eqx.partition(norm, eqx.is_inexact_array)
        y = params, jr.normal(jr.key(1), (5, 3))

        def loss(y):
            call = jax.vmap(
                eqx.combine(y[0], static),
                axis_name="batch",
                in_axes=(0, None),
                out_axes=(0, None),
            )
            # The state is an auxiliary output: nothing flows through it.
            out, _ = call(y[1], state)
            return squares(out)

        return loss, y

    return build


def recurrent(make):
    def build():
        params, static = eqx.partition(make(), eqx.is_inexact_array)
        x = jr.normal(jr.key(1), (4, 2))

        def loss(params):
            cell = eqx.combine(params, static)
            hidden = jnp.zeros(cell.hidden_size)
            start = (hidden, hidden) if isinstance(cell, eqx.nn.LSTMCell) else hidden

            def body(state, x):
                state = cell(x, state)
                return state, jax.tree.leaves(state)[0]

            return squares(jax.lax.scan(body, start, x))

        return loss, params

    return build


def embedding():
    params, static = eqx.partition(eqx.nn.Embedding(5, 3, key=jr.key(0)), eqx.is_array)
    tokens = jnp.array([1, 4, 1, 0])
    return lambda p: squares(jax.vmap(eqx.combine(p, static))(tokens) ** 2), params


def self_attention():
    attention = eqx.nn.MultiheadAttention(2, 4, key=jr.key(0))
    params, static = eqx.partition(attention, eqx.is_inexact_array)
    mask = jnp.tril(jnp.ones((3, 3), bool))

    def loss(y):
        return squares(eqx.combine(y[0], static)(y[1], y[1], y[1], mask=mask))

    return loss, (params, jr.normal(jr.key(1), (3, 4)))


def of_arrays(fn, *shapes):
    def build():
        keys = jr.split(jr.key(0), len(shapes))
        return lambda y: squares(fn(*y)), [jr.normal(k, s) for k, s in zip(keys, shapes)]

    return build


def positive_definite(a):
    return a @ a.T + 2 * jnp.diag(jnp.arange(1.0, 4.0))


K = jr.key
LAYERS = {
    "MLP": layer(lambda: eqx.nn.MLP(3, 2, 4, 2, jnp.tanh, key=K(0)), 3),
    "MLP-gelu": layer(lambda: eqx.nn.MLP(3, 2, 4, 1, jax.nn.gelu, key=K(0)), 3),
    "Conv1d": layer(lambda: eqx.nn.Conv1d(2, 3, 3, key=K(0)), 2, 6),
    "Conv2d": layer(
        lambda: eqx.nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, key=K(0)), 2, 5, 5
    ),
    "Conv2d-dilated": layer(
        lambda: eqx.nn.Conv2d(1, 2, 2, dilation=2, padding="SAME", key=K(0)), 1, 4, 4
    ),
    "Conv3d": layer(lambda: eqx.nn.Conv3d(1, 2, 2, key=K(0)), 1, 3, 3, 3),
    "ConvTranspose1d": layer(
        lambda: eqx.nn.ConvTranspose1d(2, 3, 3, stride=2, key=K(0)), 2, 4
    ),
    "ConvTranspose2d": layer(
        lambda: eqx.nn.ConvTranspose2d(2, 1, 2, stride=2, key=K(0)), 2, 3, 3
    ),
    "ConvTranspose3d": layer(lambda: eqx.nn.ConvTranspose3d(1, 2, 2, key=K(0)), 1, 2, 2, 2),
    "MaxPool1d": layer(lambda: eqx.nn.MaxPool1d(2, 2), 2, 6),
    "MaxPool2d": layer(lambda: eqx.nn.MaxPool2d(3, 2, padding=1), 1, 5, 5),
    "MaxPool3d": layer(lambda: eqx.nn.MaxPool3d(2), 1, 3, 3, 3),
    "AvgPool2d": layer(lambda: eqx.nn.AvgPool2d(2, 1), 1, 4, 4),
    "AdaptiveAvgPool2d": layer(lambda: eqx.nn.AdaptiveAvgPool2d(2), 1, 5, 5),
    "AdaptiveMaxPool2d": layer(lambda: eqx.nn.AdaptiveMaxPool2d(2), 1, 5, 5),
    "BatchNorm-batch": normalised("batch"),
    "BatchNorm-ema": normalised("ema"),
    "LayerNorm": layer(lambda: eqx.nn.LayerNorm(5), 5),
    "RMSNorm": layer(lambda: eqx.nn.RMSNorm(5), 5),
    "GroupNorm": layer(lambda: eqx.nn.GroupNorm(2, 4), 4, 3),
    "Dropout": layer(lambda: eqx.nn.Dropout(0.4), 8, key=2),
    "Embedding": embedding,
    "GRUCell": recurrent(lambda: eqx.nn.GRUCell(2, 3, key=K(0))),
    "LSTMCell": recurrent(lambda: eqx.nn.LSTMCell(2, 3, key=K(0))),
    "MultiheadAttention": self_attention,
    "cholesky": of_arrays(lambda a: jnp.linalg.cholesky(positive_definite(a)), (3, 3)),
    "solve": of_arrays(
        lambda a, b: jnp.linalg.solve(positive_definite(a), b), (3, 3), (3, 2)
    ),
    "eigh": of_arrays(lambda a: jnp.linalg.eigh(positive_definite(a)), (3, 3)),
    "slogdet": of_arrays(lambda a: jnp.linalg.slogdet(a), (3, 3)),
    "fft": of_arrays(lambda a: jnp.abs(jnp.fft.fft2(a) + 3) ** 2, (3, 4)),
    "rfft": of_arrays(lambda a: jnp.fft.irfft(jnp.fft.rfft(a) ** 2), (6,)),
}


# One of each kind of layer; the others are of the same primitives. Loops and attention are
# in other tests.
ALWAYS = """MLP-gelu Conv2d ConvTranspose2d MaxPool2d BatchNorm-batch LayerNorm Dropout
Embedding cholesky eigh rfft""".split()
CASES = [
    pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow) for name in LAYERS
]


@pytest.mark.parametrize("which", CASES)
def test_layers_against_jax(which, x64):
    check_along(*LAYERS[which]())


def test_dot_product_attention(x64):
    """jax computes its softmax in float32, whatever it is given."""
    attend = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True)
    check_along(*of_arrays(attend, *[(1, 3, 2, 4)] * 3)(), rtol=2e-5)


@pytest.mark.parametrize("method", BY_EQUATION, ids=name)
def test_dropout_is_the_same_in_all_sweeps(method, x64):
    """Guards against a mask drawn anew: the curvature of a quadratic is its Hessian."""
    dropout, y = eqx.nn.Dropout(0.5), jnp.arange(1.0, 9.0)
    loss = lambda y, _: jnp.sum(dropout(y, key=jr.key(0)) ** 2)
    model = curvopt.quadratic_model(loss, y, curvature=method)
    kept = dropout(jnp.ones(8), key=jr.key(0))
    assert model.curvature(jnp.ones(8)) == 2 * jnp.sum(kept**2)
