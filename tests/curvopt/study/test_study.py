import json
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optimistix as optx
import pytest
import xarray as xr

import curvopt
from strategies import (
    Adam,
    CurvatureRescaling,
    ForwardGradient,
    FromOptax,
    HyperplaneSearch,
    LearningRate,
    Momentum,
    recipes,
    SGD,
)


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
    of = curvopt.cost.EvaluationCosts(regression, curvopt.AdjointCurvature())
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
        pytest.param(fixed(0.1), marks=pytest.mark.slow),
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
    values = [[2.0, 1.0, 0.5], [3.0, 1.0, np.nan], [4.0, np.inf, np.inf]]
    data = xr.Dataset({"m": (("seed", "evaluation_step"), values)})
    np.testing.assert_array_equal(curvopt.final_metric(data, "m"), [0.5, 3.0, 4.0])


def test_a_metric_that_is_not_there():
    data = xr.Dataset({"m": (("seed", "evaluation_step"), [[1.0]])})
    with pytest.raises(ValueError, match="no metric 'n'; there are: m"):
        curvopt.final_metric(data, "n")


@pytest.mark.parametrize(
    "loop, width",
    [
        ("scan", 2),
        ("dispatch", 1),
        pytest.param("scan", 1, marks=pytest.mark.slow),
        pytest.param("dispatch", 2, marks=pytest.mark.slow),
    ],
)
def test_one_trace_for_each_strategy(regression, traces, loop, width):
    """Guards against a second trace for the shapes, for chunks of another length, for
    evaluations, and for learning rates; in either loop, at once or one after another."""
    strategies = {"a": fixed(0.1), "b": rescaled(SGD())}
    others = {"c": fixed(0.3), "d": rescaled(SGD(), learning_rate=1)}
    how = curvopt.Execution(loop=loop, lanes_at_once=width, chunk=4)
    for chosen, most in ((strategies, 6), (others, 4)):
        count = len(traces)
        curvopt.run_study(regression, chosen, seeds=2, steps=11, execution=how, **QUIET)
        # Of each strategy its steps, a look for convolutions, and one batch for the
        # analysis of costs. Nothing but looks and batches the second time.
        assert len(traces) - count <= most


def test_a_grid_is_one_program_and_equals_single_runs(regression, traces):
    rates = [0.01, 0.1, 0.3]
    grid = curvopt.run_study(
        regression,
        {"SGD": fixed},
        hyperparameters={"rate": rates},
        seeds=[0, 3],
        steps=8,
        **QUIET,
    )
    assert len(traces) <= 4
    assert grid.loss.dims == ("strategy", "rate", "seed", "step")
    assert grid.train_loss.sizes["evaluation_step"] == 3
    for rate in rates[::2]:
        single = curvopt.run_study(
            regression, {"SGD": fixed(rate)}, seeds=[0, 3], steps=8, **QUIET
        )
        np.testing.assert_allclose(
            grid.loss.sel(rate=rate, strategy="SGD"),
            single.loss.sel(strategy="SGD"),
            rtol=1e-4,
        )


@pytest.mark.slow
def test_two_hyperparameters(regression):
    """All combinations, each where its coordinates say."""
    family = lambda rate, beta: curvopt.LineSearchMinimiser(
        Momentum(beta), LearningRate(rate)
    )
    grid = {"rate": [0.01, 0.1], "beta": [0.0, 0.5, 0.9]}
    data = curvopt.run_study(
        regression, {"m": family}, hyperparameters=grid, seeds=2, steps=5, **QUIET
    )
    assert data.loss.dims == ("strategy", "rate", "beta", "seed", "step")
    single = curvopt.run_study(
        regression, {"m": family(0.1, 0.5)}, seeds=2, steps=5, **QUIET
    )
    chosen = data.sel(rate=0.1, beta=0.5)
    np.testing.assert_allclose(chosen.loss, single.loss, rtol=1e-4)
    np.testing.assert_allclose(chosen.train_loss, single.train_loss, rtol=1e-4)


@pytest.mark.slow
def test_the_norm_of_the_gradient(regression):
    """Recorded where the direction reads the gradient, and not computed where not."""
    strategies = {
        "SGD": fixed(0.1),
        "forward": curvopt.LineSearchMinimiser(ForwardGradient(), LearningRate(0.01)),
        "plane": curvopt.LineSearchMinimiser(
            HyperplaneSearch((ForwardGradient(), SGD())), LearningRate(1.0)
        ),
    }
    data = curvopt.run_study(regression, strategies, seeds=2, steps=3, **QUIET)
    norms = data.gradient_norm
    assert norms.sel(strategy="forward").isnull().all()
    assert (norms.sel(strategy=["SGD", "plane"]) > 0).all()
    # Of SGD the slope along -g is minus the square of it.
    slope = curvopt.run_study(
        regression, {"s": rescaled(SGD())}, seeds=2, steps=1, **QUIET
    ).slope
    first = norms.sel(strategy="SGD").isel(step=[0])
    np.testing.assert_allclose(-slope.sel(strategy="s"), first**2, rtol=1e-5)


def test_a_diverged_lane_is_recorded_and_costs_nothing_more(regression):
    strategies = {"good": fixed(0.1), "bad": fixed(1e8)}
    data = curvopt.run_study(regression, strategies, seeds=3, steps=400, **QUIET)
    at = data.diverged_at
    assert (at.sel(strategy="good") == -1).all()
    at = at.sel(strategy="bad").values
    assert ((at > 0) & (at < 50)).all()
    for k, first in enumerate(at):
        lane = data.sel(strategy="bad").isel(seed=k)
        assert np.isfinite(lane.loss[:first]).all()
        assert not np.isfinite(lane.loss[first:]).any()
        spent = lane.gradient_equivalents.values
        assert (np.diff(spent[: first + 1]) > 0).all() and (
            spent[first:] == spent[first]
        ).all()
    assert data.train_loss.sel(strategy="bad").isel(evaluation_step=0).notnull().all()
    # No step is made of lanes that have all diverged.
    seconds = data.seconds
    assert data.evaluated_losses.sel(strategy="bad").sum() == 0
    assert data.loss.sel(strategy="good").notnull().all() and (seconds > 0).all()


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 3, 5])
def test_metrics_of_lanes_that_die_together(regression, chunk):
    """Guards against evaluations that were left out and read as zero, and against metrics
    that depend on where a chunk ends."""
    how = curvopt.Execution(chunk=chunk)
    data = curvopt.run_study(
        regression,
        {"bad": fixed(1e8)},
        seeds=2,
        steps=100,
        evaluations=20,
        execution=how,
        progress=False,
    )
    at = int(data.diverged_at.max())
    late = data.train_loss.sel(evaluation_step=data.evaluation_step > at)
    assert at < 20 and late.isnull().all() and late.size
    assert (data.train_loss != 0).all()


class Embedding(curvopt.AbstractProblem):
    """Each batch sees one of two parameters; the second one's example is infinite."""

    def init(self, key):
        return jnp.array([2.0, 1.0]), {"count": jnp.array(0)}

    def batch(self, key, count):
        row = count % 2
        return row, jnp.array([0.0, jnp.inf])[row]

    def loss(self, params, args):
        (row, target), state, _ = args
        state = {"count": state["count"] + 1}
        return (params[row] - target) ** 2, (state, {"row": row})

    def evaluate(self, params, model_state):
        # A metric that says nothing of whether the run is sound.
        return {"first": params[0], "count": model_state["count"]}

    @property
    def steps_per_epoch(self):
        return 2


def test_parameters_that_are_lost_behind_a_finite_loss():
    """A run diverged where its parameters did, though its last loss does not see them: from
    the first evaluation that finds them lost, wherever a chunk ends."""
    for chunk in (1, 2, 11):
        data = curvopt.run_study(
            Embedding(),
            {"s": fixed(0.1)},
            seeds=1,
            steps=11,
            evaluations=3,
            execution=curvopt.Execution(chunk=chunk),
            progress=False,
        )
        assert list(data.evaluation_step.values) == [0, 4, 7, 11]
        assert data.diverged_at.item() == 4
        np.testing.assert_allclose(data.loss.values.ravel()[:5:2], [4, 2.56, 1.6384], 1e-5)
        assert data.loss.values.ravel()[5:].size and data.loss[..., 5:].isnull().all()
        assert curvopt.final_metric(data, "count").item() == 0


def test_parameters_that_the_last_step_loses(regression):
    """No loss sees them, but the last evaluation does."""
    wild = lambda count: jnp.where(count == 3, jnp.inf, 1.0)
    strategies = {
        "sound": fixed(0.1),
        "lost": curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1, wild)),
    }
    data = curvopt.run_study(regression, strategies, seeds=2, steps=4, **QUIET)
    assert data.loss.notnull().all()
    assert data.diverged_at.values.tolist() == [[-1, -1], [3, 3]]
    start = data.train_loss.sel(strategy="lost").isel(evaluation_step=0)
    final = curvopt.final_metric(data, "train_loss").sel(strategy="lost")
    np.testing.assert_array_equal(final, start)


def test_a_diverged_run_counts_as_its_start_whatever_its_metric_says(regression):
    """Guards against an accuracy of parameters that are not numbers."""

    class Counted(type(regression)):
        def evaluate(self, params, model_state):
            bad = ~jnp.isfinite(params.layers[0].weight[0, 0])
            return {"count": jnp.where(bad, 0, 7)}

    strategies = {"good": fixed(0.1), "bad": fixed(1e8)}
    data = curvopt.run_study(Counted(), strategies, seeds=9, steps=60, **QUIET)
    assert (curvopt.final_metric(data, "count") == 7).all()
    comparison = curvopt.compare(data, "count", baseline="good")
    assert comparison.diverged == {"good": 0, "bad": 9}
    with pytest.raises(ValueError, match="no metric 'loss'"):
        curvopt.final_metric(data, "loss")


@pytest.mark.slow
def test_numbers_that_are_equal_and_of_other_types(regression):
    """Guards against the compiled program of `1` for `1.0`."""

    class Typed(curvopt.AbstractProblem):
        inner: curvopt.AbstractProblem
        k: object

        def init(self, key):
            return self.inner.init(key)

        def batch(self, key, count):
            return self.inner.batch(key, count)

        def loss(self, params, args):
            value, aux = self.inner.loss(params, args)
            return (2 * value if isinstance(self.k, float) else value), aux

        def evaluate(self, params, model_state):
            return {}

        @property
        def steps_per_epoch(self):
            return 1

    options = {"seeds": 1, "steps": 1, **QUIET}
    first = [
        curvopt.run_study(Typed(regression, k), {"s": fixed(0.1)}, **options).loss.item()
        for k in (1.0, 1, True)
    ]
    assert first[0] == 2 * first[1] == 2 * first[2]


@pytest.mark.slow
def test_costs_of_directions_that_look_alike(regression):
    """Guards against the price of one optax transformation for another."""
    solver = lambda tx: curvopt.LineSearchMinimiser(FromOptax(tx), LearningRate(1.0))
    long = optax.chain(*(optax.scale_by_adam() for _ in range(30)))
    chains = {"short": optax.chain(optax.scale(0.1)), "long": long}
    data = curvopt.run_study(
        regression, {k: solver(tx) for k, tx in chains.items()}, seeds=1, steps=1, **QUIET
    )
    short, long = data.gradient_equivalents.values.ravel()
    assert long > 1.5 * short


class TestBadInput:
    def grid(self, problem, family, **values):
        return curvopt.run_study(
            problem, {"a": family}, hyperparameters=values, seeds=1, steps=2, **QUIET
        )

    def test_no_strategy(self, regression):
        with pytest.raises(ValueError, match="there is no strategy"):
            curvopt.run_study(regression, {}, seeds=2, steps=2)

    @pytest.mark.parametrize(
        "metrics, message",
        [
            ({"loss": 1.0}, "cannot be called 'loss'"),
            ({"guard_ascent": 1.0}, "cannot be called 'guard_ascent'"),
            ({"a/b": 1.0}, "names that files can hold, .* but one is 'a/b'"),
            ({"a ": 1.0}, "names that files can hold, .* but one is 'a '"),
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
        with pytest.raises(
            ValueError, match="'a' must be an instance of curvopt.LineSearchMinimiser"
        ):
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
        with pytest.raises(ValueError, match="'rate' must have at least one value, all"):
            self.grid(regression, fixed, rate=values)

    def test_grid_values_that_repeat(self, regression):
        with pytest.raises(ValueError, match="values of 'rate' must be distinct"):
            self.grid(regression, fixed, rate=[0.1, 0.1])

    @pytest.mark.parametrize("name", ["seed", "curvature", "learning rate"])
    def test_names_of_hyperparameters(self, regression, name):
        with pytest.raises(ValueError, match=f"but one is '{name}'"):
            self.grid(regression, fixed, **{name: [0.1]})

    def test_a_function_of_other_hyperparameters(self, regression):
        with pytest.raises(ValueError, match="function with the arguments beta"):
            self.grid(regression, fixed, beta=[0.1])

    def test_what_is_no_function_where_one_is_wanted(self, regression, unchecked):
        with pytest.raises(ValueError, match="must be a function of rate that returns"):
            self.grid(regression, 0.1, rate=[0.1])

    def test_a_function_where_a_solver_is_wanted(self, regression, unchecked):
        with pytest.raises(ValueError, match="pass `hyperparameters`"):
            curvopt.run_study(regression, {"a": fixed}, seeds=1, steps=2)

    def test_a_value_that_is_needed_itself(self, regression):
        """For the structure of a program, of which there is one."""
        family = lambda rate: fixed(rate if rate > 0.1 else 0.1)
        with pytest.raises(ValueError, match="'a' needs the concrete value of a hyper"):
            self.grid(regression, family, rate=[0.1, 0.2])

    @pytest.mark.parametrize("values", [[1e39], [0.1, 0.1 + 1e-10], "ab"])
    def test_values_that_no_float32_is(self, regression, values, unchecked):
        with pytest.raises(ValueError, match="float32|finite"):
            self.grid(regression, fixed, rate=values)

    def test_a_metric_that_is_called_like_a_hyperparameter(self, regression):
        with pytest.raises(ValueError, match="cannot be called 'train_loss'"):
            family = lambda train_loss: fixed(train_loss)
            self.grid(regression, family, train_loss=[0.1, 0.2])

    @pytest.mark.parametrize(
        "metrics, message",
        [
            (
                {"m": jnp.ones(3)},
                r"`loss` of .*: metrics must be scalars, but 'm' has",
            ),
            (None, "metrics must be a dictionary of scalars"),
            ({"a/b": jnp.ones(())}, "metrics must have names that files can hold"),
            ({"m": 1j}, "must be real numbers, but 'm' has dtype complex64"),
        ],
    )
    def test_metrics_of_a_loss(self, regression, metrics, message, unchecked):
        class Odd(type(regression)):
            def loss(self, params, args):
                value, (state, _) = super().loss(params, args)
                return value, (state, metrics)

        with pytest.raises(ValueError, match=message):
            curvopt.run_study(Odd(), {"a": fixed(0.1)}, seeds=1, steps=1, **QUIET)

    def test_a_number_in_the_model_state(self, regression, unchecked):
        class Odd(type(regression)):
            def init(self, key):
                return super().init(key)[0], {"count": 3.0}

        with pytest.raises(ValueError, match="must consist of arrays, but .*'count'.* 3.0"):
            curvopt.run_study(Odd(), {"a": fixed(0.1)}, seeds=1, steps=1, **QUIET)

    def test_names_that_are_no_strings(self, regression, unchecked):
        with pytest.raises(ValueError, match="strings as names, but one is 3"):
            curvopt.run_study(regression, {3: fixed(0.1)}, seeds=1, steps=1, **QUIET)

    def test_a_list_of_strategies(self, regression, unchecked):
        with pytest.raises(ValueError, match="must be solvers by name"):
            curvopt.run_study(regression, [fixed(0.1)], seeds=1, steps=2)

    def test_grid_value_outside_the_range_of_the_rule(self, regression):
        with pytest.raises(ValueError, match="learning_rate must be at least 0"):
            self.grid(regression, fixed, rate=[0.1, -1.0])

    def test_parameters_that_are_no_arrays(self, regression, unchecked):
        class Whole(type(regression)):
            def init(self, key):
                return eqx.nn.MLP(3, "scalar", 8, 1, key=key), None

        with pytest.raises(ValueError, match=r"activation.*eqx.partition"):
            curvopt.run_study(Whole(), {"a": fixed(0.1)}, seeds=1, steps=1, **QUIET)


def test_a_branch_on_the_count_stays_a_branch_under_vmap(regression):
    """A `cond` whose predicate is batched would become a `select` that pays for both."""
    from curvopt._study import _lane

    class EverySecond(curvopt.AbstractLineSearch):
        def init(self, y):
            del y

        def step(self, line, count, state):
            step_size = jax.lax.cond(
                count % 2 == 0, lambda: line.at(jnp.array(0.1)), lambda: jnp.array(0.1)
            )
            return step_size, curvopt.StepInfo(), state

    solver = curvopt.LineSearchMinimiser(SGD(), EverySecond())
    start = lambda k: _lane.begin(solver, _lane.draw(regression, _lane.Origin(jr.key(k))))
    lanes = jax.tree.map(lambda *xs: jnp.stack(xs), start(0), start(1))
    step = jax.vmap(_lane.step, in_axes=(None, None, 0, None))
    jaxpr = eqx.filter_make_jaxpr(step)(regression, solver, lanes, jnp.array(0))[0]
    assert " cond[" in str(jaxpr)


def test_a_notebook_without_widgets(regression, monkeypatch, capsys):
    """Guards against tqdm's error that ipywidgets are missing."""
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr("tqdm.notebook.IProgress", None, raising=False)
    curvopt.train(regression, fixed(0.1), jr.key(0), steps=2)
    assert "Error" not in capsys.readouterr().err
