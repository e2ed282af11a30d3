"""A study read back, without the problem and without compiling; and extended."""

import json
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_resume import (
    assert_same,
    fixed,
    rescaled,
    saved as saved,
    study,
)

import curvopt
from curvopt._study._store import Store


pytestmark = pytest.mark.host

FAMILY = curvopt.Family(fixed, rate=[0.1, 0.3])
STRATEGIES = {"family": FAMILY, "alone": rescaled()}


@pytest.fixture(scope="module")
def grid(regression, tmp_path_factory):
    """The folder of a study with a family, for reading, and its dataset."""
    folder = tmp_path_factory.mktemp("grid")
    return folder, study(regression, folder, strategies=STRATEGIES)


def test_load_study(grid, tmp_path):
    """The whole of it, in a process that has neither the problem nor its strategies and
    compiles nothing."""
    folder, data = grid
    code = f"""
        import sys
        import jax, jax.monitoring, curvopt
        compiled = []
        jax.monitoring.register_event_duration_secs_listener(
            lambda name, *_, **__: compiled.append(name)
        )
        curvopt.load_study({str(folder)!r}).to_netcdf({str(tmp_path / "d.nc")!r})
        assert not [name for name in compiled if "compile" in name], compiled
        assert "strategies" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    import xarray as xr

    loaded = xr.load_dataset(tmp_path / "d.nc")
    assert_same(loaded, data)
    assert loaded.attrs == data.attrs
    assert_same(curvopt.load_study(folder), data)


def test_values_are_readable(regression):
    strategies = {"family": FAMILY, "one": fixed(0.003)}
    data = study(regression, strategies=strategies, seeds=1, steps=4)
    texts = json.loads(data.attrs["strategies"])
    assert "learning_rate=[0.1, 0.3]" in texts["family"]
    assert "learning_rate=0.003" in texts["one"]
    assert json.loads(data.attrs["hyperparameters"])["family"] == {"rate": [0.1, 0.3]}
    assert "learning_rate=0.003" in repr(fixed(0.003))


def test_a_run_that_is_not_finished(regression, tmp_path):
    study(regression, tmp_path, strategies={"a": fixed(0.1)}, seeds=2)
    study(regression, tmp_path, strategies={"b": fixed(0.2)}, seeds=[1, 5], steps=50)
    data = curvopt.load_study(tmp_path)
    assert data.seed.values.tolist() == [0, 1, 5] and data.sizes["step"] == 50
    assert data.steps_made.values.tolist() == [[40, 40, 0], [0, 50, 50]]
    first = data.sel(strategy="a", seed=0)
    assert first.loss.notnull().sum() == 40 and first.train_loss.notnull().any()
    assert data.loss.sel(strategy="a", seed=5).isnull().all()
    assert data.diverged_at.sel(strategy="a", seed=5) == -1
    # The end of each run is its own, and what was not run has none.
    final = curvopt.final_metric(data, "train_loss")
    np.testing.assert_array_equal(final.isnull(), data.steps_made == 0)
    assert final.sel(strategy="a", seed=0) < first.train_loss[0]
    assert first.gradient_equivalents.notnull().sum() == 40


def test_a_study_that_saves_its_first_records_meanwhile(saved, monkeypatch):
    """What they look like is saved with them, and was not there a moment before."""
    (folder, data), found, asked = saved, Store.found, []

    def late(self, key):
        asked.append(key)
        first = key.startswith("layout") and asked.count(key) == 1
        return [] if first else found(self, key)

    monkeypatch.setattr(Store, "found", late)
    assert_same(curvopt.load_study(folder), data)


def test_load_run(regression, grid):
    folder, data = grid
    evaluate = lambda params: float(regression.evaluate(params, None)["train_loss"])
    run = curvopt.load_run(folder, strategy="family", seed=2, rate=0.3, problem=regression)
    chosen = data.sel(strategy="family", seed=2, rate=0.3)
    assert evaluate(run.params) == pytest.approx(float(chosen.train_loss[-1]), rel=1e-5)
    assert_same(run.history, chosen)
    assert run.model_state is None
    # Without the problem: the same arrays, by their names.
    plain = curvopt.load_run(folder, strategy="family", seed=2, rate=0.3).params
    for k, layer in enumerate(run.params.layers):
        np.testing.assert_array_equal(plain["layers"][k]["weight"], layer.weight)
    # A run of a strategy that has no such hyper-parameter is the same at all its values.
    alone = curvopt.load_run(folder, strategy="alone", seed=0, problem=regression)
    assert evaluate(alone.params) == pytest.approx(
        float(data.train_loss.sel(strategy="alone", seed=0)[0, -1]), rel=1e-5
    )


def test_the_best_run(grid):
    folder, data = grid
    final = curvopt.final_metric(data, "train_loss")
    best = curvopt.load_run(folder, best="train_loss")
    assert curvopt.final_metric(best.history, "train_loss") == final.min()
    worst = curvopt.load_run(
        folder, strategy="family", best="train_loss", lower_is_better=False
    )
    expected = final.sel(strategy="family").max()
    assert curvopt.final_metric(worst.history, "train_loss") == expected


def test_a_run_with_a_state_and_random_keys(stateful, tmp_path):
    study(stateful, tmp_path, strategies={"a": fixed(0.01)}, seeds=1)
    run = curvopt.load_run(tmp_path, problem=stateful)
    params, state = stateful.init(jax.random.key(0))
    assert jax.tree.structure(run.params) == jax.tree.structure(params)
    shapes = lambda tree: [x.shape for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]
    assert shapes(run.model_state) == shapes(state)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({}, "nothing leaves 9 runs. There are: strategy: 'family', 'alone'; rate"),
        ({"strategy": "none"}, "there is no strategy 'none'; there are"),
        ({"seed": 9}, "there is no seed 9"),
        ({"rate": 0.2}, "there is no rate 0.2"),
        ({"beta": 0.2}, "no hyper-parameter 'beta'; there are: rate"),
        ({"best": "accuracy"}, "no metric 'accuracy'"),
    ],
)
def test_runs_that_are_not_there(grid, asked, message):
    with pytest.raises(ValueError, match=message):
        curvopt.load_run(grid[0], **asked)


def test_another_problem(regression, stateful, tmp_path):
    study(regression, tmp_path, strategies={"a": fixed(0.1)}, seeds=1, steps=4)
    with pytest.raises(ValueError, match="problem must be the one that was trained on"):
        curvopt.load_run(tmp_path, problem=stateful)


def test_no_study(tmp_path):
    with pytest.raises(curvopt.StudyError, match="there is no study in"):
        curvopt.load_study(tmp_path)


class TestExtending:
    """The same folder, and only what is missing is run."""

    def test_seeds(self, regression, tmp_path):
        """To the bit: they run at the same width."""
        only = {"strategies": {"b": rescaled()}}
        study(regression, tmp_path, seeds=2, **only)
        data = study(regression, tmp_path, seeds=6, **only)
        assert_same(data, study(regression, seeds=6, **only))

    def test_values_and_strategies(self, regression, tmp_path):
        study(regression, tmp_path, strategies={"f": FAMILY}, seeds=2)
        wider = curvopt.Family(fixed, rate=[0.05, 0.1, 0.3])
        both = {"f": wider, "b": rescaled()}
        data = study(regression, tmp_path, strategies=both, seeds=2)
        assert_same(data, study(regression, strategies=both, seeds=2))

    def test_steps(self, regression, finished, tmp_path):
        """The evaluations are those of both lengths."""
        study(regression, tmp_path, steps=20)
        data, whole = study(regression, tmp_path), finished[1]
        assert data.evaluation_step.values.tolist() == [0, 5, 10, 15, 20, 30, 40]
        both = data.sel(evaluation_step=whole.evaluation_step)
        assert_same(both, whole)

    def test_evaluations(self, regression, tmp_path):
        """What a run has passed is nan, and what it has not is there."""
        study(regression, tmp_path, seeds=1, steps=20, evaluations=2)
        data = study(regression, tmp_path, seeds=2, steps=20, evaluations=4)
        assert data.evaluation_step.values.tolist() == [0, 5, 10, 15, 20]
        assert data.train_loss.sel(seed=0).isnull().any("strategy").values.tolist() == [
            False, True, False, True, False
        ]  # fmt: skip
        assert data.train_loss.sel(seed=1).notnull().all()

    def test_another_function_at_values_that_are_not_asked_for(self, regression, tmp_path):
        """Guards against runs of two strategies under one name."""
        momentum = lambda beta: (
            lambda rate: curvopt.LineSearchMinimiser(
                curvopt_momentum(beta), fixed(0.1).line_search
            )
        )
        from strategies import Momentum as curvopt_momentum

        family = lambda beta, rate: {"m": curvopt.Family(momentum(beta), rate=[rate])}
        study(regression, tmp_path, strategies=family(0.9, 0.1), seeds=1, steps=4)
        with pytest.raises(curvopt.StudyError, match="direction.decay: 0.9 → 0.5"):
            study(regression, tmp_path, strategies=family(0.5, 0.2), seeds=1, steps=4)


def test_grids_of_their_own(regression):
    """Where a strategy has no point it is nan; where it does not depend on a number, it is
    the same at all of them."""
    strategies = {
        "low": curvopt.Family(fixed, rate=[0.01, 0.1]),
        "high": curvopt.Family(fixed, rate=[0.1, 0.3]),
        "alone": fixed(0.1),
    }
    data = study(regression, strategies=strategies, seeds=2)
    assert data.rate.values.tolist() == [0.01, 0.1, 0.3]
    missing = data.loss.isnull().all(["seed", "step"])
    assert missing.values.tolist() == [
        [False, False, True], [True, False, False], [False] * 3
    ]  # fmt: skip
    at = data.loss.sel(rate=0.1)
    np.testing.assert_allclose(at.sel(strategy="low"), at.sel(strategy="alone"), rtol=1e-5)
    assert (data.loss.sel(strategy="alone") == at.sel(strategy="alone")).all()
    assert data.evaluated_losses.dtype == np.int32 and data.guard_ascent.dtype == np.int8


def test_a_grid_over_an_optax_transformation(regression):
    import optax

    from strategies import FromOptax

    closed = lambda rate: curvopt.LineSearchMinimiser(
        FromOptax(optax.adam(rate)), fixed(1.0).line_search
    )
    with pytest.raises(ValueError, match="optax.inject_hyperparams"):
        curvopt.Study(
            regression, {"a": curvopt.Family(closed, rate=[0.1])}, seeds=1, steps=1
        )
    opened = lambda rate: curvopt.LineSearchMinimiser(
        FromOptax(
            optax.inject_hyperparams(optax.sgd)(1.0),
            hyperparameters={"learning_rate": rate},
        ),
        fixed(1.0).line_search,
    )
    family = {"a": curvopt.Family(opened, rate=[0.1, 0.3]), "b": FAMILY}
    data = study(regression, strategies=family, seeds=2)
    np.testing.assert_allclose(
        data.loss.sel(strategy="a"), data.loss.sel(strategy="b"), rtol=1e-5
    )


def test_the_number_of_a_float_is_its_shortest():
    from curvopt._describe import number

    assert number(jnp.float32(0.003)) == 0.003
    assert number(jnp.bfloat16(0.25)) == 0.25
    assert number(jnp.int32(3)) == 3


def test_a_final_metric_is_of_no_evaluation_in_particular(grid):
    """Guards against a coordinate that two metrics cannot share in one dataset."""
    final = curvopt.final_metric(grid[1], "train_loss")
    assert set(final.coords) == {"strategy", "rate", "seed"}
