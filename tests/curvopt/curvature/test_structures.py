"""Loops, recomputation, solvers: exact, and at the cost of what they hold."""

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx
import pytest
from jax.experimental.ode import odeint

import curvopt


METHODS = [
    curvopt.AdjointCurvature(products="two"),
    curvopt.ForwardCurvature(),
]
WEIGHTS = {
    "a": 0.3 * jr.normal(jr.key(0), (4, 4)),
    "b": 0.5 * jr.normal(jr.key(1), (4,)),
    "h": jr.normal(jr.key(2), (4,)),
    "x": jr.normal(jr.key(3), (5, 4)),
}


def body(y):
    def step(h, x):
        h = jnp.tanh(y["a"] @ h + jnp.exp(y["b"]) * x)
        return h, jnp.sum(jnp.sin(h) * x)

    return step


def recurrent(y):
    h, out = jax.lax.scan(body(y), y["h"], y["x"])
    return jnp.sum(h**3) + jnp.sum(out**2)


def reversed_and_unrolled(y):
    _, out = jax.lax.scan(body(y), y["h"], y["x"], reverse=True, unroll=2)
    return jnp.sum(jnp.cos(out))


def only_the_carry(y):
    return jnp.sum(jax.lax.scan(body(y), y["h"], y["x"])[0] ** 2)


def nested_loops(y):
    def outer(h, x):
        h, out = jax.lax.scan(body(y), h, y["x"][:2] * x)
        return jnp.sin(h), jnp.sum(out)

    h, out = jax.lax.scan(outer, y["h"], jnp.arange(3.0))
    return jnp.sum(h * y["b"]) + jnp.sum(out**2)


def remat_in_a_loop(y):
    h, out = jax.lax.scan(jax.checkpoint(body(y)), y["h"], y["x"])
    return jnp.sum(h**3) + jnp.sum(out)


def loop_in_remat(y):
    return jnp.sin(jax.checkpoint(recurrent)(y))


def remat_of_one_value_twice(y):
    """Guards against adjoints of an output that replace those of another."""

    def both(h):
        h = jnp.sin(h)
        return h, h

    a, b = jax.checkpoint(both)(y["h"])
    return jnp.sum(a**3) + jnp.sum(jnp.exp(b))


def counted_loop(y):
    step = lambda k, h: jnp.tanh(y["a"] @ h + k * y["b"])
    return jnp.sum(jax.lax.fori_loop(0, 4, step, y["h"]) ** 2)


def loop_over_integers(y):
    def step(carry, k):
        count, h = carry
        h = h.at[k % 4].mul(jnp.cos(y["b"][count % 4]))
        return (count + 1, h), (count, h[k % 4])

    (count, h), (counts, out) = jax.lax.scan(step, (0, y["h"]), jnp.arange(6))
    return jnp.sum(h**3) * count + jnp.sum(counts * out)


def carry_that_is_constant_at_first(y):
    h, _ = jax.lax.scan(lambda h, x: (jnp.sin(h) + x * y["b"], None), jnp.zeros(4), y["x"])
    return jnp.sum(h**2)


def empty_loop(y):
    h, out = jax.lax.scan(body(y), y["h"], jnp.zeros((0, 4)))
    return jnp.sum(h**3) + jnp.sum(out)


def vmapped_loop(y):
    run = lambda h: jnp.sum(jax.lax.scan(body(y), h, y["x"])[0] ** 3)
    return jnp.sum(jax.vmap(run)(jnp.stack([y["h"], y["b"]])))


def branches(y):
    total = jnp.sum(y["h"])
    cases = [jnp.sin, lambda t: t**3, lambda t: jnp.exp(t) * y["b"][0]]
    return jax.lax.switch(1 + (total > 100), cases, total) + jax.lax.cond(
        total > -100, lambda t: jnp.cos(t) * y["b"][1], jnp.sin, total
    )


def prefix_products(y):
    matrices = jnp.stack([y["a"], y["a"].T, jnp.eye(4) + y["a"]])
    return jnp.sum(jax.lax.associative_scan(jnp.matmul, matrices) ** 2)


def root_of_an_equation(y):
    solver = optx.Newton(rtol=1e-12, atol=1e-12)
    equation = lambda z, w: z + 0.1 * jnp.tanh(w["a"] @ z) - w["b"]
    return jnp.sum(optx.root_find(equation, solver, y["h"], y).value ** 2)


def fixed_point(y):
    solver = optx.FixedPointIteration(rtol=1e-13, atol=1e-13)
    step = lambda z, w: 0.3 * jnp.tanh(w["a"] @ z) + w["b"]
    return jnp.sum(optx.fixed_point(step, solver, jnp.zeros(4), y).value ** 3)


def empty(y):
    return jnp.sum(jnp.sin(y["x"][:0])) + jnp.sum(y["b"] ** 2)


def affine_prefixes(y):
    combine = lambda p, q: (jnp.tanh(p[0]) * q[0], q[0] * p[1] + q[1])
    _, sums = jax.lax.associative_scan(combine, (y["a"], jnp.cos(y["a"])))
    return jnp.sum(sums**2)


def random_numbers(y):
    return jnp.sum(jax.random.gamma(jax.random.key(0), jnp.exp(y["b"])))


STRUCTURES = [
    empty,
    reversed_and_unrolled,
    nested_loops,
    remat_in_a_loop,
    remat_of_one_value_twice,
    loop_over_integers,
    carry_that_is_constant_at_first,
    empty_loop,
    vmapped_loop,
    fixed_point,
]
# A loop, a branch, a remat by themselves are in `test_curvature.py` too.
MORE = [
    affine_prefixes,
    branches,
    counted_loop,
    loop_in_remat,
    only_the_carry,
    prefix_products,
    random_numbers,
    recurrent,
    root_of_an_equation,
]


def directions(y, n):
    like = lambda key, leaf: jr.normal(key, leaf.shape, leaf.dtype)
    treedef = jax.tree.structure(y)
    keys = jr.split(jr.key(9), (n, treedef.num_leaves))
    return [jax.tree.map(like, jax.tree.unflatten(treedef, list(row)), y) for row in keys]


@pytest.mark.parametrize(
    "fn",
    [*STRUCTURES, *(pytest.param(fn, marks=pytest.mark.slow) for fn in MORE)],
    ids=lambda fn: fn.__name__,
)
def test_curvature_is_exact(fn, x64):
    """Against forward over reverse, which takes none of the paths that are tested."""
    y = jax.tree.map(lambda a: a.astype(float), WEIGHTS)
    us = directions(y, 2)

    @jax.jit
    def run(y):
        along = lambda u: jax.jvp(jax.grad(fn), (y,), (u,))[1]
        expected = [[curvopt.tree_dot(along(u), w) for w in us] for u in us]
        got = []
        for method in METHODS:
            model = curvopt.quadratic_model(lambda y, _: fn(y), y, curvature=method)
            got.append((model.value, model.grad, model.curvature(us[0])))
        matrix = curvopt.quadratic_model(lambda y, _: fn(y), y).curvature_matrix(us)
        return jax.value_and_grad(fn)(y), jnp.array(expected), got, matrix

    (value, grad), expected, got, matrix = run(y)
    scale = np.abs(expected).max()
    for own_value, own_grad, curvature in got:
        np.testing.assert_allclose(own_value, value, rtol=1e-12)
        for a, b in zip(jax.tree.leaves(own_grad), jax.tree.leaves(grad), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(curvature, expected[0, 0], rtol=1e-7, atol=1e-8 * scale)
    np.testing.assert_allclose(matrix, expected, rtol=1e-7, atol=1e-8 * scale)


@jax.custom_vjp
def weighted(x, table, factor):
    return factor * jnp.sum(table) * x


def weighted_backward(kept, adjoint):
    table, factor = kept
    rows = lax.map(lambda k: table[k], jnp.arange(len(table)))
    return factor * jnp.sum(rows) * adjoint, None, None


weighted.defvjp(
    lambda x, table, factor: (weighted(x, table, factor), (table, factor)),
    weighted_backward,
)


@jax.custom_jvp
def scaled(x, table):
    return jnp.sum(table) * x


@scaled.defjvp
def scaled_tangent(primals, tangents):
    (x, table), (dx, _) = primals, tangents
    total = lax.fori_loop(0, len(table), lambda k, total: total + table[k], 0.0)
    return scaled(x, table), total * dx


TABLE = np.array([1.0, 2.0, 3.0])
WITH_CONSTANTS = {
    "in the loss": lambda y: weighted(y, jnp.asarray(TABLE), 2.0) ** 2,
    "in a scan": lambda y: lax.scan(
        lambda c, _: (weighted(c, jnp.asarray(TABLE), 2.0), None), y, None, 2
    )[0],
    "in a remat": lambda y: jax.checkpoint(
        lambda y: weighted(y, jnp.asarray(TABLE), 2.0) ** 2
    )(y),
    "in a branch": lambda y: lax.cond(
        y > 0, lambda y: weighted(y, jnp.asarray(TABLE), 2.0) ** 2, jnp.sin, y
    ),
    "of a forward rule": lambda y: scaled(y, jnp.asarray(TABLE)) ** 3,
    "odeint": lambda y: jnp.sum(
        odeint(lambda x, t: -(x**2) * jnp.cos(t), y, jnp.array([0.0, 0.5, 1.0])) ** 2
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "odeint" else ())
        for name in WITH_CONSTANTS
    ],
)
def test_rules_of_a_users_own_see_constants_as_arrays(name, x64):
    """A custom rule is written for what `jax.grad` hands to it, which are arrays."""
    loss, y = WITH_CONSTANTS[name], jnp.array(1.5)

    @jax.jit
    def run(y):
        model = curvopt.quadratic_model(lambda y, _: loss(y), y)
        return model.grad, model.curvature(jnp.array(1.0))

    (grad, curvature), expected, h = run(y), jax.jit(jax.grad(loss)), 1e-4
    np.testing.assert_allclose(grad, expected(y), rtol=1e-6)
    change = (expected(y + h) - expected(y - h)) / (2 * h)
    np.testing.assert_allclose(curvature, change, rtol=1e-5)
