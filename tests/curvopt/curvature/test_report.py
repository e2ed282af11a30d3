"""What a model tells of how it is differentiated, and how it refuses."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt


HERE = pathlib.Path(__file__).name
FORWARD = curvopt.ForwardCurvature()
BY_EQUATION = [curvopt.AdjointCurvature(), FORWARD]
Y = jnp.linspace(0.1, 0.9, 9).reshape(3, 3)


def model_of(fn, y=Y, method=curvopt.AdjointCurvature()):
    return curvopt.quadratic_model(lambda y, _: fn(y), y, curvature=method)


def rules(fn, y=Y, method=curvopt.AdjointCurvature()):
    """Primitive and rule of each equation, which must all know where they come from."""
    lines = model_of(fn, y, method).report().equations
    for line in lines:
        assert HERE in line.source, line
    return [(line.primitive, line.rule) for line in lines]


@pytest.mark.parametrize("products", ["two", "three"])
@pytest.mark.parametrize("method", [curvopt.AdjointCurvature, curvopt.ForwardCurvature])
def test_mlp(method, products):
    weights = [jnp.ones((4, 4)), jnp.ones((4, 2))]
    fn = lambda w: jnp.sum(jnp.sin(jnp.tanh(jnp.ones((3, 4)) @ w[0]) @ w[1]))
    assert rules(fn, weights, method(products=products)) == [
        ("dot_general", "linear"),
        ("tanh", "elementwise"),
        ("dot_general", f"bilinear, {products} products"),
        ("sin", "elementwise"),
        ("reduce_sum", "linear"),
    ]


def test_scan_is_followed_by_its_body():
    def fn(y):
        h, _ = jax.lax.scan(lambda h, _: (jnp.tanh(h @ y), None), y, length=3)
        return jnp.sum(h)

    assert rules(fn) == [
        ("scan", "scan"),
        ("dot_general", "bilinear, three products"),
        ("tanh", "elementwise"),
        ("reduce_sum", "linear"),
    ]


def test_remat_is_followed_by_its_body():
    inside = jax.checkpoint(lambda a: jnp.exp(a * a))
    assert rules(lambda y: jnp.sum(inside(y @ Y))) == [
        ("dot_general", "linear"),
        ("checkpoint", "remat"),
        ("mul, exp", "elementwise"),
        ("reduce_sum", "linear"),
    ]


@jax.custom_vjp
def backward_rule(x):
    return jnp.sin(x)


backward_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def test_other_rules():
    assert rules(lambda y: jnp.sum(backward_rule(y))) == [
        ("custom_vjp_call", "reverse over reverse"),
        ("reduce_sum", "linear"),
    ]
    assert rules(lambda y: jnp.prod(y)) == [("reduce_prod", "generic")]


def test_equations_that_the_loss_does_not_need_are_left_out():
    fn = lambda y, _: (jnp.sum(y), jnp.exp(y))
    model = curvopt.quadratic_model(fn, Y, has_aux=True)
    assert [line.primitive for line in model.report().equations] == ["reduce_sum"]


@pytest.mark.parametrize("method", [curvopt.HvpCurvature(), FORWARD])
def test_printing(method):
    text = str(model_of(lambda y: jnp.sum(jnp.sin(y)) + jnp.sum(y), method=method).report())
    first, *rest = text.splitlines()
    if method is FORWARD:
        assert first == "4 equations:" and len(rest) == 5
        assert rest[0].split() == ["count", "primitive", "rule", "source"]
        assert rest[1].split()[:3] == ["1", "sin", "elementwise"]
    else:
        assert first.startswith("The loss as a whole") and not rest
        assert model_of(jnp.sum, method=method).report().equations == ()


def test_equal_equations_are_printed_once():
    def fn(y):
        for _ in range(3):
            y = jnp.flip(jnp.cos(y), 0)
        return jnp.sum(y)

    text = str(model_of(fn).report())
    assert "7 equations" in text and len(text.splitlines()) == 5
    assert "\n3      cos  " in text


@pytest.mark.parametrize(
    "fn",
    [
        jax.nn.log_sigmoid,
        jax.nn.softmax,
        lambda y: jnp.linalg.inv(y + jnp.eye(3)),
        jax.vmap(lambda row: jnp.interp(row, Y[0], row)),
        jax.checkpoint(jax.nn.gelu),
    ],
)
def test_source_inside_functions_of_jax_is_the_line_that_calls_them(fn):
    lines = model_of(lambda y: jnp.sum(fn(y))).report().equations
    assert len(lines) > 1
    assert all(HERE in line.source for line in lines)


def unbounded(y):
    return jnp.sum(jax.lax.while_loop(lambda h: jnp.sum(h) < 99, lambda h: 2 * h, y))


def unbounded_in_a_loop(y):
    return jax.lax.scan(lambda h, _: (unbounded(h * y), None), 1.0, length=2)[0]


def callback(y):
    struct = jax.ShapeDtypeStruct(y.shape, y.dtype)
    return jnp.sum(jax.pure_callback(np.sin, struct, y))


def no_derivative(y):
    return jnp.sum(jax.lax.igamma(y, y))


REFUSED = {
    unbounded: ("while", "fori_loop with Python integers as bounds"),
    unbounded_in_a_loop: ("while", "fori_loop with Python integers as bounds"),
    callback: ("pure_callback", "custom_jvp"),
    no_derivative: ("igamma", "differentiates in reverse and twice forward"),
}


@pytest.mark.parametrize("fn", REFUSED, ids=lambda fn: fn.__name__)
@pytest.mark.parametrize("method", BY_EQUATION)
def test_what_cannot_be_differentiated_is_named(fn, method):
    primitive, remedy = REFUSED[fn]
    pattern = rf"`{primitive}` \(.*{HERE}.*\).*{remedy}.*jax\.lax\.stop_gradient"
    with pytest.raises(TypeError, match=pattern):
        model_of(fn, method=method).curvature(Y)


@pytest.mark.parametrize("fn", REFUSED, ids=lambda fn: fn.__name__)
def test_the_remedy_of_keeping_parameters_out_works(fn):
    kept_out = lambda y: fn(jax.lax.stop_gradient(y)) * jnp.sum(y**2)
    model = model_of(kept_out)
    np.testing.assert_allclose(model.curvature(Y), 2 * model.value, rtol=1e-5)


def test_forward_mode_refuses_a_backward_rule():
    model = model_of(lambda y: jnp.sum(backward_rule(y) ** 2), method=FORWARD)
    pattern = rf"`custom_vjp_call` \(.*{HERE}.*\).*curvature=curvopt\.AdjointCurvature\(\)"
    with pytest.raises(TypeError, match=pattern):
        model.curvature(Y)
