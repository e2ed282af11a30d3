"""jax's new custom rules and its new `checkpoint`: one primitive, `call_hi_primitive`, with
the rules of what it stands for."""

import functools

import jax
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt
from curvopt import CompositeLoss, GaussNewtonCurvature, HvpCurvature, tag_output


FLAGS = ["jax_custom_jvp3", "jax_custom_vjp3", "jax_remat3"]
Y, U = np.array([0.5, -1.0, 2.0]), np.array([0.3, -0.2, 1.0])


@pytest.fixture(autouse=True)
def high_level(x64):
    """All of the flags that this jax has."""
    flags = [flag for flag in FLAGS if hasattr(jax.config, flag)]
    for flag in flags:
        jax.config.update(flag, True)
    yield
    for flag in flags:
        jax.config.update(flag, False)


def plain(x):
    return x * jnp.sin(x)


def slope(x):
    return jnp.sin(x) + x * jnp.cos(x)


def with_jvp():
    own = jax.custom_jvp(plain)
    own.defjvp(lambda x, dx: (own(*x), slope(*x) * dx[0]))
    return own


def with_vjp():
    own = jax.custom_vjp(plain)
    own.defvjp(lambda x: (own(x), x), lambda x, adjoint: (adjoint * slope(x),))
    return own


RULES = {"jvp": with_jvp, "vjp": with_vjp, "checkpoint": lambda: jax.checkpoint(plain)}
PLACES = {
    "itself": lambda f, y: f(y),
    "jit": lambda f, y: jax.jit(f)(y),
    "vmap": lambda f, y: jax.vmap(f)(y),
    "scan": lambda f, y: lax.scan(lambda c, x: (f(c) * x + c, f(x)), 1.0, y)[1],
    "branch": lambda f, y: lax.cond(y[0] > 0, f, jnp.cos, y),
    "checkpoint": lambda f, y: jax.checkpoint(lambda y: f(y) ** 2)(y),
}


def expand(loss, method):
    def run(y, u):
        model = curvopt.quadratic_model(lambda y, _: loss(y), y, curvature=method)
        return model.grad, model.curvature(u)

    return jax.jit(run)(jnp.asarray(Y), jnp.asarray(U))


def loss_of(place, rule):
    return lambda y: jnp.sum(PLACES[place](rule, y) ** 3)


@functools.cache
def expected(place):
    return expand(loss_of(place, plain), HvpCurvature())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rule", RULES)
def test_it_is_exact_or_refused(rule, place):
    loss = loss_of(place, RULES[rule]())
    for method in (curvopt.AdjointCurvature(), curvopt.ForwardCurvature()):
        if rule == "vjp" and isinstance(method, curvopt.ForwardCurvature):
            with pytest.raises(TypeError, match="custom_vjp.*AdjointCurvature"):
                expand(loss, method)
            continue
        for got, right in zip(expand(loss, method), expected(place), strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-9, err_msg=str(method))


@pytest.mark.parametrize(
    "place, rule",
    [
        ("scan", "jvp"),
        ("itself", "vjp"),
        ("checkpoint", "vjp"),
        ("branch", "checkpoint"),
        *(
            pytest.param(place, rule, marks=pytest.mark.slow)
            for place, rule in (
                ("itself", "jvp"),
                ("branch", "jvp"),
                ("checkpoint", "jvp"),
                ("scan", "vjp"),
                ("branch", "vjp"),
                ("itself", "checkpoint"),
                ("scan", "checkpoint"),
                ("checkpoint", "checkpoint"),
            )
        ),
    ],
)
def test_the_matrix_is_exact(rule, place):
    def matrix(rule, method):
        loss = lambda y, _: loss_of(place, rule)(y)
        model = lambda y: curvopt.quadratic_model(loss, y, curvature=method)
        return jax.jit(lambda y, u: model(y).curvature_matrix([u, y]))(Y, U)

    got = matrix(RULES[rule](), curvopt.AdjointCurvature())
    np.testing.assert_allclose(got, matrix(plain, HvpCurvature()), rtol=1e-9)


def test_a_backward_rule_that_clips():
    """Where the gradient is no derivative of the loss, that of the gradient counts."""
    clipped = jax.custom_vjp(lambda x: x)
    clipped.defvjp(lambda x: (x, None), lambda _, z: (jnp.clip(z, -1.5, 1.5),))
    model = expand(lambda y: jnp.sum(clipped(y) ** 2), curvopt.AdjointCurvature())
    np.testing.assert_allclose(model[0], [1.0, -1.5, 1.5])
    np.testing.assert_allclose(model[1], 2 * U[0] ** 2)


def test_what_is_inside_is_told():
    model = lambda loss: curvopt.quadratic_model(lambda y, _: loss(y), jnp.asarray(Y))
    told = [e.rule for e in model(loss_of("itself", with_vjp())).report().equations]
    assert told[0] == "reverse over reverse"
    told = [e.rule for e in model(loss_of("checkpoint", with_jvp())).report().equations]
    assert told[:2] == ["remat", "elementwise"]


def test_a_tag_is_seen():
    output, loss = lambda y, _: jnp.tanh(y) * y, lambda z, _: jnp.sum(z**4)
    tagged = lambda y: loss(tag_output(output(y, None)), None)
    composite = CompositeLoss(output, loss)
    expected = expand(lambda y: composite(y, None), GaussNewtonCurvature())
    got = expand(tagged, GaussNewtonCurvature())
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12)
