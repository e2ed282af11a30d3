"""The average of the points, which is the answer of a solver in place of the last one."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx
import pytest

import curvopt
from strategies import ExponentialAverage, LearningRate, Momentum, SGD, WindowAverage


PLAIN = curvopt.LineSearchMinimiser(Momentum(), LearningRate(0.2))
SOLVER = dataclasses.replace(PLAIN, average=ExponentialAverage(0.6))


def assert_close(a, b, **options):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **options), a, b)


def test_the_steps_do_not_see_it(regression):
    """What is recorded of the steps is the same to the bit; the metrics are the average's,
    but for those of the start."""
    data = curvopt.run_study(
        regression,
        {"last": PLAIN, "average": SOLVER},
        seeds=2,
        steps=6,
        evaluations=3,
        progress=False,
    )
    last, average = data.sel(strategy="last"), data.sel(strategy="average")
    np.testing.assert_array_equal(average.loss, last.loss)
    first, *later = np.moveaxis(average.train_loss.values, -1, 0)
    np.testing.assert_array_equal(first, last.train_loss.isel(evaluation_step=0))
    assert not np.isclose(later, last.train_loss.values[..., 1:].T).any()


def test_train_returns_it_and_the_last_point(regression, tmp_path):
    """So does whoever is told of the evaluation, and whoever loads the run."""
    seen = []
    options = {"steps": 5, "evaluations": 1, "progress": False}
    result = curvopt.train(
        regression,
        SOLVER,
        jr.key(3),
        folder=tmp_path,
        on_evaluation=lambda e: seen.append(e.params()),
        **options,
    )
    plain = curvopt.train(regression, PLAIN, jr.key(3), **options)
    assert_close(result.iterate, plain.params, rtol=1e-6)
    assert_close(plain.iterate, plain.params, rtol=0)
    average = result.solver_state.average.point
    assert_close(result.params, average, rtol=0)
    assert_close(seen[-1], result.params, rtol=0)
    evaluated = regression.evaluate(result.params, None)["train_loss"]
    np.testing.assert_allclose(result.history.train_loss[-1], evaluated, rtol=1e-5)
    assert not np.isclose(evaluated, plain.history.train_loss[-1])
    run = curvopt.load_run(tmp_path, problem=regression)
    assert_close(run.params, result.params, rtol=0)
    named = curvopt.load_run(tmp_path).params["layers"][0]["weight"]
    np.testing.assert_array_equal(named, result.params.layers[0].weight)


def test_a_loop_of_ones_own_goes_on_from_the_last_point(regression):
    options = {"evaluations": 1, "progress": False}
    part = curvopt.train(regression, SOLVER, jr.key(1), steps=3, **options)
    whole = curvopt.train(regression, SOLVER, jr.key(1), steps=4, **options)
    _, batch_key, loss_key, _ = jr.split(jr.key(1), 4)
    count = jnp.array(3)
    args = (
        regression.batch(batch_key, count),
        part.model_state,
        jr.fold_in(loss_key, count),
    )
    step = eqx.filter_jit(lambda *given: SOLVER.update(regression.loss, *given))
    y, state, *_ = step(part.iterate, args, count, part.solver_state)
    assert_close(state.answer(y), whole.params, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_model_with_a_state(stateful):
    """The state is that of the last point."""
    run = lambda solver: curvopt.train(stateful, solver, jr.key(0), steps=3, progress=False)
    plain, both = run(PLAIN), run(SOLVER)
    assert_close(
        jax.tree.leaves(both.model_state), jax.tree.leaves(plain.model_state), rtol=1e-5
    )
    assert (both.history["size"] != plain.history["size"]).any()


class Half(curvopt.AbstractProblem):
    def init(self, key):
        return {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2)}, None

    def batch(self, key, count):
        return jr.normal(jr.fold_in(key, count), (2,))

    def loss(self, params, args):
        wide = params["a"].astype(jnp.float32) - args[0]
        return jnp.sum(wide**2) + jnp.sum(params["b"] ** 2), (None, {})

    def evaluate(self, params, model_state):
        assert params["a"].dtype == jnp.bfloat16
        return {"size": curvopt.tree_norm(params)}

    @property
    def steps_per_epoch(self):
        return 1


def test_half_precision(tmp_path):
    """Guards against an average in bfloat16, which stands still at a decay near one."""
    solver = curvopt.LineSearchMinimiser(
        SGD(), LearningRate(0.1), average=ExponentialAverage(0.999)
    )
    options = {"steps": 4, "progress": False, "folder": tmp_path}
    result = curvopt.train(Half(), solver, jr.key(0), **options)
    average = result.solver_state.average.point
    assert {x.dtype for x in jax.tree.leaves(average)} == {jnp.dtype("float32")}
    for params in (result.params, curvopt.load_run(tmp_path, problem=Half()).params):
        np.testing.assert_array_equal(params["a"], average["a"].astype(jnp.bfloat16))
        assert params["a"].dtype == jnp.bfloat16


def bowl(y, args):
    return jnp.sum(args * y**2)


def test_minimise_returns_it():
    """The value, and the loss and auxiliary output there."""
    solver = curvopt.LineSearchMinimiser(
        SGD(), LearningRate(0.1), average=WindowAverage(1.0)
    )
    args, y0 = jnp.array([1.0, 2.0]), jnp.array([1.0, -2.0])
    fn = lambda y, args: (bowl(y, args), y)
    solution = optx.minimise(fn, solver, y0, args, max_steps=3, throw=False, has_aux=True)
    points = [y0 * (1 - 0.2 * args) ** k for k in range(4)]
    np.testing.assert_allclose(solution.value, np.mean(points, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(solution.aux, solution.value)
    loss = bowl(solution.value, args)
    np.testing.assert_allclose(solution.stats["loss"], loss, rtol=1e-6)


def test_after_a_failure_minimise_returns_the_last_point_with_a_finite_loss():
    """Guards against an average with a point that is not finite in it."""
    cliff = lambda y, _: jnp.where(y < 0.5, jnp.nan, y)
    solver = curvopt.LineSearchMinimiser(
        SGD(), LearningRate(0.4), average=WindowAverage(1.0)
    )
    solution = optx.minimise(cliff, solver, jnp.array(1.0), throw=False)
    assert solution.result == optx.RESULTS.nonfinite
    np.testing.assert_allclose(solution.value, 0.6)


def test_a_grid_of_averages_is_one_family(regression):
    """Its hyper-parameters are data, and each lane is what a single run gives."""
    windows = [0.1, 1.0]
    make = lambda window: dataclasses.replace(PLAIN, average=WindowAverage(window))
    options = {"steps": 4, "evaluations": 1, "progress": False}
    data = curvopt.run_study(
        regression, {"a": curvopt.Family(make, window=windows)}, seeds=2, **options
    )
    for window in windows:
        own = curvopt.run_study(regression, {"a": make(window)}, seeds=2, **options)
        found = data.train_loss.sel(window=window)
        np.testing.assert_allclose(found, own.train_loss, rtol=1e-5)


class Broken(curvopt.AbstractAverage):
    def step(self, y, direction, average, state):
        return {"other": y}, state


class Bare(curvopt.AbstractAverage):
    def step(self, y, direction, average, state):
        return average


def test_what_an_average_must_return(regression, unchecked):
    for average, match in (
        (Broken(), "Broken.step must return a state with the structure"),
        (Bare(), r"Bare.step must return \(average, state\)"),
    ):
        solver = dataclasses.replace(PLAIN, average=average)
        with pytest.raises(ValueError, match=match):
            curvopt.train(regression, solver, jr.key(0), steps=1, progress=False)
    params, _ = regression.init(jr.key(0))
    state = PLAIN.init_strategy(params, jr.key(0))
    args = regression.batch(jr.key(0), jnp.array(0)), None, jr.key(0)
    with pytest.raises(ValueError, match="made by a solver without one"):
        SOLVER.update(regression.loss, params, args, jnp.array(0), state)
    with pytest.raises(ValueError, match="average must be an instance of curvopt"):
        dataclasses.replace(PLAIN, average=SGD())
