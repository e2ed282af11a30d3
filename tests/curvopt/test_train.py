import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import xarray as xr

import curvopt
from strategies import (
    BacktrackingArmijo,
    Clipped,
    CurvatureRescaling,
    HyperplaneSearch,
    LearningRate,
    Momentum,
    SGD,
    StepTuned,
)


RESCALED = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(0.5, average=0.9))
MOMENTUM = curvopt.LineSearchMinimiser(Momentum(), CurvatureRescaling(0.5, average=0.9))


def test_training_makes_progress_and_keeps_its_history(regression):
    result = curvopt.train(
        regression, RESCALED, jr.key(1), steps=60, evaluations=3, progress=False
    )
    history = result.history
    assert history.sizes == {"step": 60, "evaluation_step": 4}
    np.testing.assert_array_equal(history.evaluation_step, [0, 20, 40, 60])
    losses = history.train_loss.values
    assert losses[-1] < 0.5 * losses[0]
    final = regression.evaluate(result.params, result.model_state)["train_loss"]
    np.testing.assert_allclose(losses[-1], final, rtol=1e-6)
    assert (history.evaluated_curvatures == 1).all()
    assert np.isfinite(history.step_size).all()
    # A value-and-gradient and a curvature at every step.
    costs = curvopt.cost.EvaluationCosts(regression, RESCALED.curvature)
    each = costs.of_direction(SGD()) + costs["curvature"]
    np.testing.assert_allclose(history.gradient_equivalents[-1], 60 * each, rtol=1e-6)
    assert 1.2 < each < 2.5


def test_a_plain_loop_gives_the_same(regression):
    """Against a loop that anyone can read: optax-like SGD on the same batches."""
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))
    result = curvopt.train(
        regression, solver, jr.key(3), steps=9, evaluations=1, progress=False
    )
    init_key, batch_key, _, _ = jr.split(jr.key(3), 4)
    params, _ = regression.init(init_key)
    loss = lambda params, data: regression.loss(params, (data, None, jr.key(0)))[0]
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    for k in range(9):
        value, grad = value_and_grad(params, regression.batch(batch_key, k))
        np.testing.assert_allclose(result.history.loss[k], value, rtol=1e-5)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grad)
    for a, b in zip(jax.tree.leaves(result.params), jax.tree.leaves(params)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_two_steps_on_a_batch(regression):
    """What StepTuned asks for, within wrappers too: pairs of steps see the same data."""
    solver = curvopt.LineSearchMinimiser(SGD(), Clipped(StepTuned(0.1)))
    result = curvopt.train(regression, solver, jr.key(0), steps=6, progress=False)
    seen = result.history.batch_seen.values.reshape(3, 2)
    np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
    assert len(np.unique(seen)) == 3
    other = curvopt.train(regression, RESCALED, jr.key(0), steps=3, progress=False)
    np.testing.assert_array_equal(other.history.batch_seen, seen[:, 0])


def test_a_curvature_that_the_direction_asks_for_is_paid(regression):
    """A plane's matrix is part of the cost in gradients."""
    plane = HyperplaneSearch((SGD(), Momentum()))
    costs = curvopt.cost.EvaluationCosts(regression, curvopt.AdjointCurvature())
    both = costs.of_direction(plane)
    assert both > costs.of_direction(SGD()) + costs["curvature"]
    solver = curvopt.LineSearchMinimiser(plane, LearningRate(0.5))
    history = curvopt.train(regression, solver, jr.key(0), steps=4, progress=False).history
    np.testing.assert_allclose(history.gradient_equivalents[-1], 4 * both)


def test_chunks_do_not_change_the_numbers(regression):
    runs = [
        curvopt.train(
            regression,
            RESCALED,
            jr.key(1),
            steps=11,
            execution=curvopt.Execution(chunk=c),
            evaluations=1,
            progress=False,
        ).history.loss.values
        for c in (4, 50)
    ]
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize(
    "rule",
    [BacktrackingArmijo(), pytest.param(CurvatureRescaling(), marks=pytest.mark.slow)],
)
def test_batch_norm_and_dropout(rule, stateful):
    """The state moves once a step, however many trials the search makes; the
    randomness is new at each step, and the same within it."""
    solver = curvopt.LineSearchMinimiser(SGD(), rule)
    result = curvopt.train(
        stateful, solver, jr.key(0), steps=5, evaluations=1, progress=False
    )
    noise = result.history.batch_noise.values
    assert len(np.unique(noise)) == 5
    assert np.isfinite(result.history.loss).all()

    # By hand: the parameters that training visited, and the state kept from each.
    init_key, _, loss_key, _ = jr.split(jr.key(0), 4)
    params, state = stateful.init(init_key)
    strategy = solver.init_strategy(params, jr.key(0))
    loss, update = map(eqx.filter_jit, (stateful.loss, solver.update))
    for k in range(5):
        args = (stateful.batch(None, k), state, jr.fold_in(loss_key, k))
        _, (expected, _) = loss(params, args)
        params, strategy, record, (state, _) = update(
            stateful.loss, params, args, jnp.array(k), strategy
        )
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.history.loss[k], record.loss, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(result.model_state), jax.tree.leaves(state)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_dropout_is_the_same_in_every_evaluation_of_a_step(stateful):
    """With fresh dropout in each trial the loss at t = 0 would differ from the value."""
    seen = []

    class Probe(curvopt.AbstractLineSearch):
        def init(self, y):
            del y

        def step(self, line, count, state):
            del count
            jax.debug.callback(
                lambda *a: seen.append(a), line.value, line.at(jnp.zeros(()))
            )
            return jnp.array(0.01), curvopt.StepInfo(losses=1), state

    solver = curvopt.LineSearchMinimiser(SGD(), Probe())
    curvopt.train(stateful, solver, jr.key(0), steps=4, evaluations=1, progress=False)
    jax.effects_barrier()
    assert len(seen) == 4
    for value, again in seen:
        np.testing.assert_allclose(value, again, rtol=1e-6)


@pytest.mark.parametrize("name", ["steps", "evaluations"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_one(regression, name, value):
    counts = {"steps": 2, "evaluations": 1} | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        curvopt.train(regression, RESCALED, jr.key(0), progress=False, **counts)


@pytest.mark.parametrize("key", [0, np.array([0, 1], np.uint32), jr.split(jr.key(0))])
def test_what_is_no_key(regression, key, unchecked):
    with pytest.raises(ValueError, match="key must be one typed random key"):
        curvopt.train(regression, RESCALED, key, steps=1, progress=False)


def trained(problem, folder=None, key=3, solver=MOMENTUM, **options):
    options = {"steps": 40, "evaluations": 4, "progress": False} | options
    return curvopt.train(problem, solver, jr.key(key), folder=folder, **options)


def assert_same(a, b):
    """All that training returns, bit for bit, but for times."""
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)
    times = ["seconds", "compile_seconds", "execution"]
    xr.testing.assert_identical(
        a.history.drop_vars(times).drop_attrs(), b.history.drop_vars(times).drop_attrs()
    )


@pytest.fixture(scope="module")
def whole(regression):
    """A run that nothing stops."""
    return trained(regression)


TESTS = str(Path(__file__).parent)
IN_A_PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from conftest import Regression
from test_train import trained

def on_evaluation(evaluation):
    print(evaluation.step, flush=True)

trained(
    Regression(), {folder!r}, steps={steps}, evaluations={evaluations}, save_every=0.0,
    on_evaluation=on_evaluation,
)
"""


@pytest.mark.host
@pytest.mark.slow
def test_a_run_that_is_terminated_then_killed(regression, tmp_path):
    """SIGTERM saves, says so, and ends the process as it would have ended. After it and
    after kill -9 the run goes on, to the bit, and no evaluation is reported twice."""
    long = {"steps": 3000, "evaluations": 300}
    code = IN_A_PROCESS.format(tests=TESTS, folder=str(tmp_path), **long)
    reported = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=PIPE, stderr=PIPE, text=True
        )
        reported += [int(process.stdout.readline()) for _ in range(30)]
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
        reported += map(int, out.split())
        assert process.returncode == -number, errors
        said = re.search(
            r"interrupted after ([\d,]+) of 3,000 steps; saved in (.*),", errors
        )
        if number == signal.SIGTERM:
            assert said[2] == str(tmp_path)
            made = curvopt.load_study(tmp_path).steps_made.item()
            assert made == int(said[1].replace(",", "")) < 3000
        else:
            assert said is None
    last = trained(
        regression, tmp_path, **long, on_evaluation=lambda e: reported.append(e.step)
    )
    assert_same(last, trained(regression, **long))
    # What was noted, but not yet reported when the process was killed, is not repeated.
    assert len(reported) == len(set(reported)) >= 300
    assert reported == sorted(reported)


@pytest.mark.slow
def test_more_steps(regression, whole, tmp_path):
    """A run is extended as if it had never ended, and read back without the problem."""
    trained(regression, tmp_path, steps=20, evaluations=2)
    longer = trained(regression, tmp_path)
    assert_same(longer, whole)
    assert_same(trained(regression, tmp_path), longer)
    run = curvopt.load_run(tmp_path, problem=regression)
    assert_same_leaves(run.params, longer.params)
    np.testing.assert_array_equal(run.history.loss, longer.history.loss)
    with pytest.raises(curvopt.StudyError, match="a longer study:\n  steps: 40 → 20"):
        trained(regression, tmp_path, steps=20, evaluations=2)


def assert_same_leaves(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_nothing_is_written_without_a_folder(regression, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(regression, steps=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.host
@pytest.mark.slow
def test_a_folder_that_holds_something_else(regression, tmp_path):
    trained(regression, tmp_path)
    params, _ = regression.init(jr.key(0))
    for change, message in (
        ({"key": 4}, r"another study:\n  key: threefry2x32 \[0, 3\] → .* \[0, 4\]"),
        ({"problem": type(regression)(poison=3.0)}, "another study:\n  poison: inf → 3.0"),
        (
            {"solver": RESCALED},
            "another strategy named 'train':\n  direction: Momentum → SGD",
        ),
        (
            {"params": params},
            "another study:\n  params: drawn by `init` → given, of digest",
        ),
    ):
        with pytest.raises(curvopt.StudyError, match=message):
            trained(**{"problem": regression, "folder": tmp_path} | change)
    with pytest.raises(curvopt.StudyError, match="another study:\n  key: .* → not there"):
        curvopt.run_study(
            regression, {"train": MOMENTUM}, seeds=1, steps=40, folder=tmp_path
        )
    curvopt.run_study(
        regression, {"train": MOMENTUM}, seeds=1, steps=4, folder=tmp_path / "study"
    )
    with pytest.raises(curvopt.StudyError, match="another study:\n  key: not there → "):
        trained(regression, tmp_path / "study")


def test_a_given_start(stateful):
    """Training goes on from parameters and a model state, with batches of its own key."""
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))
    first = trained(stateful, solver=solver, steps=5)
    start = {"params": first.params, "model_state": first.model_state}
    second = trained(stateful, solver=solver, steps=5, key=8, **start)
    kept = jax.tree.map(np.asarray, first.params)
    _, batch_key, loss_key, _ = jr.split(jr.key(8), 4)
    args = stateful.batch(batch_key, 0), first.model_state, jr.fold_in(loss_key, 0)
    loss, _ = stateful.loss(first.params, args)
    np.testing.assert_allclose(second.history.loss[0], loss, rtol=1e-5)
    size = stateful.evaluate(first.params, first.model_state)["size"]
    np.testing.assert_allclose(second.history["size"][0], size, rtol=1e-6)
    assert_same_leaves(first.params, kept)  # not donated


def test_a_start_that_does_not_fit(regression):
    params, _ = regression.init(jr.key(0))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    message = (
        r"params must be like .* `.layers\[0\].weight float32\[8, 3\]` where .*bfloat16"
    )
    with pytest.raises(ValueError, match=message):
        trained(regression, params=half)
    with pytest.raises(
        ValueError, match="model_state must be like .* `nothing` where there"
    ):
        trained(regression, model_state=jnp.zeros(3))


@pytest.mark.slow
def test_a_loop_of_ones_own_goes_on(stateful):
    """As the docstring of `TrainResult` has it: with batches and randomness of `train`."""
    key, problem, solver = jr.key(3), stateful, MOMENTUM
    how = curvopt.Execution(chunk=3)  # one program for both
    result = trained(problem, steps=6, execution=how)
    _, batch_key, loss_key, _ = jr.split(key, 4)
    params, model_state = result.params, result.model_state
    solver_state, losses = result.solver_state, []
    for count in map(jnp.asarray, range(6, 9)):
        args = problem.batch(batch_key, count), model_state, jr.fold_in(loss_key, count)
        params, solver_state, record, (model_state, _) = eqx.filter_jit(solver.update)(
            problem.loss, params, args, count, solver_state
        )
        losses.append(record.loss)
    longer = trained(problem, steps=9, execution=how)
    np.testing.assert_allclose(losses, longer.history.loss[6:], rtol=1e-4)


class TestOnEvaluation:
    def test_it_is_told_what_the_history_records(self, regression):
        told = []

        def on_evaluation(evaluation):
            own = regression.evaluate(evaluation.params(), evaluation.model_state())
            told.append((evaluation, float(own["train_loss"])))

        history = trained(regression, on_evaluation=on_evaluation).history
        assert [e.step for e, _ in told] == history.evaluation_step.values.tolist()
        assert all(type(e.metrics["train_loss"]) is float for e, _ in told)
        assert [set(e.metrics) for e, _ in told] == [{"train_loss"}] * 5
        losses = [e.metrics["train_loss"] for e, _ in told]
        np.testing.assert_array_equal(losses, history.train_loss)
        np.testing.assert_allclose(losses, [own for _, own in told], rtol=1e-5)
        with pytest.raises(
            ValueError, match="has gone on from step 10, and its parameters"
        ):
            told[1][0].params()

    @pytest.mark.parametrize("folder", [True, pytest.param(False, marks=pytest.mark.slow)])
    def test_it_stops_the_run(self, regression, whole, tmp_path, folder):
        """Which stays stopped, whoever resumes or extends it."""
        folder = tmp_path if folder else None
        stopped = trained(regression, folder, on_evaluation=lambda e: e.step == 20)
        history = stopped.history
        assert (history.steps_made, history.stopped_at) == (20, 20)
        assert (whole.history.steps_made, whole.history.stopped_at) == (40, -1)
        np.testing.assert_array_equal(history.loss[:20], whole.history.loss[:20])
        assert history.loss[20:].isnull().all() and history.train_loss[3:].isnull().all()
        final = regression.evaluate(stopped.params, None)["train_loss"]
        np.testing.assert_allclose(final, history.train_loss[2], rtol=1e-6)
        if folder:
            assert_same(trained(regression, folder), stopped)
            longer = trained(regression, folder, steps=80, evaluations=8)
            assert longer.history.steps_made == 20
            assert_same_leaves(longer.params, stopped.params)

    def test_only_true_stops_it(self, regression):
        """Loggers return what they like, such as the number of characters written."""
        answers = iter([True, 17, "yes", {"a": 1}, np.ones(3, bool), np.bool_(True)])
        run = trained(regression, evaluations=8, on_evaluation=lambda e: next(answers))
        assert run.history.steps_made == 25

    def test_its_errors_come_out_with_everything_saved(self, regression, whole, tmp_path):
        def on_evaluation(evaluation):
            if evaluation.step == 20:
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            trained(regression, tmp_path, on_evaluation=on_evaluation)
        assert curvopt.load_study(tmp_path).steps_made == 20
        assert_same(trained(regression, tmp_path), whole)

    def test_what_is_no_function(self, regression, unchecked):
        with pytest.raises(ValueError, match="on_evaluation must be a function of a"):
            trained(regression, on_evaluation=3)


@pytest.mark.host
@pytest.mark.parametrize("interactive", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ctrl_c(
    regression, whole, tmp_path, monkeypatch, interruptible, capsys, interactive
):
    """In a notebook it returns what there is; in a script it ends it. Both save."""
    del interruptible

    def on_evaluation(evaluation):
        if evaluation.step == 10:
            os.kill(os.getpid(), signal.SIGINT)

    if interactive:
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    for folder in (tmp_path, None):
        if interactive:
            result = trained(regression, folder, on_evaluation=on_evaluation)
            assert result.history.steps_made == 10
            size = regression.evaluate(result.params, None)["train_loss"]
            np.testing.assert_allclose(size, result.history.train_loss[1], rtol=1e-6)
        else:
            with pytest.raises(KeyboardInterrupt):
                trained(regression, folder, on_evaluation=on_evaluation)
        saved = f"; saved in {tmp_path}" if folder else ""
        assert f"interrupted after 10 of 40 steps{saved}" in capsys.readouterr().err
    assert_same(trained(regression, tmp_path), whole)
