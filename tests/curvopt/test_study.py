import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix as optx
import pytest

import curvopt
from strategies import Adam, CurvatureRescaling, LearningRate, Momentum, recipes, SGD


def rescaled(direction, **kwargs):
    return curvopt.LineSearchMinimiser(direction, CurvatureRescaling(**kwargs))


def fixed(rate):
    return curvopt.LineSearchMinimiser(SGD(), LearningRate(rate))


QUIET = {"progress": False, "evaluations": 2}


def test_the_dataset(regression):
    strategies = {"a": fixed(0.1), "b": rescaled(SGD())}
    data = curvopt.run_study(regression, strategies, seeds=[4, 7], steps=6, **QUIET)
    assert data.loss.dims == ("strategy", "seed", "step")
    assert data.train_loss.dims == ("strategy", "seed", "evaluation_step")
    assert data.seconds.dims == data.compile_seconds.dims == ("strategy",)
    assert list(data.strategy.values) == ["a", "b"]
    assert list(data.seed.values) == [4, 7]
    assert data.curvature.sel(strategy="a").isnull().all()
    assert data.curvature.sel(strategy="b").notnull().all()
    np.testing.assert_allclose(data.step_size.sel(strategy="a"), 0.1, rtol=1e-6)
    assert "definition" in data.gradient_equivalents.attrs
    assert json.loads(data.attrs["versions"])["jax"] == jax.__version__
    assert "CurvatureRescaling" in json.loads(data.attrs["strategies"])["b"]
    costs = data.gradient_equivalents.isel(step=-1, seed=0)
    of = curvopt.EvaluationCosts(regression, curvopt.AdjointCurvature())
    value_and_gradient = 6 * of.of_direction(SGD())
    np.testing.assert_allclose(costs.sel(strategy="a"), value_and_gradient)
    np.testing.assert_allclose(
        costs.sel(strategy="b"), value_and_gradient + 6 * of["curvature"]
    )


def test_a_seed_gives_every_strategy_the_same_start_and_batches(regression):
    strategies = {"a": fixed(0.1), "b": recipes.rescaled(Adam(), steps=5)}
    data = curvopt.run_study(regression, strategies, seeds=3, steps=5, **QUIET)
    first = data.loss.isel(step=0)
    np.testing.assert_allclose(first.sel(strategy="a"), first.sel(strategy="b"), rtol=1e-6)
    seen = data.batch_seen
    np.testing.assert_allclose(seen.sel(strategy="a"), seen.sel(strategy="b"), rtol=1e-6)
    assert len(np.unique(first.sel(strategy="a"))) == 3


@pytest.mark.parametrize(
    "solver",
    [
        fixed(0.1),
        rescaled(Momentum(), average=0.9, along="fresh"),
        recipes.rescaled(Adam(), steps=12),
    ],
)
def test_vmap_over_seeds_equals_a_loop_over_seeds(regression, solver):
    data = curvopt.run_study(regression, {"s": solver}, seeds=[2, 5], steps=12, **QUIET)
    for seed in (2, 5):
        alone = curvopt.train(regression, solver, jr.key(seed), steps=12, **QUIET)
        together = data.sel(strategy="s", seed=seed)
        for name in ("loss", "step_size", "train_loss"):
            np.testing.assert_allclose(
                together[name], alone.history[name], rtol=2e-4, atol=1e-6, err_msg=name
            )


def test_a_diverged_seed_touches_no_other_bit_for_bit(poisoned, regression):
    """The same lanes, once with non-finite neighbours and once with healthy ones."""
    strategies = {"a": rescaled(SGD(), average=0.9), "b": fixed(0.05)}
    sick = curvopt.run_study(poisoned, strategies, seeds=8, steps=10, **QUIET)
    healthy = curvopt.run_study(regression, strategies, seeds=8, steps=10, **QUIET)
    finite = np.isfinite(sick.loss).all("step")
    assert 0 < finite.sum() < finite.size
    for name in ("loss", "step_size", "train_loss"):
        np.testing.assert_array_equal(sick[name].where(finite), healthy[name].where(finite))
    # Recorded as it is, and counted as a finite worst value.
    final = curvopt.final_metric(sick, "train_loss")
    assert np.isfinite(final).all()
    lost = ~finite.sel(strategy="a").values
    assert sick.guard_nonfinite.sel(strategy="a").values[lost].any()


def test_final_metric_replaces_what_diverged_by_the_start():
    import xarray as xr

    values = [[2.0, 1.0, 0.5], [3.0, 1.0, np.nan], [4.0, np.inf, np.inf]]
    data = xr.Dataset({"m": (("seed", "evaluation_step"), values)})
    np.testing.assert_array_equal(curvopt.final_metric(data, "m"), [0.5, 3.0, 4.0])


def test_a_metric_that_is_not_there():
    import xarray as xr

    data = xr.Dataset({"m": (("seed", "evaluation_step"), [[1.0]])})
    with pytest.raises(ValueError, match="no metric 'n'; there are: m"):
        curvopt.final_metric(data, "n")


def test_one_trace_for_each_strategy(regression, traces):
    """Guards against a second trace for the shapes, for chunks of another length, for
    evaluations, and for learning rates."""
    strategies = {"a": fixed(0.1), "b": rescaled(SGD())}
    run = lambda s, **kw: curvopt.run_study(regression, s, seeds=2, **(QUIET | kw))
    run(strategies, steps=11, chunk=4)
    # The cost analysis makes one batch for each study.
    from curvopt import _lane

    cached = _lane.advance._cached._cache_size()
    count = len(traces)
    assert count <= 4
    run({"c": fixed(0.3), "d": rescaled(SGD(), learning_rate=1)}, steps=11, chunk=4)
    assert _lane.advance._cached._cache_size() == cached
    assert len(traces) - count <= 1  # none but that of the cost analysis


def test_a_grid_is_one_program_and_equals_single_runs(regression, traces):
    rates = [0.01, 0.1, 0.3]
    grid = curvopt.run_grid(
        regression, {"SGD": fixed}, rates, seeds=[0, 3], steps=8, progress=False
    )
    assert len(traces) <= 3
    assert grid.loss.dims == ("strategy", "value", "seed", "step")
    assert grid.train_loss.sizes["evaluation_step"] == 2
    for rate in rates:
        single = curvopt.run_study(
            regression, {"SGD": fixed(rate)}, seeds=[0, 3], steps=8, **QUIET
        )
        np.testing.assert_allclose(
            grid.loss.sel(value=rate, strategy="SGD"),
            single.loss.sel(strategy="SGD"),
            rtol=1e-4,
        )


def test_what_is_finished_can_be_saved_before_the_next(regression):
    seen = []
    strategies = {"a": fixed(0.1), "b": fixed(0.2)}
    curvopt.run_study(
        regression,
        strategies,
        seeds=2,
        steps=3,
        on_strategy=lambda d: seen.append(list(d.strategy.values)),
        **QUIET,
    )
    assert seen == [["a"], ["a", "b"]]


class TestBadInput:
    def test_no_strategy(self, regression):
        with pytest.raises(ValueError, match="there is no strategy"):
            curvopt.run_study(regression, {}, seeds=2, steps=2)

    @pytest.mark.parametrize(
        "metrics, message",
        [
            ({"loss": 1.0}, "cannot be called 'loss'"),
            ({"guard_ascent": 1.0}, "cannot be called 'guard_ascent'"),
            ({"m": np.ones(3)}, r"must be scalars, but 'm' has shape \(3,\)"),
        ],
    )
    def test_metrics(self, regression, metrics, message, unchecked):
        class Odd(type(regression)):
            def evaluate(self, params, model_state):
                return jax.tree.map(jnp.asarray, metrics)

        with pytest.raises(ValueError, match=message):
            curvopt.run_study(Odd(), {"a": fixed(0.1)}, seeds=2, steps=2, **QUIET)

    def test_a_solver_of_another_kind(self, regression, unchecked):
        solver = optx.BFGS(1e-3, 1e-3)
        with pytest.raises(ValueError, match="'a' must be a curvopt.LineSearchMinimiser"):
            curvopt.run_study(regression, {"a": solver}, seeds=1, steps=2)

    @pytest.mark.parametrize("seeds", [0, [], [1, 1], [-1], [2**32], [1.5]])
    def test_seeds(self, regression, seeds, unchecked):
        with pytest.raises(ValueError, match="seeds must be"):
            curvopt.run_study(regression, {"a": fixed(0.1)}, seeds=seeds, steps=2)

    def test_steps(self, regression):
        with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
            curvopt.run_study(regression, {"a": fixed(0.1)}, seeds=1, steps=0)

    @pytest.mark.parametrize("values", [[], [0.1, float("nan")]])
    def test_grid(self, regression, values):
        with pytest.raises(ValueError, match="values must be at least one finite"):
            curvopt.run_grid(regression, {"a": fixed}, values, seeds=1, steps=2)

    def test_grid_value_outside_the_range_of_the_rule(self, regression):
        with pytest.raises(ValueError, match="learning_rate must be at least 0"):
            curvopt.run_grid(regression, {"a": fixed}, [0.1, -1.0], seeds=1, steps=2)

    def test_parameters_that_are_no_arrays(self, regression, unchecked):
        class Whole(type(regression)):
            def init(self, key):
                return self._model(key), None

        with pytest.raises(ValueError, match=r"activation.*eqx.partition"):
            curvopt.run_study(Whole(), {"a": fixed(0.1)}, seeds=1, steps=1, **QUIET)


def test_a_branch_on_the_count_stays_a_branch_under_vmap(regression):
    """A `cond` whose predicate is batched would become a `select` that pays for both."""
    from curvopt import _lane, _run

    class EverySecond(curvopt.AbstractLineSearch):
        def init(self, y):
            del y

        def step(self, line, count, state):
            step_size = jax.lax.cond(
                count % 2 == 0, lambda: line.at(jnp.array(0.1)), lambda: jnp.array(0.1)
            )
            return step_size, curvopt.StepInfo(), state

    solver = curvopt.LineSearchMinimiser(SGD(), EverySecond())
    keys = jr.split(jr.key(0), 3)
    lanes = _run._lanes(solver, _run._starts(regression, keys, 1), (False,))
    jaxpr = eqx.filter_make_jaxpr(_lane.mapped((False,)))(
        regression, solver, lanes, jnp.array(0)
    )[0]
    assert " cond[" in str(jaxpr)
