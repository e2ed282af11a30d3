"""The oracle is J^T (d^2 L) J, written out in float64."""

from functools import partial

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optimistix as optx
import pytest
from curvature_oracle import random_like

import curvopt
from strategies import CurvatureRescaling, SGD


X, LABELS = jr.normal(jr.key(1), (7, 5)), jnp.arange(7) % 3


def network():
    model = eqx.nn.MLP(5, 3, 6, 2, jnp.tanh, key=jr.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return params, lambda p, _: jax.vmap(eqx.combine(p, static))(X.astype(float))


def cross_entropy(z, _):
    return optax.softmax_cross_entropy_with_integer_labels(z, LABELS).mean()


def squares(z, _):
    return jnp.mean(jnp.cumsum(z, axis=1) ** 2)


@partial(jax.jit, static_argnums=(0, 1))
def gauss_newton(output, loss, y):
    flat, unravel = jax.flatten_util.ravel_pytree(y)
    out = lambda v: output(unravel(v), None)
    jacobian = jax.jacobian(out)(flat).reshape(-1, flat.size)
    z = out(flat)
    hessian = jax.hessian(lambda v: loss(v.reshape(z.shape), None))(z.ravel())
    return jacobian.T @ hessian @ jacobian


@pytest.mark.parametrize(
    "loss, where",
    [
        (cross_entropy, "tag"),
        (squares, "jit"),
        (cross_entropy, "remat"),
        *(
            pytest.param(loss, where, marks=pytest.mark.slow)
            for loss, where in (
                (squares, "tag"),
                (cross_entropy, "jit"),
                (squares, "remat"),
                (cross_entropy, "composite"),
                (squares, "composite"),
            )
        ),
    ],
)
def test_it_is_the_generalised_gauss_newton_matrix(loss, where, x64):
    y, output = network()
    y = jax.tree.map(lambda a: a.astype(float), y)
    fn = {
        "composite": curvopt.CompositeLoss(output, loss),
        "tag": lambda y, a: loss(curvopt.tag_output(output(y, a)), a),
        "jit": lambda y, a: loss(jax.jit(lambda y: curvopt.tag_output(output(y, a)))(y), a),
        "remat": lambda y, a: loss(
            curvopt.tag_output(jax.checkpoint(lambda y: output(y, a))(y)), a
        ),
    }[where]
    matrix, u = gauss_newton(output, loss, y), random_like(y)
    row = jax.flatten_util.ravel_pytree(u)[0]

    @jax.jit
    def run(y, u):
        exact = curvopt.quadratic_model(fn, y)
        model = curvopt.quadratic_model(fn, y, None, curvopt.GaussNewtonCurvature())
        same = (model.value - exact.value, model.slope(u) - exact.slope(u))
        return same, model.curvature(u), model.curvature_matrix([u, y]), exact.curvature(u)

    same, curvature, pair, exact = run(y, u)
    np.testing.assert_allclose(same, 0, atol=1e-12)
    np.testing.assert_allclose(curvature, row @ matrix @ row, rtol=1e-10)
    flat = jnp.stack([row, jax.flatten_util.ravel_pytree(y)[0]])
    np.testing.assert_allclose(pair, flat @ matrix @ flat.T, rtol=1e-8)
    assert abs(exact - curvature) > 1e-3 * abs(curvature), "the model is not linear"


def test_output_in_a_loop_and_weight_decay(x64):
    """A recurrent network that puts out at every step; what the loss adds beside the
    output enters in full."""
    w = {
        "a": 0.4 * jr.normal(jr.key(0), (3, 3), float),
        "c": jr.normal(jr.key(1), (3,), float),
    }
    xs = jr.normal(jr.key(2), (5, 3), float)

    def states(w, tag):
        def step(h, x):
            h = jnp.tanh(w["a"] @ h + x)
            return h, tag(w["c"] @ h)

        return jax.lax.scan(step, jnp.zeros(3), xs)[1]

    loss = lambda z: jnp.sum(jnp.cosh(z))
    decay = lambda w: 0.1 * curvopt.tree_dot(w, w)
    fn = lambda w, _: loss(states(w, curvopt.tag_output)) + decay(w)
    matrix = gauss_newton(
        lambda w, _: states(w, lambda z: z), lambda z, _: loss(z), w
    ) + 0.2 * jnp.eye(12)
    u = random_like(w)
    row = jax.flatten_util.ravel_pytree(u)[0]
    method = curvopt.GaussNewtonCurvature()
    along = jax.jit(lambda w, u: curvopt.quadratic_model(fn, w, None, method).curvature(u))
    np.testing.assert_allclose(along(w, u), row @ matrix @ row, rtol=1e-10)


def test_it_survives_a_solver():
    """Optimistix rebuilds the loss; the tag is still there. A negative curvature of the
    loss itself would be met at the start."""
    fn = curvopt.CompositeLoss(
        lambda y, _: jnp.stack([y**2, y]), lambda z, _: jnp.sum(z**2)
    )
    solver = curvopt.LineSearchMinimiser(
        SGD(), CurvatureRescaling(), curvature=curvopt.GaussNewtonCurvature()
    )
    solution = optx.minimise(fn, solver, jnp.array(0.7))
    assert abs(solution.value) < 1e-2


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, _: jnp.sum(y**2),
        lambda y, _: (curvopt.tag_output(y), jnp.sum(y**2))[1],
        lambda y, _: jnp.sum(curvopt.tag_output(jnp.ones(2)) * y**2),
    ],
    ids=["no tag", "result dropped", "constant"],
)
def test_a_tag_that_cuts_nothing_is_refused(loss):
    """Guards against the exact curvature in the name of Gauss-Newton."""
    with pytest.raises(ValueError, match=r"curvopt.tag_output.*curvopt.CompositeLoss"):
        curvopt.quadratic_model(loss, jnp.ones(2), None, curvopt.GaussNewtonCurvature())


def test_a_model_is_no_output():
    with pytest.raises(ValueError, match="Tag the model's output, not the model"):
        curvopt.tag_output(eqx.nn.MLP(2, 1, 3, 1, key=jr.key(0)))


def test_cost_is_that_of_a_tangent_sweep():
    """XLA's FLOPs: no second tangents through the model."""
    params, static = eqx.partition(
        eqx.nn.MLP(64, 10, 256, 3, jax.nn.gelu, key=jr.key(0)), eqx.is_inexact_array
    )
    x = jnp.ones((128, 64))
    output = lambda p, _: jax.vmap(eqx.combine(p, static))(x)
    fn = curvopt.CompositeLoss(output, lambda z, _: jnp.mean(z**2))

    def curvature(p):
        model = curvopt.quadratic_model(fn, p, None, curvopt.GaussNewtonCurvature())
        return model.value, model.grad, model.curvature(p)

    def tangent(p):
        along = jax.jvp(lambda p: output(p, None), (p,), (p,))[1]
        return jax.value_and_grad(lambda p: fn(p, None))(p), jnp.mean(along**2)

    flops = lambda f: curvopt.cost.compile_and_analyse(f, params).flops
    assert flops(curvature) <= 1.02 * flops(tangent)
