"""Gradient clipping and weight decay around other directions."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import curvopt
from strategies import (
    Adam,
    CurvatureRescaling,
    ForwardGradient,
    FromOptax,
    GradientClipping,
    HyperplaneSearch,
    LearningRate,
    Momentum,
    SGD,
    WeightDecay,
)


Y = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.3, -0.2])}
OF_MATRICES = lambda y: jax.tree.map(lambda x: x.ndim > 1, y)


def loss(y, args=None):
    del args
    z = jnp.tanh(y["w"] @ jnp.array([1.0, -0.5])) + y["b"]
    return jnp.sum((z - 0.2) ** 2) + 0.1 * jnp.sum(y["w"] ** 4)


def points_of(direction, line_search=None, steps=6):
    """The points of a solver's first steps, and its record."""
    line_search = LearningRate(0.05) if line_search is None else line_search
    solver = curvopt.LineSearchMinimiser(direction, line_search)
    fn = lambda y, args: (loss(y), None)

    @jax.jit
    def run(y):
        def body(carry, count):
            y, state = carry
            y, state, record, _ = solver.update(fn, y, None, count, state)
            return (y, state), (y, record)

        state = solver.init_strategy(y, jr.key(0))
        return jax.lax.scan(body, (y, state), jnp.arange(steps))[1]

    return run(jax.tree.map(lambda x: x.astype(float), Y))


def assert_close(a, b, rtol=1e-5):
    for x, z in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, z, rtol=rtol, atol=1e-7)


# Made in a test: hyper-parameters take jax's precision when they are made.
PAIRS = {
    "clipped Adam": lambda: (
        GradientClipping(Adam(), 0.5),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1.0)),
    ),
    "clipped, sometimes": lambda: (
        GradientClipping(Momentum(0.9, 0.0), 9.0),
        optax.chain(optax.clip_by_global_norm(9.0), optax.sgd(1.0, momentum=0.9)),
    ),
    "AdamW": lambda: (WeightDecay(Adam(), 0.3), optax.adamw(1.0, weight_decay=0.3)),
    "AdamW of matrices": lambda: (
        WeightDecay(Adam(0.8, 0.99, 1e-6), 0.3, OF_MATRICES),
        optax.adamw(1.0, 0.8, 0.99, 1e-6, weight_decay=0.3, mask=OF_MATRICES),
    ),
    "clipped AdamW": lambda: (
        WeightDecay(GradientClipping(Adam(), 0.5), 0.3),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(1.0, weight_decay=0.3)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_against_optax(name, x64):
    direction, tx = PAIRS[name]()
    ours, record = points_of(direction)
    theirs, _ = points_of(FromOptax(tx))
    assert_close(ours, theirs, rtol=1e-10)
    if name == "clipped, sometimes":
        clipped = np.asarray(record.gradient_norm) > 9
        assert clipped.any() and not clipped.all()


class TestGradientClipping:
    def test_slope_and_curvature_are_of_the_loss(self):
        """A rule that divides them takes the step that it takes along the gradient."""
        clipped, info = points_of(GradientClipping(SGD(), 0.1), CurvatureRescaling())
        plain, plain_info = points_of(SGD(), CurvatureRescaling())
        assert_close(clipped, plain, rtol=1e-3)
        factor = np.minimum(1, 0.1 / np.asarray(plain_info.gradient_norm))
        assert_close(info.info.slope, factor * plain_info.info.slope, rtol=1e-3)
        assert_close(info.step_size * factor, plain_info.step_size, rtol=1e-3)

    def test_a_gradient_that_is_not_finite_stays_so(self):
        model = curvopt.QuadraticModel(
            grad=jnp.array([1.0, jnp.inf]), curvature=lambda u: jnp.zeros(())
        )
        descent, _ = GradientClipping(SGD()).step(model, jnp.zeros(2), None)
        assert not np.isfinite(descent.u).all()

    @pytest.mark.parametrize(
        "direction", [ForwardGradient(), HyperplaneSearch((ForwardGradient(),))]
    )
    def test_what_reads_no_gradient(self, direction):
        with pytest.raises(ValueError, match="direction must read the gradient"):
            GradientClipping(direction)

    def test_bad_arguments(self, unchecked):
        with pytest.raises(ValueError, match="max_norm must be above 0, but it is 0"):
            GradientClipping(SGD(), 0)
        with pytest.raises(ValueError, match="direction must be an instance of curvopt"):
            GradientClipping(SGD)


class TestWeightDecay:
    def test_slope_and_curvature_of_the_decayed_line(self, x64):
        """By the dense Hessian, as the docstring has them."""
        y, decay = jr.normal(jr.key(0), (4,), jnp.float64), 0.7
        fn = lambda y, args: jnp.sum(jnp.sin(y)) + jnp.prod(y)

        @jax.jit
        def run(y):
            model = curvopt.quadratic_model(fn, y)
            descent, _ = WeightDecay(SGD(), decay).step(model, y, None)
            measured = model.slope(descent.u), model.curvature(descent.u)
            return measured, model.grad, jax.hessian(fn)(y, None)

        measured, g, hessian = run(y)
        u = -g
        slope = g @ u - decay * g @ y
        curvature = (
            u @ hessian @ u - 2 * decay * u @ hessian @ y + decay**2 * y @ hessian @ y
        )
        np.testing.assert_allclose(measured, (slope, curvature), rtol=1e-12)

    def test_both_parts_decay(self):
        model = curvopt.quadratic_model(loss, Y)
        plain, _ = Momentum().step(model, Y, curvopt.tree_zeros(Y))
        descent, _ = WeightDecay(Momentum(), 0.1).step(model, Y, curvopt.tree_zeros(Y))
        decayed = lambda u: jax.tree.map(lambda u, y: u - 0.1 * y, u, Y)
        assert_close(descent.u, decayed(plain.u))
        assert_close(descent.fresh, decayed(plain.fresh))
        # What was one vector stays one: it is evaluated once.
        descent, _ = WeightDecay(SGD(), 0.1).step(model, Y, None)
        assert descent.fresh is descent.u

    def test_where_the_decay_ascends(self):
        """Where <g, g + decay y> is negative, a rule that descends does not move."""
        solver = curvopt.LineSearchMinimiser(WeightDecay(SGD(), 1.0), CurvatureRescaling())
        fn = lambda y, args: (0.5 * jnp.sum((y - 1) ** 2), None)
        update = jax.jit(
            lambda y, state: solver.update(fn, y, None, jnp.array(0), state)[:3]
        )
        for start, stays in ((0.9, True), (0.2, False), (1.5, False)):
            y = jnp.array([start])
            g = y - 1
            assert (g @ (g + y) < 0) == stays
            state = solver.init_strategy(y, jr.key(0))
            new, _, record = update(y, state)
            assert bool(record.info.ascent) == stays == bool((new == y).all())

    def test_a_mask_may_be_a_prefix(self):
        model = curvopt.quadratic_model(loss, Y)
        none, _ = WeightDecay(SGD(), 0.1, lambda y: False).step(model, Y, None)
        assert_close(none.u, jax.tree.map(jnp.negative, model.grad))

    def test_bad_arguments(self, unchecked):
        with pytest.raises(ValueError, match="weight_decay must be at least 0"):
            WeightDecay(SGD(), -0.1)
