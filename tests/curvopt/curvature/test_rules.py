"""Every special rule of the third sweep against the generic one."""

import itertools

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from curvature_oracle import check_along, name
from jax.ad_checkpoint import checkpoint_name

import curvopt
from curvopt._curvature import _rules
from curvopt._curvature._primitive import record_primitive
from curvopt._curvature._products import ProductRule, two_products
from curvopt._curvature._program import flatten, is_variable
from curvopt._curvature._rewrites import Elementwise, with_chains, with_transpositions
from curvopt._curvature._stack import Stack


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
    "cummax": lambda a: lax.cummax(a, axis=1),
    "cummin": lambda a: lax.cummin(a, axis=1),
    "cumsum": lambda a: jnp.cumsum(a, axis=1),
    "dot_general": lambda a: a @ a.T,
    "dynamic_slice": lambda a: lax.dynamic_slice(a, (0, 1), (1, 2)),
    "gather": lambda a: a[jnp.array([1, 1, 0])],
    "imag": lambda a: lax.imag(lax.complex(a[0], a[1])),
    "mul": lambda a: a[0] * a[1],
    "neg": lambda a: -a,
    "pad": lambda a: lax.pad(a, a[0, 0], ((1, 0, 0), (0, 2, 1))),
    "real": lambda a: lax.real(lax.complex(a[0], a[1])),
    "reduce_precision": lambda a: lax.reduce_precision(a, 8, 10),
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
    "triangular_solve": lambda a: lax.linalg.triangular_solve(
        jnp.array([[2.0, 0.0], [1.0, 3.0]]), a, left_side=True, lower=True
    ),
    "abs": lambda a: jnp.abs(a),
    "clamp": lambda a: lax.clamp(-0.5, a, 0.5),
    "dynamic_update_slice": lambda a: lax.dynamic_update_slice(a, a[:1, :1], (1, 1)),
    "fft": lambda a: jnp.fft.fft(a),
    "max": lambda a: jnp.maximum(a[0], a[1]),
    "min": lambda a: jnp.minimum(a[0], a[1]),
    "name": lambda a: checkpoint_name(a, "here"),
    "optimization_barrier": lambda a: lax.optimization_barrier(a),
    "reduce_max": lambda a: jnp.max(a, axis=0),
    "reduce_min": lambda a: jnp.min(a, axis=1),
    "reduce_window_sum": lambda a: lax.reduce_window(
        a, 0.0, lax.add, (1, 2), (1, 1), "VALID"
    ),
    "scatter": lambda a: a.at[0].set(a[1]),
    "scatter-add": lambda a: a.at[jnp.array([0, 0])].add(a),
    "scatter-sub": lambda a: a.at[jnp.array([0, 0])].subtract(a),
    "select_and_scatter_add": lambda a: jax.grad(
        lambda b: jnp.sum(
            a[None, :1, :2, None]
            * lax.reduce_window(b, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
        )
    )(lax.stop_gradient(a).reshape(1, 2, 3, 1)),
    "sharding_constraint": lambda a: lax.with_sharding_constraint(
        a, jax.sharding.SingleDeviceSharding(jax.devices()[0])
    ),
    "top_k": lambda a: lax.top_k(a, 2)[0],
    "sort": lambda a: jnp.sort(a, axis=1),
}


def test_every_rule_of_the_table_has_an_example():
    """`add_any` is `add` as jax's own transformations write it."""
    assert _rules._TABLE.keys() - {"add_any"} <= EXAMPLES.keys()


def _program(fn, shape=X):
    return with_transpositions(flatten(jax.make_jaxpr(fn)(jnp.ones(shape))))


def _operations(fn):
    return _program(fn).operations


def _draw(keys, atom):
    """An operand with distinct entries, so that nothing is at a tie."""
    if not is_variable(atom):
        return atom
    if not jnp.issubdtype(atom.aval.dtype, jnp.inexact):
        return jnp.zeros(atom.aval.shape, atom.aval.dtype)
    return jr.normal(next(keys), atom.aval.shape).astype(atom.aval.dtype)


def _record(operation, operands, active):
    numbers = [k if k in active else None for k in range(len(operands))]
    outvars, count = operation.outvars, itertools.count(100)
    chosen = [k for k, v in enumerate(outvars) if jnp.issubdtype(v.aval.dtype, float)]
    equation, _ = record_primitive(
        operation, operands, numbers, chosen or range(len(outvars)), lambda: next(count)
    )
    return equation


def _same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def _compare(equation, keys, how=ProductRule()):
    """Every sweep's step by the equation's rule, and by the generic one."""
    f, special, generic = equation.function, equation.rule, _rules.Generic()
    x = f.primals
    like = lambda a: jr.normal(next(keys), a.shape).astype(a.dtype)
    dx, dual, ddx = (tuple(map(like, x)) for _ in range(3))
    adjoint = tuple(jnp.cos(1 + v) for v in f.values)
    stacks = [Stack.of(vectors) for vectors in zip(dx, dual, ddx)]

    def sweeps(rule, how):
        return (
            rule.tangent(f, dx, adjoint, how),
            rule.split(f, dx, dual, adjoint),
            rule.second(f, dx, ddx, how),
            rule.gram(f, stacks, adjoint, how) + jnp.zeros((3, 3)),
            # Parameters have no second tangent: then `None` must mean zero.
            rule.second(f, dx, [None] * len(x), how)[1],
        )

    exactly = ProductRule(products="three")
    (*got, nothing), (*expected, wanted) = jax.jit(
        lambda: (sweeps(special, how), sweeps(generic, exactly))
    )()
    _same(got, expected)
    for a, b in zip(nothing, wanted, strict=True):
        _same(jnp.zeros_like(b) if a is None else a, b)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_special_rules_agree_with_the_generic_one(name, x64):
    found = [o for o in _operations(EXAMPLES[name]) if o.name == name]
    assert found, f"the example does not use {name}"
    for operation in found:
        keys = iter(jr.split(jr.key(0), 40))
        operands = [_draw(keys, atom) for atom in operation.invars]
        active = [
            k
            for k, atom in enumerate(operation.invars)
            if is_variable(atom) and atom.is_differentiable
        ]
        only = _rules._TABLE[name]
        if isinstance(only, int):
            active = [only]
        equation = _record(operation, operands, active)
        assert isinstance(equation.rule, _rules.Linear | _rules.Bilinear)
        _compare(equation, keys)


@pytest.mark.parametrize("name", ["dot_general", "conv_general_dilated"])
@pytest.mark.parametrize("products", ["two", "three"])
def test_number_of_products(name, products, x64):
    keys = iter(jr.split(jr.key(1), 40))
    (operation,) = [o for o in _operations(EXAMPLES[name]) if o.name == name]
    operands = [_draw(keys, atom) for atom in operation.invars]
    equation = _record(operation, operands, [0, 1])
    how = ProductRule(products=products)
    assert equation.rule.label(equation.function, how) == f"bilinear, {products} products"
    _compare(equation, keys, how)


TRANSPOSED = {
    "after": lambda a: (a @ a.T).T,
    "before": lambda a: lax.dot(a, lax.transpose(a, (1, 0))),
    "between": lambda a: lax.dot(lax.dot(a, a.reshape(3, 2)).T, a),
    "vmap": lambda a: jax.vmap(lambda x: a @ x)(jnp.ones((4, 3)) + a[0]),
    "einsum": lambda a: jnp.einsum("ij,kj->ki", a, jnp.sin(a)),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_products_take_their_transpositions_along(name, x64):
    """Guards the cost: a transposition of the sum of two products is a slow pass."""
    fn = TRANSPOSED[name]
    found = _operations(fn)
    assert "transpose" not in {o.name for o in found}
    loss = lambda y: jnp.sum(jnp.cos(fn(y)))
    check_along(loss, jr.normal(jr.key(0), X), [curvopt.AdjointCurvature()], rtol=1e-10)


def test_a_transposition_that_is_used_twice_stays():
    fn = lambda a: (lambda t: t @ a + jnp.sum(t))(lax.transpose(a, (1, 0)))
    assert "transpose" in {o.name for o in _operations(fn)}


CHAINS = {  # with the number of operations that are left
    "activation": (lambda a: jnp.sum(jax.nn.gelu(a)), 2),
    "residual": (
        lambda a: jnp.sum(jnp.tanh(jnp.tanh(a) @ jnp.ones((3, 3)) + jnp.cos(jnp.tanh(a)))),
        None,
    ),
    "softmax": (
        lambda a: jnp.sum(jnp.sin(jnp.exp(a) / jnp.sum(jnp.exp(a), 1, keepdims=True))),
        None,
    ),
    "two shapes": (
        lambda a: jnp.sum(jnp.sin(jnp.cos(a[0]))) + jnp.sum(jnp.exp(jnp.sin(a))),
        None,
    ),
    "custom rule": (lambda a: jnp.sum(jax.nn.softplus(2 * a) * a), 2),
    "nothing to join": (lambda a: jnp.sum(a @ a.T), 2),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_elementwise_operations(name, x64):
    """A chain is joined, never across another operation that needs a part of it."""
    fn, left = CHAINS[name]
    before = _program(fn)
    after = with_chains(before, [True], [True])
    known = set(after.invars)
    for operation in after.operations:
        assert known.issuperset(operation.variables), "an operand is not known yet"
        known.update(operation.outvars)
    joined = [o for o in after.operations if isinstance(o, Elementwise)]
    size = lambda o: len(o.members) if isinstance(o, Elementwise) else 1
    assert sum(map(size, after.operations)) == len(before.operations)
    assert bool(joined) == (name != "nothing to join")
    assert left is None or len(after.operations) == left
    check_along(fn, jr.normal(jr.key(0), X), [curvopt.AdjointCurvature()], rtol=1e-10)


@pytest.mark.parametrize("scales", [(1e-6, 1e6), (1e8, 1.0), (1.0, 1e-12), (0.0, 1.0)])
def test_rounding_of_two_products_is_bounded(scales):
    """Guards the choice of h: the error is at most a few times that of three products,
    in units of what the bound says, whatever the scales of the tangents."""
    keys = jr.split(jr.key(2), 4)
    x1, dx1 = (jr.normal(k, (64, 128)) for k in keys[:2])
    x2, dx2 = (jr.normal(k, (128, 32)) for k in keys[2:])
    dx1, dx2 = scales[0] * dx1, scales[1] * dx2
    tangent, q = two_products(jnp.matmul, x1 @ x2, (x1, x2), (dx1, dx2))
    with jax.enable_x64(True):
        wide = [np.asarray(a, np.float64) for a in (x1, x2, dx1, dx2)]
        exact = wide[2] @ wide[1] + wide[0] @ wide[3]
    norm = np.linalg.norm
    unit = norm(wide[2]) * norm(wide[1]) + norm(wide[0]) * norm(wide[3])
    assert norm(np.asarray(tangent, np.float64) - exact) <= 4 * np.finfo("f4").eps * unit
    np.testing.assert_allclose(q, wide[2] @ wide[3], rtol=1e-4, atol=1e-5 * norm(q))


@pytest.mark.parametrize("zero", range(4))
@pytest.mark.parametrize("invariant", [(), (0,), (1,)])
@pytest.mark.parametrize(
    "dtype, scale",
    [("float32", 1e-10), ("float32", 1.0), ("float32", 1e10), ("float16", 1.0)],
)
def test_two_products_with_an_operand_of_zeros(zero, invariant, dtype, scale):
    """Guards the choice of h where the norms of one operand do not give it."""
    shapes = [(8, 16), (16, 4)] * 2
    arrays = [jr.normal(jr.key(k), shape).astype(dtype) for k, shape in enumerate(shapes)]
    arrays[2:] = [jnp.asarray(scale, dtype) * a for a in arrays[2:]]
    arrays[zero] = jnp.zeros_like(arrays[zero])
    x1, x2, dx1, dx2 = arrays
    tangent, q = two_products(
        jnp.matmul, x1 @ x2, (x1, x2), (dx1, dx2), invariant=invariant
    )
    np.testing.assert_allclose(q, dx1 @ dx2, rtol=1e-6)
    expected = dx1 @ x2 + x1 @ dx2
    unit = 30 * float(jnp.finfo(dtype).eps) * jnp.abs(expected).max()
    np.testing.assert_allclose(tangent, expected, rtol=1e-5, atol=unit)


def test_two_products_pay_earlier_in_a_loop():
    """What a loop does not change is read and moved once, not in every iteration."""
    w, h = jnp.zeros((96, 96)), jnp.zeros((16, 96))
    once = lambda w: jnp.sum((h + jnp.tanh(w[:16])) @ w)
    loop = lambda w: jnp.sum(lax.scan(lambda h, _: (jnp.tanh(h @ w), None), h, None, 3)[0])
    for loss, number in ((once, "three"), (loop, "two")):
        model = curvopt.quadratic_model(lambda y, _, f=loss: f(y), w)
        rules = {e.rule for e in model.report().equations if "products" in e.rule}
        assert rules == {f"bilinear, {number} products"}


def test_the_automatic_choice_avoids_what_rounds_coarsely_or_saves_nothing():
    def product(shape, dtype):
        x, w = jnp.zeros(shape, dtype), jnp.zeros(shape[::-1], dtype)
        (operation,) = flatten(jax.make_jaxpr(jax.lax.dot)(x, w)).operations
        return operation

    how = ProductRule()
    assert how.uses_two(product((256, 512), jnp.float32))
    assert not how.uses_two(product((256, 512), jnp.bfloat16))
    assert not how.uses_two(product((8, 4), jnp.float32))
    assert not ProductRule(dtype=jnp.bfloat16).uses_two(product((256, 512), jnp.float32))


@pytest.mark.parametrize(
    "method, direct, split",
    [
        (curvopt.AdjointCurvature(), "two", "two"),
        (curvopt.ForwardCurvature(), "two", "three"),
        (curvopt.ForwardCurvature("two"), "two", "two"),
        (curvopt.GaussNewtonCurvature(), "three", "three"),
    ],
    ids=name,
)
def test_products_of_each_method(method, direct, split):
    """Two need the value of the product. It is kept in any case for an activation, and not
    if only its parts are. The Gauss-Newton curvature needs the tangents alone."""

    def loss(w, after):
        h = jnp.tanh(jnp.ones((256, 256)) @ w)
        return jnp.sum(curvopt.tag_output(after(h @ w)) ** 2)

    halves = lambda z: jnp.tanh(z[:128]) * jnp.tanh(z[128:])
    for after, expected in ((jnp.tanh, direct), (halves, split)):
        w = jnp.ones((256, 256)) / 256
        model = curvopt.quadratic_model(loss, w, after, method)
        found = [e.rule for e in model.report().equations if "products" in e.rule]
        assert found == [f"bilinear, {expected} products"]


def test_an_elementwise_product_is_never_taken_in_two():
    """Guards against norms and shifted operands where there is no product to save."""
    (operation,) = flatten(jax.make_jaxpr(lax.mul)(jnp.ones(X), jnp.ones(X))).operations
    assert not ProductRule(products="two").uses_two(operation)


def test_a_chain_with_one_active_member_is_not_that_member():
    """Guards against a rule of the product's two operands for a chain of three."""
    (chain,) = with_chains(_program(lambda a: (a * a) * 2 + 1), [True], [True]).operations
    assert isinstance(chain, Elementwise)
    assert isinstance(_rules.find_rule(chain, [0]), _rules.Generic)


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_pairings_of_every_backend_are_the_inner_product(backend, monkeypatch, x64):
    """On a CPU by a product with ones, elsewhere by a dot product; both exact."""
    shapes = [(), (5,), (3, 4), (2, 3, 4), (0, 3), (3, 0)]
    keys = jr.split(jr.key(0), 2 * len(shapes))
    a = tuple(jr.normal(k, s) for k, s in zip(keys[::2], shapes))
    s = tuple(jr.normal(k, s) for k, s in zip(keys[1::2], shapes))
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    expected = sum(np.vdot(x, z) for x, z in zip(a, s))
    np.testing.assert_allclose(_rules._pairing(a, s), expected, rtol=1e-13)
    # By the form that is meant: the summand is made before the product, or is the product.
    first = jax.make_jaxpr(lambda x, z: _rules._pairing((x,), (z,)))(a[2], s[2]).eqns[0]
    assert (first.primitive.name == "mul") == (backend == "cpu")


def test_pairings_of_every_backend_add_up_in_float32(monkeypatch):
    ones = (jnp.ones((300, 300), jnp.bfloat16),)
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        total = _rules._pairing(ones, ones)
        assert total.dtype == jnp.float32 and total == 90000


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_two_products_only_where_float32_is_float32(backend, monkeypatch):
    """Guards against cancellation in TF32 or bfloat16, which accelerators may round to."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)

    def product(precision):
        x, w = jnp.zeros((256, 512)), jnp.zeros((512, 256))
        dot = lambda x, w: lax.dot(x, w, precision=precision)
        (operation,) = flatten(jax.make_jaxpr(dot)(x, w)).operations
        return operation

    assert ProductRule().uses_two(product(None)) == (backend == "cpu")
    assert ProductRule().uses_two(product("highest"))
    assert ProductRule("two").uses_two(product(None))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_curvature_by_what_each_backend_does(backend, monkeypatch, x64):
    y, u = jr.normal(jr.key(0), (2, 48, 48))
    loss = lambda y, _: jnp.sum(jnp.tanh(y @ y.T) ** 2)
    expected = curvopt.quadratic_model(loss, y, curvature=curvopt.HvpCurvature())
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    model = curvopt.quadratic_model(loss, y)
    np.testing.assert_allclose(model.curvature(u), expected.curvature(u), rtol=1e-9)
