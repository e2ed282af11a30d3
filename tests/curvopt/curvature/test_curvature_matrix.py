r"""The matrix $K_{ij} = \langle u_i, H u_j \rangle$ against $U^T H U$ written out."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from curvature_oracle import BY_EQUATION, dense_hessian, METHODS, name, random_like
from jax.experimental import sparse

import curvopt


def network(width=5, batch=7, depth=2):
    mlp = eqx.nn.MLP(width, 3, width, depth, jax.nn.gelu, key=jr.key(0))
    params, static = eqx.partition(mlp, eqx.is_inexact_array)
    x = jr.normal(jr.key(1), (batch, width))

    def loss(params, x):
        logits = jax.vmap(eqx.combine(params, static))(x)
        return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    return loss, params, x


def directions(y, count):
    return [random_like(y, seed) for seed in range(count)]


def in_columns(us):
    return jnp.stack([jax.flatten_util.ravel_pytree(u)[0] for u in us], axis=1)


def matrix(fn, y, us, method=curvopt.AdjointCurvature()):
    model = curvopt.quadratic_model(lambda y, _: fn(y), y, curvature=method)
    return model.curvature_matrix(us)


def check_against_hvp(fn, y, us, **tolerance):
    """The matrix against that of Hessian-vector products, in one compilation."""
    methods = curvopt.AdjointCurvature(), curvopt.HvpCurvature()
    run = jax.jit(lambda y, us: [matrix(fn, y, us, method) for method in methods])
    np.testing.assert_allclose(*run(y, us), **tolerance)


def test_all_methods_against_the_dense_hessian(x64):
    loss, y, x = network(depth=1)
    fn, us = (lambda y: loss(y, x)), directions(y, 3)
    columns = in_columns(us)
    expected = columns.T @ dense_hessian(fn, y) @ columns
    scale = jnp.abs(expected).max()
    methods = [*METHODS, *BY_EQUATION]

    @jax.jit
    def run(y, us):
        return [matrix(fn, y, us, method) for method in methods]

    for method, got in zip(methods, run(y, us), strict=True):
        is_exact = not isinstance(method, curvopt.FiniteDifferenceCurvature)
        atol = scale * (1e-11 if is_exact else 1e-4)
        assert got.shape == (3, 3) and got.dtype == jnp.float64
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=name(method))


@jax.custom_vjp
def squash(x):
    return x


# No derivative of anything, and not linear in the cotangent.
squash.defvjp(lambda x: (x, x), lambda x, g: (jnp.tanh(g) * (1 + x**2),))


@pytest.mark.parametrize("where", ["plain", "scan", "remat"])
def test_a_backward_rule_need_not_be_symmetric(where, x64):
    """Guards the orientation: tangents along u_j, duals along u_i, for the H that is the
    Jacobian of what the backward sweep computes."""
    rule = jax.checkpoint(squash) if where == "remat" else squash

    def fn(y):
        h = jnp.sin(y["a"]) * y["b"]
        if where == "scan":
            h, _ = jax.lax.scan(lambda h, x: (rule(h * x + y["a"]), None), h, y["x"])
        return jnp.sum(rule(h) ** 3 * y["b"])

    y = {"a": jnp.linspace(0.2, 1.1, 4), "b": jnp.linspace(1, 2, 4), "x": jnp.ones((2, 4))}
    flat, unravel = jax.flatten_util.ravel_pytree(y)
    us = directions(y, 3)
    columns = in_columns(us)
    hessian = jax.jit(jax.jacrev(jax.grad(lambda v: fn(unravel(v)))))(flat)
    expected = columns.T @ hessian @ columns
    assert jnp.abs(expected - expected.T).max() > 0.1 * jnp.abs(expected).max()
    run = jax.jit(lambda y, us: (matrix(fn, y, us), [matrix(fn, y, [u])[0, 0] for u in us]))
    got, along = run(y, us)
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    np.testing.assert_allclose(along, jnp.diag(expected), rtol=1e-9)


@pytest.mark.parametrize("method", [*METHODS, *BY_EQUATION], ids=name)
def test_one_direction_is_the_curvature(method, x64):
    @jax.jit
    def run(y, u):
        fn = lambda y, _: jnp.sum(jnp.tanh(y @ y.T) * jnp.exp(y))
        model = curvopt.quadratic_model(fn, y, curvature=method)
        return model.curvature_matrix([u]), model.curvature(u)

    got, curvature = run(*jr.normal(jr.key(0), (2, 3, 3)))
    assert got.shape == (1, 1)
    np.testing.assert_allclose(got[0, 0], curvature, rtol=1e-12)


def test_directions_that_coincide_or_vanish(x64):
    y = jnp.array([0.3, 0.5])
    us = [jnp.ones(2), jnp.zeros(2), jnp.ones(2)]
    got = matrix(lambda y: jnp.sum(y**3) * y[0], y, us)
    assert got[0, 0] == got[0, 2] == got[2, 0] == got[2, 2] != 0
    np.testing.assert_array_equal(got[1], 0)
    np.testing.assert_array_equal(got[:, 1], 0)


@pytest.mark.parametrize("method", [curvopt.AdjointCurvature(), curvopt.HvpCurvature()])
def test_vmap_and_low_precision(method, x64):
    fn = lambda y: jnp.sum(jnp.tanh(y @ y) * jnp.exp(y))
    ys, *us = jr.normal(jr.key(0), (3, 4, 2, 2))
    run = jax.jit(lambda y, *us: matrix(fn, y, list(us), method))
    expected = [run(y, *u) for y, *u in zip(ys, *us)]
    np.testing.assert_allclose(jax.vmap(run)(ys, *us), expected, rtol=1e-10, atol=1e-12)
    narrow = run(*(a[0].astype(jnp.bfloat16) for a in (ys, *us)))
    assert narrow.dtype == jnp.float32
    scale = float(jnp.abs(expected[0]).max())
    np.testing.assert_allclose(narrow, expected[0], atol=0.1 * scale)


@pytest.mark.parametrize("method", METHODS, ids=name)
def test_bad_directions(method):
    model = curvopt.quadratic_model(
        lambda y, _: jnp.sum(y**2), jnp.ones(2), curvature=method
    )
    with pytest.raises(ValueError, match="at least one vector.*an empty one"):
        model.curvature_matrix([])
    for bad in (jnp.ones(3), {"a": jnp.ones(2)}, jnp.arange(2)):
        with pytest.raises(ValueError, match="u must"):
            model.curvature_matrix([jnp.ones(2), bad])


def test_all_entries_cost_what_the_diagonal_does():
    """XLA's FLOPs: one gradient, and three products for each direction, where four
    models would take four gradients and polarisation ten curvatures."""
    loss, y, x = network(width=128, batch=64, depth=4)
    us = directions(y, 4)

    def flops(fn):
        return curvopt.cost.compile_and_analyse(fn, y, us, x).flops

    def run(ask, products="two"):
        def fn(y, us, x):
            method = curvopt.AdjointCurvature(products=products)
            model = curvopt.quadratic_model(loss, y, x, method)
            return model.grad, ask(model, us)

        return flops(fn)

    gradient = flops(lambda y, us, x: jax.value_and_grad(loss)(y, x))
    along_one = lambda model, us: model.curvature(us[0])
    whole = run(lambda model, us: model.curvature_matrix(us))
    assert whole <= 1.05 * (gradient + 4 * (run(along_one, "three") - gradient))
    assert whole <= 0.8 * 4 * run(along_one)


SPARSE = np.float32([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0], [1.0, 1.0, 0.0]])
# `fromdense` compiles fifty programs.
ROWS, COLUMNS = np.nonzero(SPARSE)
DATA, STARTS = SPARSE[ROWS, COLUMNS], np.searchsorted(ROWS, range(5))
BCOO = sparse.BCOO((DATA, np.stack([ROWS, COLUMNS], 1)), shape=SPARSE.shape)
BCSR = sparse.BCSR((DATA, COLUMNS, STARTS), shape=SPARSE.shape)


def ragged(y):
    sizes = jnp.array([1, 3], jnp.int32)
    return lax.ragged_dot(y[0, 0] * SPARSE, jnp.stack([y, y**2]), sizes)


def bcsr(y):
    data = jnp.sin(BCSR.data * y[0, 0])
    args = data, BCSR.indices, BCSR.indptr
    return sparse.BCSR(args, shape=BCSR.shape) @ y


# Products whose batching rules jax has for a first axis, or not for all derivatives.
PRODUCTS = {
    "ragged, a constant": lambda y: lax.ragged_dot(
        SPARSE, jnp.stack([y, y**2]), jnp.array([1, 3], jnp.int32)
    ),
    "ragged": ragged,
    "BCOO": lambda y: BCOO @ y,
    "BCOO of the parameters": lambda y: (
        sparse.BCOO((jnp.sin(BCOO.data * y[0, 0]), BCOO.indices), shape=BCOO.shape) @ y
    ),
    "BCSR": lambda y: BCSR @ y,
    "BCSR of the parameters": bcsr,
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_other_kinds(name):
    loss = lambda y: jnp.sum(jnp.tanh(PRODUCTS[name](y)) ** 2)
    y = jnp.arange(6.0).reshape(3, 2) / 7
    us = [jnp.ones_like(y), y, jnp.cos(3 * y)]
    check_against_hvp(loss, y, us, rtol=1e-4, atol=1e-5)


def test_scans_of_stacked_directions(x64):
    """What is scanned over, carried and put out, with an axis for the directions."""

    def loss(y):
        def step(h, w):
            h = jnp.tanh(w @ h + y["b"])
            return h, jnp.sum(h * w[0]) ** 2

        h, outs = lax.scan(step, y["h"], y["w"], reverse=True)
        return jnp.sum(jnp.sin(outs)) + jnp.sum(h**3)

    shapes = {"w": (5, 3, 3), "b": (3,), "h": (3,)}
    y = {name: jr.normal(jr.key(k), s) for k, (name, s) in enumerate(shapes.items())}
    us = [random_like(y, seed) for seed in (4, 5)]
    check_against_hvp(loss, y, us, rtol=1e-9)
