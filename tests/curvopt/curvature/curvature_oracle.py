"""The oracle for curvature is the dense Hessian in float64."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import curvopt


EXACT = [
    curvopt.AdjointCurvature(),
    curvopt.ForwardCurvature(),
    curvopt.HvpCurvature(),
]
METHODS = [*EXACT, curvopt.FiniteDifferenceCurvature()]
# Those that go through a loss equation by equation.
BY_EQUATION = [
    curvopt.AdjointCurvature(products="two"),
    curvopt.AdjointCurvature(products="three"),
    curvopt.ForwardCurvature(products="two"),
]


def name(method):
    products = getattr(method, "products", "auto")
    return type(method).__name__ + ("" if products == "auto" else f"-{products}")


def tolerance(method):
    return 1e-4 if isinstance(method, curvopt.FiniteDifferenceCurvature) else 1e-10


def dense_hessian(fn, y):
    """H written out, for the parameters in one row."""
    flat, unravel = jax.flatten_util.ravel_pytree(y)
    hessian = jax.hessian(lambda v: fn(unravel(v)))
    return jax.jit(hessian)(flat)


def random_like(y, seed=7):
    leaves, treedef = jax.tree.flatten(y)
    keys = jr.split(jr.key(seed), len(leaves))
    draw = lambda k, x: jr.normal(k, x.shape, x.dtype)
    return jax.tree.unflatten(treedef, [draw(k, x) for k, x in zip(keys, leaves)])


def check(fn, y, methods=METHODS):
    """Value, gradient, slope and curvature of all methods against jax and the oracle."""
    value, grad = jax.jit(jax.value_and_grad(fn))(y)
    hessian = dense_hessian(fn, y)
    directions = [jax.tree.map(jnp.negative, grad), random_like(y)]
    for method in methods:

        @jax.jit
        def run(y, directions, method=method):
            model = curvopt.quadratic_model(lambda y, _: fn(y), y, curvature=method)
            slopes = [model.slope(u) for u in directions]
            return (
                model.value,
                model.grad,
                slopes,
                [model.curvature(u) for u in directions],
            )

        got_value, got_grad, slopes, curvatures = run(y, directions)
        np.testing.assert_allclose(got_value, value, rtol=1e-12, err_msg=name(method))
        for a, b in zip(jax.tree.leaves(got_grad), jax.tree.leaves(grad), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        for u, slope, curvature in zip(directions, slopes, curvatures):
            rtol, row = tolerance(method), jax.flatten_util.ravel_pytree(u)[0]
            expected = row @ hessian @ row
            scale = abs(float(expected)) + 1e-12
            np.testing.assert_allclose(slope, curvopt.tree_dot(grad, u), rtol=1e-9)
            np.testing.assert_allclose(
                curvature, expected, rtol=rtol, atol=rtol * scale, err_msg=name(method)
            )
            assert curvature.shape == () and curvature.dtype == jnp.float64


def check_along(fn, y, methods=BY_EQUATION, rtol=1e-9):
    """The curvature along one direction against a Hessian-vector product, in one
    compilation: for losses whose gradient is tested elsewhere."""

    @jax.jit
    def run(y, u):
        product = jax.jvp(jax.grad(fn), (y,), (u,))[1]
        models = [
            curvopt.quadratic_model(lambda y, _: fn(y), y, curvature=method)
            for method in methods
        ]
        return curvopt.tree_dot(product, u), [model.curvature(u) for model in models]

    expected, curvatures = run(y, random_like(y))
    assert abs(float(expected)) > 1e-6, "a curvature of zero shows nothing"
    for method, curvature in zip(methods, curvatures, strict=True):
        np.testing.assert_allclose(curvature, expected, rtol=rtol, err_msg=name(method))
