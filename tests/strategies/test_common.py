"""Every direction with every line search, through the same checks."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from strategies_by_name import (
    covering,
    DIRECTIONS,
    DIVERGES,
    LINE_SEARCHES,
    marked,
    MONOTONE,
    other_pairs,
    promises_progress,
)

import curvopt


STEPS = 40


def runner(direction, rule, loss, steps):
    """`run(y, args)`, which makes steps and returns where it ended, and the record."""
    solver = curvopt.LineSearchMinimiser(DIRECTIONS[direction], LINE_SEARCHES[rule])

    def run(y, args):
        run.traces += 1
        strategy = solver.init_strategy(y, jr.key(0))

        def body(carry, count):
            y, strategy = carry
            y, strategy, *row = solver.update(loss, y, args, count, strategy)
            return (y, strategy), tuple(row)

        (y, _), (record, aux) = jax.lax.scan(body, (y, strategy), jnp.arange(steps))
        return y, record, aux

    run.traces = 0
    return run


def check_steps(record, finite):
    """What holds for every pair on every problem."""
    steps = np.asarray(record.step_size)
    assert (np.isfinite(steps) & (steps >= 0)).all()
    if finite:
        assert np.isfinite(record.loss).all()
        # What was measured is recorded, and only that.
        asked = np.asarray(record.info.curvatures) > 0
        np.testing.assert_array_equal(np.isfinite(record.info.curvature), asked)


def parameters(dtype):
    """Three starts; a leaf in half precision beside the others."""
    start = lambda k: {
        "a": jnp.array([1.0, -2.0, 0.5], dtype) * (k + 1),
        "b": jnp.full((2, 2), 0.5 + k, jnp.bfloat16),
    }
    return jax.tree.map(lambda *xs: jnp.stack(xs), *(start(k) for k in range(3)))


def quadratic(y, scales):
    a, b = y["a"], y["b"].astype(jnp.float32)
    return 0.5 * jnp.sum(scales * a**2) + jnp.sum((b - 0.25) ** 2), jnp.sum(a)


def check_same(a, b):
    """Bit for bit."""
    for x, z in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x, float), np.asarray(z, float))


def check_runs(direction, rule, dtype, starts, y, record, aux):
    """What holds of several runs on the quadratic."""
    # Dtypes are kept: a strong float64 number promotes no parameter.
    assert y["a"].dtype == dtype and y["b"].dtype == jnp.bfloat16
    assert record.loss.dtype == record.step_size.dtype == dtype
    check_steps(record, (direction, rule) not in DIVERGES)
    # Auxiliary output is that of the point where the step began.
    np.testing.assert_allclose(aux[:, 0], starts["a"].sum(axis=1), rtol=1e-5)
    # The problem is convex: progress, where theory promises it.
    if promises_progress(direction, rule):
        assert (record.loss[:, -1] < 0.5 * record.loss[:, 0]).all()
    if rule in MONOTONE:
        # Half precision rounds the point after the search has looked at it.
        assert (np.diff(record.loss) <= 1e-2 * record.loss[:, :1]).all()


def started(direction, rule, dtype):
    """A run of a pair, to be jitted, and its arguments for three starts."""
    run = runner(direction, rule, quadratic, STEPS)
    return run, (parameters(dtype), jnp.array([1.0, 4.0, 10.0], dtype))


def one_by_one(run, starts, scales):
    one = lambda k: run(jax.tree.map(lambda x: x[k], starts), scales)
    runs = [one(k) for k in range(3)]
    # The same input gives the same output.
    check_same(one(0), runs[0])
    return jax.tree.map(lambda *xs: jnp.stack(xs), *runs)


def in_lanes(run, starts, scales):
    vmapped = jax.jit(jax.vmap(run, in_axes=(0, None)))
    runs = vmapped(starts, scales)
    check_same(vmapped(starts, scales), runs)
    return runs


FEW_PAIRS = covering("float32", "float64")


@pytest.mark.parametrize(
    "direction, rule, dtype",
    [row for row in FEW_PAIRS if row[-1] == "float32"],
    indirect=["dtype"],
)
def test_lanes(direction, rule, dtype):
    """Each direction and each line search. One by one in float32: on the other problems."""
    run, args = started(direction, rule, dtype)
    check_runs(direction, rule, dtype, args[0], *in_lanes(run, *args))
    assert run.traces == 1


@pytest.mark.parametrize(
    "direction, rule, dtype",
    [marked(row, row[-1] == "float64") for row in FEW_PAIRS],
    indirect=["dtype"],
)
def test_lanes_are_as_one_by_one(direction, rule, dtype):
    """Each direction and each line search, with several of the others."""
    run, args = started(direction, rule, dtype)
    jitted = jax.jit(run)
    y, record, aux = one_by_one(jitted, *args)
    _, lanes, _ = in_lanes(jitted, *args)
    assert run.traces == 1
    check_runs(direction, rule, dtype, args[0], y, record, aux)

    # vmapped equals looped, seed by seed: step sizes of the start of the run, for in the
    # end rounding decides, and half precision rounds coarsely.
    first = lambda values: values[:, :5]
    np.testing.assert_allclose(first(lanes.step_size), first(record.step_size), rtol=2e-2)
    np.testing.assert_allclose(first(lanes.loss), first(record.loss), rtol=2e-2, atol=1e-4)


@pytest.mark.product
@pytest.mark.parametrize(
    "direction, rule, dtype", other_pairs("float32", "float64"), indirect=["dtype"]
)
def test_every_other_pair(direction, rule, dtype):
    """One by one: that lanes are as these is a matter of each strategy, not of pairs."""
    run, args = started(direction, rule, dtype)
    check_runs(direction, rule, dtype, args[0], *one_by_one(jax.jit(run), *args))
    assert run.traces == 1


def rosenbrock(y, args):
    del args
    return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2), None


def logistic_regression(y, args):
    x, labels = args
    losses = optax.sigmoid_binary_cross_entropy(x @ y["weight"] + y["bias"], labels)
    return losses.mean() + 1e-3 * jnp.sum(y["weight"] ** 2), None


NETWORK, STATIC = eqx.partition(
    eqx.nn.MLP(4, "scalar", 6, 1, jax.nn.gelu, key=jr.key(0)), eqx.is_inexact_array
)


def network(y, args):
    x, z = args
    return jnp.mean((jax.vmap(eqx.combine(y, STATIC))(x) - z) ** 2), None


X = jr.normal(jr.key(1), (32, 4))
PROBLEMS = {
    "Rosenbrock": (rosenbrock, jnp.array([-0.5, 1.0, 0.5]), None),
    "logistic regression": (
        logistic_regression,
        {"weight": jnp.zeros(4), "bias": jnp.zeros(())},
        (X, (X[:, 0] > 0.3).astype(jnp.float32)),
    ),
    "network": (network, NETWORK, (X, jnp.sin(X.sum(axis=1)))),
}


# Every direction and every line search meets all of these, with a partner of its own in
# each; and one of them in the tests that are always run.
EACH = covering(*PROBLEMS)
LAST = [(direction, rule) for direction, rule, _ in EACH[-len(LINE_SEARCHES) :]]
FEW = [(*pair, problem) for pair, problem in zip(LAST, itertools.cycle(PROBLEMS))]


@pytest.mark.parametrize(
    "direction, rule, problem",
    [marked(row, row in FEW) for row in dict.fromkeys(EACH + FEW)],
)
def test_every_strategy_on_other_problems(direction, rule, problem):
    """Where the loss is not quadratic, and where it is not convex."""
    loss, start, args = PROBLEMS[problem]
    y, record, _ = jax.jit(runner(direction, rule, loss, 10))(start, args)
    # Rosenbrock's function may throw a rule without a search out of the finite numbers.
    check_steps(record, loss is not rosenbrock and (direction, rule) not in DIVERGES)
    assert jax.tree.structure(y) == jax.tree.structure(start)
    if rule in MONOTONE:
        assert (np.diff(record.loss) <= 1e-5 * record.loss[0]).all()
        assert record.loss[-1] < record.loss[0]


def test_each_strategy_is_always_run_on_a_problem():
    assert {direction for direction, _, _ in FEW} == set(DIRECTIONS)
    assert {rule for _, rule, _ in FEW} == set(LINE_SEARCHES)
    assert {problem for *_, problem in FEW} == set(PROBLEMS)
    assert not set(LAST) & {row[:2] for row in FEW_PAIRS}


def test_no_pair_is_left_out():
    pairs = FEW_PAIRS + other_pairs("float32", "float64")
    assert len(pairs) == len(DIRECTIONS) * len(LINE_SEARCHES)
    assert {row[:2] for row in pairs} == set(itertools.product(DIRECTIONS, LINE_SEARCHES))


@pytest.mark.parametrize("rows", [EACH, FEW_PAIRS, covering(None)])
def test_the_few_pairs_of_a_covering(rows):
    """Each strategy meets every setting, with another partner in each."""
    settings = {setting for *_, setting in rows}
    assert len({row[:2] for row in rows}) == len(rows)
    assert len(rows) < len(DIRECTIONS) * len(LINE_SEARCHES) / 4
    for position, names in ((0, DIRECTIONS), (1, LINE_SEARCHES)):
        for name in names:
            met = [row for row in rows if row[position] == name]
            assert {setting for *_, setting in met} == settings
            assert len({row[1 - position] for row in met}) >= len(settings)
