"""A curvature method of a user's own has all that it did not write from the base."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Scalar

import curvopt
from strategies import BacktrackingArmijo, CurvatureRescaling, SGD


class Secant(curvopt.AbstractCurvatureMethod):
    """The example of the documentation."""

    h: float = 1e-3

    def model(self, fn, y, args):
        gradient = jax.grad(lambda y: fn(y, args)[0])

        def curvature(u):
            slope_at = lambda t: curvopt.tree_dot(
                gradient(jax.tree.map(lambda y, u: y + t * u, y, u)), u
            )
            return (slope_at(self.h) - slope_at(-self.h)) / (2 * self.h)

        return curvopt.QuadraticModel.of_loss(fn, y, args, curvature=curvature)


class Diagonal(curvopt.AbstractCurvatureMethod):
    """As little as a model can be made of: a gradient and a curvature."""

    def model(self, fn, y, args):
        grad = jax.grad(lambda y: fn(y, args)[0])(y)
        return curvopt.QuadraticModel(
            grad=grad, curvature=lambda u: 2 * curvopt.tree_dot(u, u)
        )


def loss(y, args):
    return jnp.sum(y["a"] ** 4) + args * y["a"][0] * y["b"], {"seen": y["b"]}


Y = {"a": jnp.array([0.5, -1.0, 2.0]), "b": jnp.array(3.0)}
U = {"a": jnp.array([1.0, 0.0, -1.0]), "b": jnp.array(2.0)}
W = {"a": jnp.array([0.0, 1.0, 1.0]), "b": jnp.array(-1.0)}


def test_what_is_not_written_is_had_from_the_base(x64):
    y, u, w = jax.tree.map(lambda x: x.astype(jnp.float64), (Y, U, W))
    reports = []

    def measured(method, y, u, w):
        model = curvopt.quadratic_model(loss, y, 2.0, curvature=method, has_aux=True)
        reports.append(model.report())
        first = model.value, model.aux, model.loss(u), model.grad, model.slope(u)
        return first, (model.curvature(u), model.curvature_matrix([u, w]))

    methods = Secant(), curvopt.AdjointCurvature()
    own, exact = (jax.jit(partial(measured, method))(y, u, w) for method in methods)
    for a, b, rtol in zip(own, exact, (1e-12, 1e-5)):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol), a, b)
    report = reports[0]
    assert report.equations == () and str(report).startswith("The loss as a")


def test_the_base_checks_and_casts_directions():
    model = curvopt.quadratic_model(loss, Y, 2.0, curvature=Secant(), has_aux=True)
    with pytest.raises(ValueError, match="structure of the parameters"):
        model.curvature(U["a"])
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), U)
    assert model.curvature(half).dtype == jnp.float32


@pytest.mark.parametrize("rule", [CurvatureRescaling(), BacktrackingArmijo()])
def test_a_solver_takes_it(rule, x64):
    import optimistix as optx

    solver = curvopt.LineSearchMinimiser(SGD(), rule, curvature=Secant())
    fn = lambda y, _: jnp.sum((y - 1) ** 2 * jnp.array([1.0, 3.0]))
    found = optx.minimise(fn, solver, jnp.zeros(2), max_steps=200, throw=False)
    np.testing.assert_allclose(found.value, 1, atol=1e-4)


def test_what_is_not_measured():
    """A value that was not measured is nan; a loss that is not known is no zero."""
    fn = lambda y, _: jnp.sum(y**2)
    model = curvopt.quadratic_model(fn, jnp.ones(3), curvature=Diagonal())
    assert isinstance(model.value, Scalar) and jnp.isnan(model.value)
    assert model.aux is None
    assert model.slope(jnp.ones(3)) == 6 and model.curvature(jnp.ones(3)) == 6
    with pytest.raises(ValueError, match=r"at one point only.*loss=\.\.\."):
        model.loss(jnp.zeros(3))


@pytest.mark.parametrize(
    "method",
    [
        curvopt.AdjointCurvature(),
        curvopt.ForwardCurvature(),
        curvopt.HvpCurvature(),
        curvopt.GaussNewtonCurvature(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_products(method, x64):
    """Against the dense matrix: the Hessian, or that of Gauss and Newton."""
    y, u = jnp.array([0.3, -0.7, 1.1]), jnp.array([1.0, 2.0, -0.5])
    output = lambda y: jnp.stack([jnp.sin(y[0] * y[1]), y[1] * y[2], jnp.exp(y[0])])
    loss = lambda y, _: jnp.sum(jnp.cosh(curvopt.tag_output(output(y))))
    is_exact = not isinstance(method, curvopt.GaussNewtonCurvature)

    @jax.jit
    def run(y, u):
        model = curvopt.quadratic_model(loss, y, curvature=method)
        with pytest.raises(ValueError, match="shape"):
            model.product(u[:2])
        jacobian = jax.jacobian(output)(y)
        gauss_newton = jacobian.T @ jnp.diag(jnp.cosh(output(y))) @ jacobian
        matrix = jax.hessian(loss)(y, None) if is_exact else gauss_newton
        return model.product(u), matrix @ u, model.curvature(u)

    product, expected, curvature = run(y, u)
    np.testing.assert_allclose(product, expected, rtol=1e-9)
    np.testing.assert_allclose(np.dot(u, product), curvature, rtol=1e-9)
