"""Loops are counted as often as they run, of which XLA by itself counts one turn."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import curvopt
from curvopt.cost._compiled import on_host


WIDTH, BATCH, LENGTH = 256, 128, 7
PRODUCT = 2 * BATCH * WIDTH**2


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


W, X = array(WIDTH, WIDTH), array(BATCH, WIDTH)


def flops(fn, *args):
    return curvopt.cost.compile_and_analyse(fn, *args).flops


def products(fn, *args):
    """How many matrix products a function costs; a little is for what is beside them."""
    return pytest.approx(flops(fn, *args) / PRODUCT, rel=0.02)


def turns(h, w, length=LENGTH, **how):
    return jax.lax.scan(lambda h, _: (h @ w, None), h, length=length, **how)[0]


def start(y, x):
    """Not without the parameters: a last product would be spared where loops cannot."""
    return jnp.cos(x * y[(0,) * y.ndim])


def layered(y, x, unroll):
    """Each turn has weights of its own."""
    layer = lambda h, w: (jnp.tanh(h @ w), None)
    return jnp.mean(jax.lax.scan(layer, start(y, x), y, unroll=unroll)[0] ** 2)


def recurrent(y, x, unroll):
    """All turns have the same weights, and all states count."""

    def turn(h, _):
        h = jnp.tanh(h @ y + x)
        return h, h

    _, states = jax.lax.scan(turn, start(y, x), length=LENGTH, unroll=unroll)
    return jnp.mean(states**2)


def nested(y, x, unroll):
    def outer(h, w):
        inner = lambda h, _: (jnp.tanh(h @ w), None)
        return jax.lax.scan(inner, h, length=2, unroll=unroll)[0], None

    return jnp.mean(jax.lax.scan(outer, start(y, x), y, unroll=unroll)[0] ** 2)


def gradient(loss, y, x):
    return jax.value_and_grad(loss)(y, x)


def curvature(loss, y, x):
    model = curvopt.quadratic_model(loss, y, x)
    return model.value, model.grad, model.curvature(jax.tree.map(jnp.negative, model.grad))


LAYERS = array(LENGTH, WIDTH, WIDTH)


@pytest.mark.parametrize(
    "ask, loss, y",
    [
        (lambda loss, *args: loss(*args), layered, LAYERS),
        (gradient, layered, LAYERS),
        (gradient, recurrent, W),
        (gradient, nested, array(3, WIDTH, WIDTH)),
        (curvature, layered, LAYERS),
    ],
    ids=["value", "gradient", "recurrent gradient", "nested gradient", "curvature"],
)
def test_a_loop_costs_what_it_costs_unrolled(ask, loss, y):
    loop, unrolled = (
        flops(partial(ask, partial(loss, unroll=unroll)), y, X) for unroll in (False, True)
    )
    assert loop == pytest.approx(unrolled, rel=0.02)


@jax.custom_jvp
def _custom(h, w):
    return turns(h, w)


_custom.defjvp(lambda primals, tangents: (_custom(*primals), tangents[0]))


def _until(h, w):
    """Two products at each turn of a loop whose length is not known."""
    return jax.lax.while_loop(lambda h: h.sum() > 0, lambda h: turns(h, w, 2), h)


def _dead(h, w):
    def turn(h, _):
        h = h @ w
        return h, h @ w.T

    return jax.lax.scan(turn, h, length=LENGTH)[0]


def _chosen(*lengths):
    branches = [partial(turns, length=length) for length in lengths]
    return lambda h, w: jax.lax.switch((h[0, 0] > 0).astype(int), branches, h, w)


def _five_or_a_loop(h, w):
    straight = lambda h, w: h @ w @ w @ w @ w @ w
    return jax.lax.cond(h[0, 0] > 0, straight, turns, h, w)


PRODUCTS = {
    "scan": (turns, 7),
    "backwards": (partial(turns, reverse=True), 7),
    "partly unrolled": (partial(turns, unroll=2), 7),
    "unrolled in pieces": (partial(turns, length=9, unroll=3), 9),
    "unrolled and a rest": (partial(turns, length=5, unroll=4), 5),
    "one turn": (partial(turns, length=1), 1),
    "no turn": (lambda h, w: turns(h, w, 0) @ w, 1),
    "in jit, twice": (lambda h, w: jax.jit(turns)(jax.jit(turns)(h, w), w), 14),
    "in checkpoint": (jax.checkpoint(turns), 7),
    "in custom_jvp": (_custom, 7),
    "in while": (_until, 2),
    "longest branch": (_chosen(3, 5), 5),
    "dearest branch": (_five_or_a_loop, 7),
    "vmap": (jax.vmap(turns, in_axes=(0, None)), 7),
    "map": (lambda h, w: jax.lax.map(lambda row: row @ w, h), 1),
    "fori_loop": (lambda h, w: jax.lax.fori_loop(0, 7, lambda _, h: h @ w, h), 7),
    "dead code": (_dead, 7),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_matrix_products(case):
    fn, expected = PRODUCTS[case]
    h = array(BATCH, 1, WIDTH) if case == "vmap" else X
    assert expected == products(fn, h, W)


def test_what_stays_the_same_is_counted_once():
    """XLA moves it out of the loop."""

    def fn(x, w):
        return jax.lax.scan(lambda x, _: (x @ (w * w + 1), None), x, length=LENGTH)[0]

    x = array(1, WIDTH)
    assert flops(fn, x, W) == pytest.approx(flops(turns, x, W) + 2 * WIDTH**2, rel=0.001)


def test_without_loops_it_is_the_count_of_xla():
    fn = jax.value_and_grad(lambda w, x: jnp.mean(jnp.tanh(x @ w)))
    own = jax.jit(fn).lower(W, X).compile().cost_analysis()
    assert own is not None and flops(fn, W, X) == own["flops"]


class Recurrent(curvopt.AbstractProblem):
    unroll: bool

    def init(self, key):
        return jr.normal(key, (WIDTH, WIDTH)) / 16, None

    def batch(self, key, count):
        return jr.normal(jr.fold_in(key, count), (BATCH, WIDTH))

    def loss(self, params, args):
        return recurrent(params, args[0], self.unroll), (None, {})

    def evaluate(self, params, model_state):
        return {}

    @property
    def steps_per_epoch(self):
        return 1


def test_costs_are_counted_on_the_host():
    """XLA does not count an accelerator's library calls. Nothing is left behind."""
    assert jax.default_device.value is None
    with on_host():
        assert jax.default_device.value == jax.devices("cpu")[0]
    assert jax.default_device.value is None


class Anchored(Recurrent):
    """The same, with a data set that is committed to a device."""

    data: jax.Array

    def batch(self, key, count):
        return self.data + 0 * super().batch(key, count)


def test_a_cost_does_not_depend_on_where_arrays_are():
    """Committed arrays would take the programs along to their device."""
    data = jnp.ones((BATCH, WIDTH))
    committed = jax.device_put(data, jax.devices()[-1])
    assert committed.committed and not data.committed
    free, bound = (
        curvopt.cost.EvaluationCosts(Anchored(False, x), curvopt.AdjointCurvature())
        for x in (data, committed)
    )
    for kind in ("curvature", "loss", "slope"):
        assert free[kind] == bound[kind] > 0, kind


def test_the_cost_of_a_step():
    """With one turn of each loop, what lies outside of them would count too much."""
    loop, unrolled = (
        curvopt.cost.EvaluationCosts(Recurrent(unroll), curvopt.AdjointCurvature())
        for unroll in (False, True)
    )
    for kind in ("curvature", "loss"):
        assert loop[kind] == pytest.approx(unrolled[kind], rel=0.02), kind


def test_a_loop_that_only_moves_data():
    """Guards against nan: XLA's analysis of such a body has no entry for operations."""

    def copied(rows):
        return jax.lax.scan(lambda c, row: (c, row[::-1]), 0, rows)[1]

    assert 0 <= flops(copied, array(7, 4)) < 100
