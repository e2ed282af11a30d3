"""Losses with effects: a `jax.Ref` is followed or refused, wherever it is; what only looks
on, as a print does, changes nothing."""

import jax
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt


SWEEPS = [curvopt.AdjointCurvature(), curvopt.ForwardCurvature()]
OF_JAX = [curvopt.HvpCurvature(), curvopt.FiniteDifferenceCurvature()]
Y = jnp.array([0.5, -1.0, 2.0])


def fourth(x):
    """x^4, by way of a ref."""
    ref = jax.new_ref(jnp.zeros_like(x))
    ref[...] = x**2
    return ref[...] ** 2


def running(y):
    ref = jax.new_ref(jnp.zeros(()))

    def body(total, x):
        ref[...] += x * total
        return total + ref[...] ** 2, None

    return lax.scan(body, jnp.ones(()), y)[0]


def branch(y):
    ref = jax.new_ref(y)

    def square():
        ref[...] = y**2

    lax.cond(y[0] > 0, square, lambda: None)
    return jnp.sum(ref[...] ** 2)


with_rule = jax.custom_jvp(fourth)
with_rule.defjvp(lambda x, dx: (x[0] ** 4, 4 * x[0] ** 3 * dx[0]))


@jax.custom_vjp
def product(a, b):
    return a**2 * b, a * b**2


def pulled_back(kept, adjoint):
    (a, b), (p, q) = kept, adjoint
    ref = jax.new_ref(jnp.zeros_like(a))
    ref[...] = 2 * a * b * p + b**2 * q
    return ref[...], a**2 * p + 2 * a * b * q


product.defvjp(lambda a, b: (product(a, b), (a, b)), pulled_back)


@jax.custom_vjp
def scanned(x):
    return x**4


def pulled_back_in_a_scan(x, adjoint):
    def body(_, x):
        ref = jax.new_ref(x)
        ref[...] = 4 * ref[...] ** 3
        return None, ref[...]

    return (lax.scan(body, None, x)[1] * adjoint,)


scanned.defvjp(lambda x: (x**4, x), pulled_back_in_a_scan)

OUTSIDE = jax.new_ref(jnp.ones(3))
LOSSES = {
    "plain": lambda y: jnp.sum(fourth(y)),
    "jit": lambda y: jnp.sum(jax.jit(fourth)(y)),
    "vmap": lambda y: jnp.sum(jax.vmap(fourth)(y)),
    "scan over a ref": running,
    "cond on a ref": branch,
    "branch": lambda y: lax.cond(y[0] > 0, lambda: jnp.sum(fourth(y)), lambda: 0.0),
    "custom_jvp": lambda y: jnp.sum(with_rule(y)),
    "from outside": lambda y: jnp.sum(OUTSIDE[...] * y**2),
}
# Of these jax's own reverse mode gives zeros.
IN_SCANS = {
    "scan": lambda y: lax.scan(lambda c, x: (c + fourth(x * c), None), 1.0, y)[0],
    "map": lambda y: jnp.sum(lax.map(fourth, y)),
    "jit in scan": lambda y: jnp.sum(lax.map(jax.jit(fourth), y)),
    "branch in scan": lambda y: jnp.sum(
        lax.map(lambda x: lax.cond(x > 0, fourth, jnp.sin, x), y)
    ),
    "scan in remat": lambda y: jnp.sum(jax.checkpoint(lambda y: lax.map(fourth, y))(y)),
}


def expand(loss, method):
    def run(y):
        model = curvopt.quadratic_model(lambda y, _: loss(y), y, curvature=method)
        return model.grad, model.curvature(jnp.ones(3))

    return run


@pytest.mark.parametrize("how", [jax.jit, lambda f: f], ids=["jit", "eager"])
@pytest.mark.parametrize("method", SWEEPS)
@pytest.mark.parametrize("name", LOSSES)
def test_sweeps_refuse_a_ref_by_its_line(name, method, how):
    with pytest.raises(TypeError, match=r"jax.Ref, Ref\{.*test_refs.py.*HvpCurvature"):
        how(expand(LOSSES[name], method))(Y)


@pytest.mark.parametrize("method", [*SWEEPS, *OF_JAX])
@pytest.mark.parametrize("name", IN_SCANS)
def test_all_methods_refuse_a_ref_that_a_scan_makes(name, method):
    with pytest.raises(TypeError, match=r"test_refs.py.*body of a scan"):
        jax.jit(expand(IN_SCANS[name], method))(Y)


@pytest.mark.parametrize("method", OF_JAX)
def test_methods_of_jax_follow_a_ref(method):
    grad, curvature = jax.jit(expand(LOSSES["plain"], method))(Y)
    np.testing.assert_allclose(grad, 4 * Y**3, rtol=1e-5)
    np.testing.assert_allclose(curvature, jnp.sum(12 * Y**2), rtol=1e-2)


def test_ref_in_a_backward_rule():
    """It passes through no variable from adjoints to adjoints, and counts all the same."""
    loss = lambda y: sum(product(y[0] * y[1], y[2]))
    plain = lambda y: (y[0] * y[1]) ** 2 * y[2] + y[0] * y[1] * y[2] ** 2
    grad, curvature = jax.jit(expand(loss, curvopt.AdjointCurvature()))(Y)
    expected, matrix = (jax.jit(of(plain))(Y) for of in (jax.grad, jax.hessian))
    np.testing.assert_allclose(grad, expected, rtol=1e-5)
    np.testing.assert_allclose(curvature, np.sum(matrix), rtol=1e-5)


def test_ref_in_the_scan_of_a_backward_rule():
    with pytest.raises(TypeError, match="body of a scan"):
        expand(lambda y: jnp.sum(scanned(y)), curvopt.AdjointCurvature())(Y)


@pytest.mark.parametrize("method", [*SWEEPS, *OF_JAX])
def test_other_effects_are_kept(method, capfd):
    seen = []

    def loss(y):
        jax.debug.print("norm {}", jnp.sum(y**2))
        jax.debug.callback(seen.append, y[0])

        def body(total, x):
            jax.experimental.io_callback(seen.append, None, lax.stop_gradient(x))
            return total + x**4, None

        return lax.scan(body, 0.0, y)[0]

    grad, curvature = jax.jit(expand(loss, method))(Y)
    np.testing.assert_allclose(grad, 4 * Y**3, rtol=1e-5)
    np.testing.assert_allclose(curvature, jnp.sum(12 * Y**2), rtol=2e-2)
    jax.effects_barrier()
    assert "norm 5.25" in capfd.readouterr().out
    assert 0.5 in [float(x) for x in seen]
    if method in SWEEPS:  # jax's reverse mode leaves out what a scan's body tells
        assert 2.0 in [float(x) for x in seen]
