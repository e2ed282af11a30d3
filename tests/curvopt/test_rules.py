"""Every special rule of the third sweep against the generic one."""

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from curvopt import _compat
from curvopt._curvature import _rules


X = (2, 3)
EXAMPLES = {
    "add": lambda a: a[0] + a[1],
    "broadcast_in_dim": lambda a: lax.broadcast(a[0], (4,)),
    "complex": lambda a: lax.complex(a[0], a[1]),
    "concatenate": lambda a: jnp.concatenate([a[0], a[1]]),
    "conv_general_dilated": lambda a: lax.conv(
        a.reshape(1, 2, 3, 1), a.reshape(3, 2, 1, 1), (1, 1), "SAME"
    ),
    "convert_element_type": lambda a: a.astype(jnp.bfloat16),
    "copy": lambda a: lax.copy_p.bind(a),
    "cumsum": lambda a: jnp.cumsum(a, axis=1),
    "dot_general": lambda a: a @ a.T,
    "dynamic_slice": lambda a: lax.dynamic_slice(a, (0, 1), (1, 2)),
    "gather": lambda a: a[jnp.array([1, 1, 0])],
    "imag": lambda a: lax.imag(lax.complex(a[0], a[1])),
    "mul": lambda a: a[0] * a[1],
    "neg": lambda a: -a,
    "pad": lambda a: lax.pad(a, a[0, 0], ((1, 0, 0), (0, 2, 1))),
    "real": lambda a: lax.real(lax.complex(a[0], a[1])),
    "reduce_sum": lambda a: jnp.sum(a, axis=0),
    "reshape": lambda a: a.reshape(3, 2),
    "rev": lambda a: lax.rev(a, (0,)),
    "select_n": lambda a: jnp.where(jnp.array([True, False, True]), a[0], a[1]),
    "slice": lambda a: a[:, 1:],
    "split": lambda a: lax.split(a, (1, 2), axis=1),
    "squeeze": lambda a: lax.squeeze(a[:1], (0,)),
    "sub": lambda a: a[0] - a[1],
    "transpose": lambda a: a.T,
    "div": lambda a: a / jnp.array([2.0, 3.0, 4.0]),
}


def test_every_rule_of_the_table_has_an_example():
    """`add_any` is `add` as jax's own transformations write it."""
    assert (_rules._LINEAR | _rules._BILINEAR) - {"add_any"} <= EXAMPLES.keys()


def _equations(fn):
    jaxpr, _ = _compat.open_jaxpr(jax.make_jaxpr(fn)(jnp.ones(X)))
    found = []

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            inner = _compat.inlined(eqn)
            if inner is None:
                found.append(eqn)
            else:
                walk(_compat.open_jaxpr(inner)[0])

    walk(jaxpr)
    return found


def _names(fn):
    return {eqn.primitive.name for eqn in _equations(fn)}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_special_rules_agree_with_the_generic_one(name, x64):
    equations = [e for e in _equations(EXAMPLES[name]) if e.primitive.name == name]
    assert equations, f"the example does not use {name}"
    for eqn in equations:
        keys = iter(jr.split(jr.key(0), 20))
        operands, active = [], []
        for k, atom in enumerate(eqn.invars):
            if _compat.is_literal(atom):
                operands.append(atom.val)
            elif not jnp.issubdtype(atom.aval.dtype, jnp.inexact):
                operands.append(jnp.zeros(atom.aval.shape, atom.aval.dtype))
            else:
                draw = jr.normal(next(keys), atom.aval.shape)
                operands.append(draw.astype(atom.aval.dtype))
                active.append(k)
        if name == "div":
            active = [0]

        def fn(*xs, eqn=eqn, operands=operands, active=active):
            arrays = list(operands)
            for k, x in zip(active, xs):
                arrays[k] = x
            return tuple(_compat.bind(eqn, *arrays))

        rule = _rules.find_rule(eqn, active)
        assert rule in (_rules.linear, _rules.bilinear)
        x = tuple(operands[k] for k in active)
        dx = tuple(jr.normal(next(keys), a.shape).astype(a.dtype) for a in x)
        adjoint = tuple(jnp.cos(1 + o) for o in fn(*x))
        tangents, term = rule(fn, x, dx, adjoint)
        expected, expected_term = _rules.forward_over_forward(fn, x, dx, adjoint)
        for a, b in zip(tangents, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10)
        np.testing.assert_allclose(term, expected_term, rtol=1e-10, atol=1e-12)


def test_split_rules_with_equal_duals_agree_with_the_generic_rule(x64):
    fn = lambda a, b: (jnp.sin(a) @ b, a * a)
    x = (jr.normal(jr.key(0), (2, 3)), jr.normal(jr.key(1), (3, 2)))
    dx = (jr.normal(jr.key(2), (2, 3)), jr.normal(jr.key(3), (3, 2)))
    adjoint = tuple(jnp.cos(o) for o in fn(*x))
    expected, term = _rules.forward_over_forward(fn, x, dx, adjoint)
    for rule in (_rules.split_forward, _rules.split_custom_vjp):
        tangents, duals, got = rule(fn, x, dx, dx, adjoint)
        for out in (tangents, duals):
            for a, b in zip(out, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10)
        np.testing.assert_allclose(got, term, rtol=1e-10)
