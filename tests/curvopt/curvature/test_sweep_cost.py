"""What the sweeps cost, by XLA's own counts: never by a clock."""

import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from curvature_oracle import name

import curvopt


ADJOINT = curvopt.AdjointCurvature(products="two")
FORWARD = curvopt.ForwardCurvature(products="two")
# Slack for elementwise work beside the matrix products that a floor counts.
SLACK = 1.012


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def cost(fn, *args):
    return curvopt.cost.compile_and_analyse(fn, *args)


def value_and_grad(loss, y, x):
    model = curvopt.quadratic_model(loss, y, x)
    return model.value, model.grad


def along_the_gradient(loss, method, y, x):
    model = curvopt.quadratic_model(loss, y, x, method)
    return model.value, model.grad, model.curvature(jax.tree.map(jnp.negative, model.grad))


def mlp(sizes, batch):
    pairs = list(itertools.pairwise(sizes))

    def loss(y, x):
        *hidden, (w, b) = y
        for v, c in hidden:
            x = jax.nn.gelu(x @ v + c)
        return -jnp.mean(jax.nn.log_softmax(x @ w + b)[:, 0])

    return loss, [(array(i, o), array(o)) for i, o in pairs], array(batch, sizes[0])


def attention():
    attend, norm = eqx.nn.MultiheadAttention(2, 16, key=jr.key(0)), eqx.nn.LayerNorm(16)
    params, static = eqx.partition((attend, norm), eqx.is_inexact_array)

    def loss(params, x):
        attend, norm = eqx.combine(params, static)
        rows = jax.vmap(jax.vmap(norm))(x)
        return jnp.mean((x + jax.vmap(attend)(rows, rows, rows)) ** 3)

    return loss, params, array(4, 8, 16)


def deep(how, checkpoint=False, depth=6, width=128, batch=64, each=1):
    """A chain of equal layers: a Python `"loop"`, or a `"scan"`, which may be
    `"unrolled"`, because XLA counts the body of a loop once."""

    def layer(h, w):
        for _ in range(each):
            h = jnp.sin(jnp.tanh(h @ w))
        return h

    layer = jax.checkpoint(layer) if checkpoint else layer

    def loss(y, x):
        # Not linear, so that the first layer is like all others.
        h = jnp.tanh(x * y[0, 0])
        if how == "loop":
            for w in y:
                h = layer(h, w)
        else:
            unroll = how == "unrolled"
            h, _ = jax.lax.scan(lambda h, w: (layer(h, w), None), h, y, unroll=unroll)
        return jnp.mean(h**2)

    return loss, array(depth, width, width), array(batch, width)


@pytest.mark.parametrize(
    "make",
    [
        partial(mlp, (64, 64, 64, 10), 32),
        attention,
        partial(deep, "scan"),
        partial(deep, "unrolled"),
        partial(deep, "scan", checkpoint=True),
        partial(deep, "unrolled", checkpoint=True),
    ],
    ids=["mlp", "attention", "scan", "unrolled", "remat in scan", "remat"],
)
def test_curvature_that_is_not_asked_for_costs_nothing(make):
    loss, y, x = make()
    own, jaxs = (
        cost(partial(value_and_grad, loss), y, x),
        cost(jax.value_and_grad(loss), y, x),
    )
    assert own.flops <= 1.001 * jaxs.flops
    assert own.temporary_bytes <= 1.001 * jaxs.temporary_bytes


@pytest.mark.parametrize(
    "method", [ADJOINT, pytest.param(FORWARD, marks=pytest.mark.slow)], ids=name
)
def test_a_scanned_network_costs_what_the_unrolled_one_does(method):
    """Guards the sweeps inside a scan: as one primitive it would be a nested jvp."""

    def flops(how):
        loss, y, x = deep(how)
        return cost(partial(along_the_gradient, loss, method), y, x).flops

    assert flops("unrolled") <= 1.02 * flops("loop")


@pytest.mark.parametrize(
    "method", [ADJOINT, pytest.param(FORWARD, marks=pytest.mark.slow)], ids=name
)
def test_remat_saves_memory_in_the_third_sweep_too(method):
    def memory(checkpoint):
        loss, y, x = deep("scan", checkpoint, depth=12, width=64, batch=256, each=4)
        run = partial(along_the_gradient, loss, method)
        return cost(run, y, x).temporary_bytes

    assert memory(True) < 0.25 * memory(False)


def recurrent():
    """A GRU over 32 steps."""
    cell = eqx.nn.GRUCell(32, 32, key=jr.key(0))
    params, static = eqx.partition(cell, eqx.is_inexact_array)

    def loss(params, xs):
        cell = eqx.combine(params, static)
        step = lambda h, x: (jax.vmap(cell)(x, h), None)
        return jnp.sum(jax.lax.scan(step, jnp.zeros((16, 32)), xs)[0] ** 2)

    return loss, params, array(32, 16, 32)


def decoder():
    """Wide outputs, in a sum."""

    def loss(y, x):
        first, second = y
        logits = jnp.tanh(x @ first) @ second
        return jnp.mean(jnp.sum(jax.nn.softplus(logits) - 0.3 * logits, axis=-1))

    return loss, (array(32, 64), array(64, 784)), array(256, 32)


@pytest.mark.parametrize(
    "make, most",
    # Of the wide outputs it stores values, tangents and second tangents, the gradient only
    # its adjoints.
    [(recurrent, 1.1), (decoder, 3.6)],
    ids=["recurrent", "decoder"],
)
def test_memory_of_forward_mode(make, most):
    """Guards a loop against storing what its operands give, and a sum against XLA storing
    what leads to it."""
    loss, y, x = make()
    run = partial(along_the_gradient, loss, curvopt.ForwardCurvature())
    gradient = cost(jax.value_and_grad(loss), y, x)
    assert cost(run, y, x).temporary_bytes < most * gradient.temporary_bytes


def products(sizes):
    """Matrix products, in multiplications for each example: those of one gradient; and of
    the curvature's sweep, by method and the number of products of two tangents."""
    first, *others = [i * o for i, o in itertools.pairwise(sizes)]
    rest = sum(others)
    return 2 * first + 3 * rest, {
        (curvopt.AdjointCurvature, "two"): first + 2 * rest,
        (curvopt.AdjointCurvature, "three"): first + 3 * rest,
        (curvopt.ForwardCurvature, "two"): first + 3 * rest,
        (curvopt.ForwardCurvature, "three"): first + 4 * rest,
    }


def test_matrix_products_are_all_that_a_deep_network_costs():
    """At most 1.66 gradients with two products: value, gradient and curvature."""
    sizes = (784, 1024, 1024, 1024, 10)
    loss, y, x = mlp(sizes, 256)
    gradient = cost(jax.value_and_grad(loss), y, x).flops
    of_gradient, of_curvature = products(sizes)
    for (kind, count), number in of_curvature.items():
        method = kind(products=count)
        ratio = cost(partial(along_the_gradient, loss, method), y, x).flops / gradient
        floor = 1 + number / of_gradient
        assert floor <= ratio <= SLACK * floor, name(method)


def test_nothing_is_traced_twice():
    """Guards closures and static fields that would make every model a new program."""
    traces = []

    def loss(y, x):
        traces.append(x)
        h, _ = jax.lax.scan(lambda h, _: (jnp.tanh(h @ y), None), x, length=3)
        return jnp.sum(h**2)

    @jax.jit
    def step(y, x):
        value, grad, curvature = along_the_gradient(loss, ADJOINT, y, x)
        return y - 1e-3 * grad / (1 + abs(curvature)), value

    y = jr.normal(jr.key(0), (4, 4))
    counts = []
    for key in jr.split(jr.key(1), 4):
        y, _ = step(y, jr.normal(key, (2, 4)))
        counts.append(len(traces))
    assert len(set(counts)) == 1 and step._cache_size() == 1


def test_the_loss_is_traced_once():
    """Guards against a loss that is evaluated again for each sweep."""
    traces = []

    def loss(y, x):
        traces.append(x)
        return jnp.sum(jnp.sin(y * x))

    def step(y, x):
        _, grad, curvature = along_the_gradient(loss, ADJOINT, y, x)
        return y - grad / (1 + abs(curvature)), curvature

    jax.jit(step).lower(jnp.ones(3), jnp.ones(3))
    assert len(traces) == 1
