"""What narrow and mixed precision do to value, gradient and curvature."""

import collections
import functools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from curvature_oracle import BY_EQUATION, EXACT, name, random_like

import curvopt


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


class Convolutions(eqx.Module):
    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d

    def __init__(self, key):
        self.first = eqx.nn.Conv2d(1, 4, 3, key=key)
        self.second = eqx.nn.Conv2d(4, 3, 3, key=jr.fold_in(key, 1))

    def __call__(self, x):
        return jnp.mean(self.second(jnp.tanh(self.first(x))), axis=(1, 2))


class Attention(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm

    def __init__(self, key):
        self.attention = eqx.nn.MultiheadAttention(2, 8, key=key)
        self.norm = eqx.nn.LayerNorm(8)

    def __call__(self, x):
        h = jax.vmap(self.norm)(x)
        return jnp.mean(x + self.attention(h, h, h), axis=0)


class Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell

    def __init__(self, key):
        self.cell = eqx.nn.GRUCell(3, 6, key=key)

    def __call__(self, x):
        return jax.lax.scan(
            lambda h, x: (self.cell(x, h), None), 0 * x[0, 0] + jnp.zeros(6, x.dtype), x
        )[0]


NETWORKS = {
    "mlp": (lambda key: eqx.nn.MLP(6, 3, 16, 2, jax.nn.gelu, key=key), (6,)),
    "cnn": (Convolutions, (1, 8, 8)),
    "attention": (Attention, (5, 8)),
    "gru": (Recurrent, (6, 3)),
}


def network(which, dtype):
    """The same function, parameters and data in any dtype; the loss is added up in float32
    at least."""
    make, shape = NETWORKS[which]
    with jax.enable_x64(False):
        model = make(jr.key(0))
        x = jr.normal(jr.key(1), (8, *shape))
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(params, x):
        out = jax.vmap(eqx.combine(params, static))(x)
        wide = out.astype(jnp.promote_types(out.dtype, jnp.float32))
        target = jnp.linspace(-1, 1, wide.shape[-1], dtype=wide.dtype)
        return jnp.mean((wide - target) ** 2)

    return loss, cast(params, dtype), x.astype(dtype)


def along(loss, params, x, methods, u):
    """Value, gradient, slope and curvature of each method, in one compilation."""

    @jax.jit
    def run(params, x, u):
        models = [curvopt.quadratic_model(loss, params, x, method) for method in methods]
        return [(m.value, m.grad, m.slope(u), m.curvature(u)) for m in models]

    return dict(zip(map(name, methods), run(params, x, u), strict=True))


HVP = curvopt.HvpCurvature()


@functools.cache
def reference(which):
    """The curvature in float64, along a direction that every dtype can express."""
    with jax.enable_x64(True):
        loss, params, x = network(which, jnp.float64)
        u = cast(cast(random_like(params), jnp.bfloat16), jnp.float64)
        ((*_, expected),) = along(loss, params, x, [HVP], u).values()
        return u, float(expected)


def check_dtype(which, dtype, methods, limit):
    """Dtypes, and the error relative to the curvature in float64."""
    u, expected = reference(which)
    loss, params, x = network(which, dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    results = along(loss, params, x, methods, cast(u, dtype))
    for method, (_, grad, slope, curvature) in results.items():
        assert {leaf.dtype for leaf in jax.tree.leaves(grad)} == {jnp.dtype(dtype)}
        assert slope.dtype == wide and curvature.dtype == wide
        np.testing.assert_allclose(curvature, expected, rtol=limit, err_msg=method)


@pytest.mark.parametrize("which", NETWORKS)
@pytest.mark.slow
def test_two_products_are_accurate_in_float32(which):
    check_dtype(which, jnp.float32, BY_EQUATION, 1e-4)


@pytest.mark.parametrize(
    "dtype, limit",
    [
        pytest.param("float64", 1e-12, marks=pytest.mark.slow),
        ("float16", 0.02),
        ("bfloat16", 0.1),
    ],
)
def test_each_dtype(dtype, limit):
    with jax.enable_x64(dtype == "float64"):
        check_dtype("mlp", jnp.dtype(dtype), EXACT, limit)


def _mixed(params, x, compute):
    """Two layers whose weights are multiplied in a dtype of their own, with products
    added up in float32."""
    matmul = partial(jnp.matmul, preferred_element_type=jnp.float32)
    first, second = (w.astype(compute) for w in params)
    hidden = jnp.tanh(matmul(x.astype(compute), first)).astype(compute)
    return jnp.mean((matmul(hidden, second) - 0.3) ** 2)


@pytest.mark.parametrize("store", ["bfloat16", "float32"])
def test_mixed_precision(store):
    """Weights in bfloat16 with sums in float32; and the usual recipe of weights in
    float32 with activations in bfloat16."""
    keys = jr.split(jr.key(0), 4)
    draw = lambda keys: [
        jr.normal(k, shape).astype(jnp.bfloat16).astype(store)
        for k, shape in zip(keys, ((8, 16), (16, 2)))
    ]
    params, u, x = draw(keys[:2]), draw(keys[2:]), jnp.linspace(-1, 1, 48).reshape(6, 8)
    exact = partial(_mixed, compute="float32")
    ((*_, expected),) = along(exact, cast(params, "float32"), x, [HVP], u).values()
    results = along(partial(_mixed, compute="bfloat16"), params, x, EXACT, u)
    for method, (_, grad, slope, got) in results.items():
        assert grad[0].dtype == store
        assert slope.dtype == got.dtype == jnp.float32
        # Terms of either sign cancel, so that two digits of bfloat16 become one.
        np.testing.assert_allclose(got, expected, rtol=0.1, err_msg=method)


@pytest.mark.parametrize(
    "which", ["cnn", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mlp", "gru"))]
)
def test_narrow_products_leave_value_and_gradient(which):
    loss, params, x = network(which, jnp.float32)
    u = random_like(params)
    results = [
        along(loss, params, x, [method], u)["AdjointCurvature"]
        for method in (
            curvopt.AdjointCurvature(product_dtype=jnp.bfloat16),
            curvopt.AdjointCurvature(),
        )
    ]
    (value, grad, _, got), (expected_value, expected_grad, _, expected) = results
    assert value == expected_value
    for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(expected_grad), strict=True):
        np.testing.assert_array_equal(a, b)
    assert got.dtype == jnp.float32 and got != expected
    np.testing.assert_allclose(got, expected, rtol=0.05)


def equations(jaxpr):
    """All of them, those of inner functions too."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize(
    "which",
    [
        "mlp",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("gru", "cnn", "attention")),
    ],
)
def test_two_narrow_products_are_accurate(which):
    """Rounding the operands to bfloat16 does not spoil the difference of products."""
    u, expected = reference(which)
    loss, params, x = network(which, jnp.float32)
    method = curvopt.AdjointCurvature("two", product_dtype=jnp.bfloat16)
    ((*_, got),) = along(loss, params, x, [method], cast(u, jnp.float32)).values()
    # Another number than that of full precision, or it would not be narrow.
    assert 1e-5 < abs(got / expected - 1) < 0.02


# Of layers but the first, which is linear in the parameters.
@pytest.mark.parametrize("which, layers", [("mlp", 2), ("cnn", 1)])
@pytest.mark.parametrize("products, each", [("two", 2), ("three", 3), ("auto", 3)])
def test_narrow_products_are_as_many_as_asked_for(which, layers, products, each):
    loss, params, x = network(which, jnp.float32)
    method = curvopt.AdjointCurvature(products, product_dtype=jnp.bfloat16)
    curved = lambda y, u: curvopt.quadratic_model(loss, y, x, method).curvature(u)
    jaxpr = jax.make_jaxpr(curved)(params, random_like(params)).jaxpr
    narrow = collections.Counter(
        eqn.invars[1].aval.shape
        for eqn in equations(jaxpr)
        if eqn.primitive.name in ("dot_general", "conv_general_dilated")
        and {v.aval.dtype for v in eqn.invars} == {jnp.dtype(jnp.bfloat16)}
    )
    _, *others = narrow.values()
    assert others == [each] * layers


@pytest.mark.parametrize("scale", [100.0, 1e-3])
def test_float16_does_not_overflow_needlessly(scale):
    """The curvature is beyond float16 for the one scale, and the ratio of parameters and
    tangents close to its limit for the other."""
    y = jnp.full(64, 30.0, jnp.float16)
    u = jnp.full_like(y, scale)
    loss = lambda y, _: jnp.sum((y * y).astype(jnp.float32))
    expected = 2 * 64 * float(u[0]) ** 2
    # Squares of small tangents are subnormal in float16: a few digits are left.
    rtol = 1e-3 if scale > 1 else 0.1
    for method, (*_, got) in along(loss, y, None, [*EXACT, *BY_EQUATION], u).items():
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=rtol, err_msg=method)


def test_float16_products_do_not_overflow():
    """Tangents a million times smaller than the parameters, in a matrix product."""
    w, x = jnp.full((4, 4), 8.0, jnp.float16), jnp.ones((2, 4), jnp.float16)
    u = [jnp.full_like(w, 2.0**-20), jnp.full_like(x, 2.0**-20)]
    loss = lambda y, _: jnp.sum((y[1] @ y[0]).astype(jnp.float32) ** 2)
    for method, (*_, got) in along(loss, [w, x], None, [*EXACT, *BY_EQUATION], u).items():
        assert jnp.isfinite(got), method
