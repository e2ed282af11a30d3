"""A step size for each layer: against the rule with one, by hand, and at rest."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from strategies import (
    HindsightRescaling,
    LayerwiseRescaling,
    LearningRate,
    Momentum,
    RMSProp,
    SGD,
)


VALUES = {"a": jnp.array([1.0, 3.0]), "b": jnp.array([[0.5], [2.0]])}
START = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[3.0], [0.5]])}


def loss(y, noise):
    """A quadratic whose layers are coupled, with a noise of the gradient."""
    flat = jnp.concatenate([x.ravel() for x in jax.tree.leaves(y)])
    own = sum(jnp.vdot(v * x, x) for v, x in zip(VALUES.values(), y.values()))
    return own / 2 + 0.1 * jnp.sum(flat) ** 2 + noise @ flat, None


def run(direction, rule, steps, spread=0.3):
    """The points of a run."""
    solver = curvopt.LineSearchMinimiser(direction, rule)

    @jax.jit
    def step(y, count, state):
        noise = spread * jr.normal(jr.fold_in(jr.key(0), count), (4,))
        return solver.update(loss, y, noise, count, state)

    y, state, points = START, solver.init_strategy(START, jr.key(1)), []
    for count in range(steps):
        y, state, *_ = step(y, jnp.array(count), state)
        points.append(np.concatenate([x.ravel() for x in jax.tree.leaves(y)]))
    return np.array(points), state


@pytest.mark.parametrize("given", [{"learning_rate": 0.7}, {}, {"schedule": None}])
@pytest.mark.parametrize("direction", [RMSProp(), Momentum()])
def test_one_layer_is_the_rule_with_one_step_size(direction, given):
    options = {"schedule": lambda count: 0.9**count, "first": 0.1} | given
    one = LayerwiseRescaling(direction, labels=lambda y: "all", **options)
    found, _ = run(one, LearningRate(1.0), 12)
    rule = HindsightRescaling(**options)
    np.testing.assert_allclose(found, run(direction, rule, 12)[0], rtol=2e-4, atol=1e-5)


def test_the_second_step_by_hand():
    """Without noise and limits; of the first step a part is taken."""
    rule = LayerwiseRescaling(
        SGD(), 0.5, labels=curvopt.array_labels, growth=1e6, max_change=0.99, first=0.7
    )
    points, state = run(rule, LearningRate(0.5), 2, spread=0.0)
    flat = np.concatenate([x.ravel() for x in jax.tree.leaves(START)])
    matrix = np.diag(np.concatenate([v.ravel() for v in VALUES.values()])) + 0.2
    g = matrix @ flat
    first = 0.7 * np.linalg.norm(flat) / np.linalg.norm(g)
    np.testing.assert_allclose(points[0], flat - 0.5 * first * g, rtol=1e-5)
    descent = np.array([g[:2] @ g[:2], g[2:] @ g[2:]])
    halves = slice(0, 2), slice(2, 4)
    terms = np.array([[g[i] @ matrix[i, j] @ g[j] for j in halves] for i in halves])
    root = np.sqrt(np.diag(terms))
    expected = descent / (np.abs(terms) * np.outer(root, 1 / root)).sum(axis=1)
    np.testing.assert_allclose(state.direction.last, expected, rtol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_no_quadratic_rises_along_its_step(seed):
    """Proposition on the rule: from where the last step began, the step sizes that it was
    to have had do not raise the loss at the edge, whatever the cross terms are."""
    a, y = jr.normal(jr.key(seed), (4, 4)), jr.normal(jr.key(seed + 100), (4,))
    quadratic = lambda y, _: (y @ (a + a.T) @ y / 2, None)
    each = lambda y: {"a": y[0], "b": y[1:3], "c": y[3]}
    whole = lambda y: jnp.concatenate([jnp.atleast_1d(y[name]) for name in "abc"])
    rule = LayerwiseRescaling(
        SGD(), 1.0, labels=curvopt.array_labels, growth=1e9, max_change=0.9999, first=0.1
    )
    fn = lambda y, args: quadratic(whole(y), args)
    points, state = [each(y)], rule.init(each(y), key=jr.key(0))
    for _ in range(2):
        model = curvopt.quadratic_model(fn, points[-1], has_aux=True)
        descent, state = rule.step(model, points[-1], state)
        points.append(jax.tree.map(jnp.add, points[-1], descent.u))
    gradient = jax.grad(fn, has_aux=True)(points[0], None)[0]
    # A bound of the change is in the way only where a layer is not to move.
    sizes = {name: jnp.where(x < 1e-3, 0, x) for name, x in zip("abc", state.last)}
    judged = jax.tree.map(lambda y, t, g: y - t * g, points[0], sizes, gradient)
    assert fn(judged, None)[0] <= fn(points[0], None)[0] + 1e-5
    assert fn(judged, None)[0] < fn(points[0], None)[0] or max(state.last) < 1e-3


def test_layers_have_steps_of_their_own():
    """A layer of a hundredth of the scale gets a step size a hundred times as long."""
    y = {"a": jnp.ones(3), "b": jnp.ones(3)}
    rule = LayerwiseRescaling(SGD(), 0.5, labels=curvopt.array_labels, growth=1e6)
    solver = curvopt.LineSearchMinimiser(rule, LearningRate(1.0))
    two = lambda y, _: (jnp.sum(y["a"] ** 2) / 2 + jnp.sum(y["b"] ** 2) / 200, None)
    state = solver.init_strategy(y, jr.key(0))
    step = jax.jit(lambda y, count, state: solver.update(two, y, None, count, state))
    for count in range(150):
        y, state, *_ = step(y, jnp.array(count), state)
    a, b = state.direction.last
    np.testing.assert_allclose([a, b], [1, 100], rtol=0.05)


def test_what_is_not_finite_is_skipped():
    rule = LayerwiseRescaling(SGD(), 0.5, labels=curvopt.array_labels)
    state = rule.init(START, key=jr.key(0))
    model = lambda y, bad: curvopt.quadratic_model(
        lambda y, noise: (loss(y, noise)[0] * jnp.where(bad, jnp.nan, 1), None),
        y,
        jnp.zeros(4),
        has_aux=True,
    )
    first, state = rule.step(model(START, False), START, state)
    y = jax.tree.map(jnp.add, START, first.u)
    bad, after = rule.step(model(y, True), y, state)
    assert all(np.all(x == 0) for x in jax.tree.leaves(bad.u))
    for name in ("descent", "curvature", "last", "longest"):
        np.testing.assert_array_equal(getattr(after, name), getattr(state, name))
    again, _ = rule.step(model(y, False), y, after)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(again.u))
