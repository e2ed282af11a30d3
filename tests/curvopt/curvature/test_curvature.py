"""The oracle is the dense Hessian in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from curvature_oracle import check, dense_hessian, EXACT, METHODS, name

import curvopt


def mlp_loss():
    model = eqx.nn.MLP(5, 3, 6, 2, jax.nn.gelu, key=jr.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    x, labels = jr.normal(jr.key(1), (7, 5)), jnp.arange(7) % 3

    def loss(params):
        logits = jax.vmap(eqx.combine(params, static))(x)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(7), labels])

    return loss, params


class SmallCNN(eqx.Module):
    conv1: eqx.nn.Conv2d
    conv2: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jr.split(key, 3)
        self.conv1 = eqx.nn.Conv2d(1, 2, 3, key=keys[0])
        self.conv2 = eqx.nn.Conv2d(2, 3, 2, key=keys[1])
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.head = eqx.nn.Linear(12, 3, key=keys[2])

    def __call__(self, x):
        x = self.pool(jax.nn.softplus(self.conv1(x)))
        return self.head(jax.nn.relu(self.conv2(x)).ravel())


def cnn_loss():
    params, static = eqx.partition(SmallCNN(jr.key(0)), eqx.is_inexact_array)
    x, labels = jr.normal(jr.key(1), (4, 1, 8, 8)), jnp.arange(4) % 3

    def loss(params):
        logits = jax.vmap(eqx.combine(params, static))(x)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), labels])

    return loss, params


class AttentionBlock(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP
    embedding: eqx.nn.Embedding

    def __init__(self, key):
        keys = jr.split(key, 3)
        self.attention = eqx.nn.MultiheadAttention(2, 4, key=keys[0])
        self.norm1, self.norm2 = eqx.nn.LayerNorm(4), eqx.nn.LayerNorm(4)
        self.mlp = eqx.nn.MLP(4, 4, 6, 1, jax.nn.gelu, key=keys[1])
        self.embedding = eqx.nn.Embedding(5, 4, key=keys[2])

    def __call__(self, tokens):
        x = jax.vmap(self.embedding)(tokens)
        mask = jnp.tril(jnp.ones((len(tokens), len(tokens)), bool))
        h = jax.vmap(self.norm1)(x)
        x = x + self.attention(h, h, h, mask=mask)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))


def attention_loss():
    params, static = eqx.partition(AttentionBlock(jr.key(0)), eqx.is_inexact_array)
    tokens = jr.randint(jr.key(1), (2, 6), 0, 5)

    def loss(params):
        return jnp.mean(jax.vmap(eqx.combine(params, static))(tokens) ** 3)

    return loss, params


# A small network is met by the curvature matrix of all methods.
@pytest.mark.slow
@pytest.mark.parametrize("make", [mlp_loss, cnn_loss, attention_loss])
def test_networks_against_the_dense_hessian(make, x64):
    check(*make())


def rosenbrock(y):
    return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


def unused_parameters(y):
    return jnp.sum(y["used"] ** 3) + 0 * jnp.sum(jax.lax.stop_gradient(y["used"]))


def several_uses(y):
    a = y["used"] @ y["used"].T
    return jnp.sum(a * a) + jnp.sum(jnp.sin(a) @ y["used"])


def integers_and_booleans(y):
    order = jnp.argsort(y["used"].ravel())
    sorted_ = jnp.sort(y["used"].ravel())
    top, where = jax.lax.top_k(y["used"].ravel(), 3)
    chosen = jnp.where(y["used"] > 0, y["used"] ** 2, jnp.exp(y["used"]))
    return (
        jnp.sum(chosen)
        + sorted_[2] ** 4
        + y["used"].ravel()[order[0]] ** 3
        + jnp.sum(top**3 * where)
    )


def nested_jit(y):
    inner = jax.jit(lambda a: jnp.tanh(a) @ jnp.cos(a).T)
    return jnp.sum(jax.jit(lambda a: inner(a) ** 2)(y["used"]))


def with_scan(y):
    def body(h, x):
        return jnp.tanh(h @ y["used"].T @ y["used"] + x), jnp.sum(h**2)

    h, out = jax.lax.scan(body, jnp.ones(3), jnp.linspace(0, 1, 12).reshape(4, 3))
    return jnp.sum(h**3) + jnp.sum(out)


def with_cond(y):
    total = jnp.sum(y["used"])
    return jax.lax.cond(total > 0, lambda a: a**3, lambda a: jnp.cos(a), total)


def with_remat(y):
    f = jax.checkpoint(lambda a: jnp.sin(a @ a.T))
    return jnp.sum(f(y["used"]) ** 2)


def with_linalg(y):
    a = y["used"] @ y["used"].T + 3 * jnp.eye(2)
    return jnp.log(jnp.linalg.cholesky(a)[1, 1]) + jnp.sum(jnp.linalg.inv(a) ** 2)


def with_fft(y):
    return jnp.sum(jnp.abs(jnp.fft.rfft(y["used"] ** 2)) ** 2)


def with_custom_jvp(y):
    @jax.custom_jvp
    def f(x):
        return x**3

    # Not the derivative of x**3: a rule is to be respected, not looked through.
    f.defjvp(lambda x, t: (f(*x), 5 * x[0] ** 2 * t[0]))
    return jnp.sum(jnp.sin(f(y["used"])))


STRUCTURES = [
    unused_parameters,
    several_uses,
    integers_and_booleans,
    nested_jit,
    with_scan,
    with_cond,
    with_remat,
    # Decompositions and transforms by themselves are in `test_layers.py`.
    pytest.param(with_linalg, marks=pytest.mark.slow),
    pytest.param(with_fft, marks=pytest.mark.slow),
]


def parameters():
    return {
        "unused": jnp.ones(3),
        "used": jr.normal(jr.key(3), (2, 3)) + 0.3,
    }


@pytest.mark.parametrize("fn", STRUCTURES, ids=lambda fn: fn.__name__)
def test_structures_against_the_dense_hessian(fn, x64):
    check(fn, parameters(), [curvopt.AdjointCurvature(), curvopt.ForwardCurvature()])


def test_rosenbrock(x64):
    check(rosenbrock, jnp.array([-1.2, 1.0, 0.7]))


def test_custom_jvp_rule_is_respected(x64):
    check(with_custom_jvp, parameters(), [curvopt.AdjointCurvature()])


@jax.custom_vjp
def squash_gradient(x):
    return x


# Not linear in the cotangent: no derivative of anything.
squash_gradient.defvjp(lambda x: (x, x), lambda x, g: (jnp.tanh(g) * (1 + x**2),))


@jax.custom_vjp
def scaled_sine(x):
    return jnp.sin(x) * 2


# The forward rule calls the function itself: it has no forward mode, at any order.
scaled_sine.defvjp(lambda x: (scaled_sine(x), x), lambda x, g: (2 * jnp.cos(x) * g,))


@jax.custom_vjp
def clip_gradient(x):
    return x


clip_gradient.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))


# Each rule and each place is met in the tests that are always run.
MET = """squash_gradient-plain squash_gradient-scan squash_gradient-remat clip_gradient-jit
clip_gradient-cond scaled_sine-scan scaled_sine-cond""".split()


@pytest.mark.parametrize(
    "where, rule",
    [
        pytest.param(
            where,
            rule,
            id=f"{rule.__name__}-{where}",
            marks=() if f"{rule.__name__}-{where}" in MET else pytest.mark.slow,
        )
        for where in ("plain", "jit", "scan", "remat", "cond")
        for rule in (squash_gradient, clip_gradient, scaled_sine)
    ],
)
def test_custom_vjp_is_exact_where_forward_mode_fails(where, rule, x64):
    """Guards the split of tangents and duals: taking them for the same is wrong by tens
    of percent here, and a forward mode of a custom_vjp raises in jax."""

    def loss(y):
        wrapped = {"jit": jax.jit(rule), "remat": jax.checkpoint(rule)}.get(where, rule)
        if where == "scan":
            body = lambda h, x: (rule(jnp.sin(h * y) + x), None)
            h, _ = jax.lax.scan(body, y, jnp.ones((3, 4)))
        elif where == "cond":
            h = jax.lax.cond(y[0] > 0, rule, jnp.cos, jnp.sin(y) * y)
        else:
            h = wrapped(jnp.sin(y) * y)
        return jnp.sum(h**3) + jnp.sum(jnp.cos(wrapped(h) * y))

    y, u = jnp.linspace(0.2, 1.1, 4), jnp.array([1.0, -2.0, 0.5, 0.3])
    model = lambda y: curvopt.quadratic_model(lambda y, _: loss(y), y)
    curvature = jax.jit(lambda y, u: model(y).curvature(u))(y, u)
    # What the backward sweep computes, differentiated: both ways that jax has.
    both = (jax.jacrev,) if rule is scaled_sine else (jax.jacrev, jax.jacfwd)
    for differentiate in both:
        hessian = jax.jit(differentiate(jax.grad(loss)))(y)
        np.testing.assert_allclose(curvature, u @ hessian @ u, rtol=1e-9)


def test_custom_vjp_of_two_arguments(x64):
    @jax.custom_vjp
    def product(a, b):
        return jnp.sin(a) * b

    product.defvjp(
        lambda a, b: (product(a, b), (jnp.cos(a), jnp.sin(a), b)),
        lambda kept, g: (kept[0] * g * kept[2], kept[1] * g),
    )
    fn = lambda y, _: product(y[0], y[1]) ** 2
    y, u = jnp.array([0.3, 0.7]), jnp.ones(2)
    hessian = dense_hessian(lambda y: (jnp.sin(y[0]) * y[1]) ** 2, y)
    curvature = jax.jit(lambda y, u: curvopt.quadratic_model(fn, y).curvature(u))(y, u)
    np.testing.assert_allclose(curvature, u @ hessian @ u, rtol=1e-12)


def test_loss_that_does_not_depend_on_the_parameters(x64):
    model = curvopt.quadratic_model(lambda y, _: jnp.array(3.0), jnp.ones(2))
    u = jnp.ones(2)
    assert (model.value, model.slope(u), model.curvature(u)) == (3.0, 0.0, 0.0)
    np.testing.assert_array_equal(model.grad, jnp.zeros(2))


def test_parameter_returned_unchanged(x64):
    model = curvopt.quadratic_model(lambda y, _: y, jnp.array(2.0))
    assert (model.value, model.grad) == (2.0, 1.0)
    assert model.curvature(jnp.array(3.0)) == 0.0


@pytest.mark.parametrize(
    "method",
    [*EXACT[:2], *(pytest.param(m, marks=pytest.mark.slow) for m in METHODS[2:])],
    ids=name,
)
def test_vmap_and_scan(method, x64):
    loss, params = mlp_loss()
    factors = np.array([1.0, 0.5, -1.0])
    stacked = jax.tree.map(lambda p: np.multiply.outer(factors, p), params)

    @jax.jit
    def curvature(p):
        model = curvopt.quadratic_model(lambda y, _: loss(y), p, curvature=method)
        return model.curvature(model.grad)

    one_by_one = [curvature(jax.tree.map(lambda p, k=k: p[k], stacked)) for k in range(3)]
    np.testing.assert_allclose(jax.vmap(curvature)(stacked), one_by_one, rtol=1e-6)
    _, scanned = jax.lax.scan(lambda c, p: (c, curvature(p)), None, stacked)
    np.testing.assert_allclose(scanned, one_by_one, rtol=1e-6)


def test_args_and_aux(x64):
    def fn(y, args):
        return jnp.sum(y**2) * args["scale"], {"twice": 2 * y}

    model = curvopt.quadratic_model(
        fn, jnp.ones(2), {"scale": 3.0}, curvopt.AdjointCurvature(), has_aux=True
    )
    assert model.value == 6.0 and model.curvature(jnp.ones(2)) == 12.0
    np.testing.assert_array_equal(model.aux["twice"], 2 * jnp.ones(2))


@pytest.mark.parametrize("method", EXACT, ids=name)
def test_low_precision_is_accumulated_in_float32(method):
    """A bfloat16 sum of 4,096 equal terms would stop growing at 256 of them."""
    y = jnp.full(4096, 0.5, jnp.bfloat16)
    fn = lambda y, _: jnp.sum((y * y).astype(jnp.float32))
    model = curvopt.quadratic_model(fn, y, curvature=method)
    u = jnp.ones_like(y)
    assert model.grad.dtype == jnp.bfloat16
    for got, expected in ((model.slope(u), 4096.0), (model.curvature(u), 8192.0)):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=1e-2)


def test_forward_model_without_its_gradient_runs_no_backward_sweep():
    """Guards the promise to forward-gradient directions."""
    loss, params = mlp_loss()

    def slope(p):
        method = curvopt.ForwardCurvature()
        return curvopt.quadratic_model(lambda y, _: loss(y), p, curvature=method).slope(p)

    jvp = lambda p: jax.jvp(loss, (p,), (p,))[1]
    ratio = (
        curvopt.cost.compile_and_analyse(slope, params).flops
        / curvopt.cost.compile_and_analyse(jvp, params).flops
    )
    assert ratio <= 1.001


class TestBadInput:
    def test_integer_parameters(self):
        with pytest.raises(ValueError, match=r"\['k'\] has dtype int32.*is_inexact_array"):
            curvopt.quadratic_model(
                lambda y, _: jnp.sum(y["w"]), {"w": jnp.ones(2), "k": jnp.arange(3)}
            )

    def test_model_with_leaves_that_are_no_arrays(self):
        model = eqx.nn.MLP(2, 1, 3, 1, key=jr.key(0))
        with pytest.raises(ValueError, match=r"activation.*eqx.partition"):
            curvopt.quadratic_model(lambda m, _: m(jnp.ones(2))[0], model)

    def test_no_parameters(self):
        with pytest.raises(ValueError, match="there are no parameters"):
            curvopt.quadratic_model(lambda y, _: jnp.array(0.0), {})

    def test_complex_parameters(self):
        with pytest.raises(ValueError, match=r"must be real.*complex64"):
            curvopt.quadratic_model(lambda y, _: jnp.abs(y), jnp.array(1j))

    @pytest.mark.parametrize("method", METHODS, ids=name)
    @pytest.mark.parametrize(
        "fn, message",
        [
            (lambda y, _: y, r"shape \(2,\).*jnp.mean"),
            (lambda y, _: jnp.sum(y) * 1j, "dtype is complex64"),
            (lambda y, _: jnp.argmax(y), "dtype is int32"),
            (lambda y, _: (jnp.sum(y), y), "has_aux=True"),
            (lambda y, _: None, "returned None"),
        ],
    )
    def test_loss_that_is_no_real_scalar(self, fn, message, method):
        with pytest.raises(ValueError, match=message):
            curvopt.quadratic_model(fn, jnp.ones(2), curvature=method)

    def test_aux_that_is_missing(self):
        with pytest.raises(ValueError, match="must return a pair"):
            curvopt.quadratic_model(lambda y, _: jnp.sum(y), jnp.ones(2), has_aux=True)

    @pytest.mark.parametrize("u", [jnp.ones(3), {"a": jnp.ones(2)}, jnp.arange(2)])
    def test_direction_that_does_not_match(self, u):
        model = curvopt.quadratic_model(lambda y, _: jnp.sum(y), jnp.ones(2))
        for ask in (model.slope, model.curvature):
            with pytest.raises(ValueError, match="u must"):
                ask(u)

    @pytest.mark.parametrize(
        "method, remedy",
        [(curvopt.AdjointCurvature, r"call it, Adj"), ("adjoint", "AbstractCurvature")],
    )
    def test_method(self, method, remedy, unchecked):
        with pytest.raises(ValueError, match=remedy):
            curvopt.quadratic_model(lambda y, _: jnp.sum(y), jnp.ones(2), None, method)

    @pytest.mark.parametrize("dtype", [jnp.float64, jnp.int8, "bf16", True])
    def test_product_dtype(self, dtype):
        with pytest.raises(ValueError, match=r"product_dtype.*Pass jnp.bfloat16"):
            curvopt.AdjointCurvature(product_dtype=dtype)
