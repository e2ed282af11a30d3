"""Rules for primitives of a user's own."""

import jax
import jax.extend.core as jex
import jax.interpreters.ad as ad
import jax.interpreters.mlir as mlir
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt
from curvopt._curvature import _rules


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    monkeypatch.setattr(_rules, "_TABLE", dict(_rules._TABLE))


def primitive(name, fn):
    """A primitive that jax can evaluate and compile; its derivatives are the test's."""
    own = jex.Primitive(name)
    own.def_impl(fn)
    own.def_abstract_eval(lambda *a: jax.core.ShapedArray(a[0].shape, a[0].dtype))
    mlir.register_lowering(own, mlir.lower_fun(fn, multiple_results=False))
    return own


def stencil(name):
    """Linear in its operand."""
    own = primitive(name, lambda x: jnp.roll(x, 1) - x)
    ad.deflinear2(own, lambda ct, x: [jnp.roll(ct, -1) - ct])
    return own


def pointwise(name):
    """Linear in each of two operands."""
    own = primitive(name, lambda a, b: a * b)
    ad.defbilinear(own, lambda ct, a, b: own.bind(ct, b), lambda ct, a, b: own.bind(a, ct))
    return own


def quotient(name):
    """Linear in its first operand alone."""
    own = primitive(name, lambda a, b: a / b)
    over = lambda g, a, b: own.bind(g, b)
    ad.defjvp(own, over, lambda g, a, b: -own.bind(a * g, b * b))
    ad.primitive_transposes[own] = lambda ct, a, b: [own.bind(ct, b), None]
    return own


Y, U = jnp.array([0.3, -1.0, 2.0]), jnp.array([1.0, 0.5, -2.0])
ROW = jnp.array([2.0, 3.0, 4.0])
CASES = {
    "linear": (stencil, lambda p: lambda y: p.bind(jnp.sin(y)), None),
    "bilinear": (pointwise, lambda p: lambda y: p.bind(jnp.sin(y), jnp.cos(y)), None),
    "linear in one": (quotient, lambda p: lambda y: p.bind(jnp.sin(y), ROW), 0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", [curvopt.AdjointCurvature(), curvopt.ForwardCurvature()])
def test_a_rule_of_a_users_own(case, method, x64):
    """The report names it, and the curvature is what the generic rule says."""
    make, use, operand = CASES[case]
    own, rule = make("my_" + case.replace(" ", "_")), case.split()[0]
    y, u = jnp.asarray(Y, jnp.float64), jnp.asarray(U, jnp.float64)

    def expand():
        loss = lambda y, _: jnp.sum(use(own)(y) ** 3)
        model = curvopt.quadratic_model(loss, y, curvature=method)
        (label,) = [e.rule for e in model.report().equations if e.primitive == own.name]
        return label, float(model.curvature(u))

    before, generic = expand()
    curvopt.register_rule(own, rule, operand)
    after, special = expand()
    assert (before, after) == ("generic", rule)
    np.testing.assert_allclose(special, generic, rtol=1e-12)


def test_the_same_again_is_no_error():
    """A cell of a notebook is run twice."""
    for _ in range(2):
        curvopt.register_rule(stencil("my_stencil"), "linear")


def test_what_is_refused(unchecked):
    with pytest.raises(ValueError, match=r"'mul' already has another rule, 'bilinear'"):
        curvopt.register_rule(jax.lax.mul_p, "linear")
    with pytest.raises(ValueError, match="rule must be one of 'linear', 'bilinear'"):
        curvopt.register_rule(stencil("other"), "quadratic")
    with pytest.raises(ValueError, match="operand must be None for a bilinear"):
        curvopt.register_rule(pointwise("another"), "bilinear", 1)
