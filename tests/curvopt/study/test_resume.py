"""Nothing that was computed is lost: a study that is broken off goes on where it was."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import curvopt
from curvopt._study import _program, _session
from strategies import (
    CurvatureRescaling,
    FromOptax,
    LearningRate,
    Momentum,
    SGD,
    WindowAverage,
)


pytestmark = pytest.mark.host


def fixed(rate):
    return curvopt.LineSearchMinimiser(SGD(), LearningRate(rate))


def rescaled():
    return curvopt.LineSearchMinimiser(Momentum(), CurvatureRescaling(0.5, average=0.9))


STRATEGIES = {"a": fixed(0.1), "b": rescaled()}
HOW = curvopt.Execution(lanes_at_once=2, workers=2, chunk=5)


def study(problem, folder=None, **options):
    options = {"seeds": 3, "steps": 40, "evaluations": 4, "execution": HOW} | options
    strategies = options.pop("strategies", STRATEGIES)
    options = {"progress": False, "save_every": 0.0, "folder": folder} | options
    return curvopt.run_study(problem, strategies, **options)


def assert_same(a, b):
    """All numbers, bit for bit, but for times."""
    assert set(a.variables) == set(b.variables)
    for name in set(a.variables) - {"seconds", "compile_seconds", "execution"}:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))


@pytest.fixture
def saved(finished, tmp_path):
    """The same in a folder of one's own."""
    folder, data = finished
    return shutil.copytree(folder, tmp_path / "saved"), data


class Stop(Exception):
    pass


@pytest.fixture
def stop_after(monkeypatch):
    """Break off after so many chunks."""

    def after(chunks):
        made, advance = [], _program.Program.advance

        def counted(self, *args):
            if len(made) == chunks:
                raise Stop
            made.append(None)
            return advance(self, *args)

        monkeypatch.setattr(_program.Program, "advance", counted)
        return made

    yield after


@pytest.mark.parametrize("averaged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_study_goes_on_where_it_was(
    regression, finished, averaged, tmp_path, stop_after, monkeypatch
):
    given = {}
    if averaged:
        given["strategies"] = {
            "a": dataclasses.replace(rescaled(), average=WindowAverage())
        }
    whole = study(regression, **given) if averaged else finished[1]
    for chunks in (1, 5, 9):
        with pytest.raises(Stop), monkeypatch.context():
            stop_after(chunks)
            study(regression, tmp_path, **given)
        monkeypatch.undo()
    assert_same(study(regression, tmp_path, **given), whole)


def test_what_is_finished_is_not_run_again(regression, saved, stop_after):
    folder, first = saved
    made = stop_after(0)
    assert_same(study(regression, folder), first)
    assert not made


def test_strategies_can_be_added(regression, finished, tmp_path):
    one = {"a": STRATEGIES["a"]}
    study(regression, tmp_path, strategies=one)
    assert_same(study(regression, tmp_path), finished[1])


def test_lanes_that_have_all_diverged(regression, tmp_path, stop_after, monkeypatch):
    """Their blank records are saved and read like others."""
    wild = {"w": curvopt.LineSearchMinimiser(SGD(), LearningRate(1e8)), **STRATEGIES}
    whole = study(regression, strategies=wild, steps=100)
    assert (whole.diverged_at.sel(strategy="w") > 0).all()
    with monkeypatch.context():
        stop_after(12)
        with pytest.raises(Stop):
            study(regression, tmp_path, strategies=wild, steps=100)
    monkeypatch.undo()
    assert_same(study(regression, tmp_path, strategies=wild, steps=100), whole)


@pytest.mark.slow
def test_state_in_half_precision(tmp_path, stop_after, monkeypatch):
    """NumPy's files know no bfloat16, and no typed random keys."""

    class Half(curvopt.AbstractProblem):
        def init(self, key):
            return jax.random.normal(key, (3,), jnp.bfloat16), {"key": key}

        def batch(self, key, count):
            return jax.random.normal(jax.random.fold_in(key, count), (3,))

        def loss(self, params, args):
            x, state, _ = args
            value = jnp.sum((params.astype(jnp.float32) - x) ** 2)
            half = value.astype(jnp.bfloat16)
            state = {"key": jax.random.fold_in(state["key"], 1)}
            return value, (state, {"half": half})

        def evaluate(self, params, model_state):
            return {"size": jnp.sum(params), "draw": jax.random.uniform(model_state["key"])}

        @property
        def steps_per_epoch(self):
            return 1

    whole = study(Half())
    assert np.unique(whole.draw.values).size > 10
    with monkeypatch.context():
        stop_after(7)
        with pytest.raises(Stop):
            study(Half(), tmp_path)
    monkeypatch.undo()
    assert_same(study(Half(), tmp_path), whole)


def test_ctrl_c_ends_with_everything_saved(
    regression, finished, tmp_path, monkeypatch, interruptible
):
    advance, sent = _program.Program.advance, []
    handler = interruptible

    def interrupted(self, *args):
        if not sent:  # a second one would act at once
            sent.append(os.kill(os.getpid(), signal.SIGINT))
        time.sleep(0.05)
        return advance(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_program.Program, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            study(regression, tmp_path, save_every=1e9)
    made = curvopt.load_study(tmp_path).steps_made
    # The groups that were being run, after the chunk that was being made.
    assert made.sel(strategy="a").values.tolist() == [1, 1, 1]
    assert "b" not in made.strategy
    assert signal.getsignal(signal.SIGINT) is handler
    assert_same(study(regression, tmp_path), finished[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_what_schedulers_send(regression, tmp_path, number):
    """Saved as by Ctrl-C, and then the process ends as it would have ended."""
    code = KILLED.format(tests=TESTS, folder=str(tmp_path), steps=100_000, every=1e9)
    # A signal that is ignored here, as under nohup, would be ignored there.
    default = f"import signal; signal.signal({number:d}, signal.SIG_DFL)"
    process = subprocess.Popen([sys.executable, "-c", f"{default}\n{code}"])
    while not (tmp_path / "study.sqlite").exists() or not is_begun(tmp_path):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    made = curvopt.load_study(tmp_path).steps_made.sel(strategy="a")
    assert (made > 0).all() and (made < 100_000).all()


def is_begun(folder):
    """Whether the study there was begun."""
    try:
        with _session.Store(folder) as store:
            return bool(store.cohorts())
    except curvopt.StudyError:
        return False


TESTS = [str(path) for path in Path(__file__).parents[:2]]
KILLED = textwrap.dedent(
    """
    import os, sys
    sys.path[:0] = {tests!r}
    from conftest import Regression
    import test_resume
    test_resume.study(Regression(), {folder!r}, steps={steps}, save_every={every})
    """
)


@pytest.mark.slow
def test_kill_9(regression, tmp_path, request):
    """At whatever moment: moments are drawn from the time that a run takes, counted from
    when it has saved something. `--kills 20` kills it twenty times."""
    kills, steps = request.config.getoption("--kills"), 2000
    code = KILLED.format(tests=TESTS, folder=str(tmp_path), steps=steps, every=0.0)
    expected, rng = study(regression, steps=steps), np.random.default_rng(0)
    path = tmp_path / "study.sqlite"
    for made in range(kills):
        before = path.stat().st_size if path.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", code])
        while process.poll() is None:
            if path.exists() and path.stat().st_size != before:
                time.sleep(rng.exponential(0.5 / kills))
                process.kill()
            time.sleep(0.001)
        # It must not have ended before it was killed.
        assert process.wait() == -signal.SIGKILL, made
    assert_same(study(regression, tmp_path, steps=steps), expected)


def test_chunks_of_another_length(regression, finished, tmp_path, stop_after, monkeypatch):
    """They change no number, so a study can go on with them."""
    with monkeypatch.context():
        stop_after(5)
        with pytest.raises(Stop):
            study(regression, tmp_path)
    monkeypatch.undo()
    how = curvopt.Execution(chunk=2)
    assert_same(study(regression, tmp_path, execution=how), finished[1])


def doubled(problem, method):
    """A problem of the same name, with twice the loss, the metrics or the parameters, and
    the operations otherwise the same."""
    known = type(problem)

    def twice(self, *args):
        return jax.tree.map(lambda x: 2 * x, getattr(known, method)(self, *args))

    names = {"__module__": known.__module__, "__qualname__": known.__qualname__}
    return type(known.__name__, (known,), {method: twice, **names})()


class TestErrors:
    """Each names what is wrong and what to do, and leaves earlier results as they are."""

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"steps": 39}, r"a longer study:\n  steps: 40 → 39\nRun with"),
            (
                {"strategies": {"a": fixed(0.2)}},
                r"named 'a':\n  line_search.learning_rate: 0.1 → 0.2\nResume",
            ),
            (
                {"strategies": {"a": rescaled()}},
                r"  line_search: LearningRate → CurvatureRescaling\n",
            ),
            (
                {"strategies": {"a": curvopt.Family(fixed, rate=[0.1, 0.2])}},
                "  hyper-parameters: none → rate",
            ),
        ],
    )
    def test_another_study(self, regression, saved, change, message):
        folder, _ = saved
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with pytest.raises(curvopt.StudyError, match=message):
            study(regression, folder, **change)
        after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert before == after

    def test_other_data(self, regression, saved):
        with pytest.raises(curvopt.StudyError, match="another study:\n  poison: inf → 3.0"):
            study(type(regression)(poison=3.0), saved[0])

    @pytest.mark.parametrize("is_over", [pytest.param(True, marks=pytest.mark.slow), False])
    def test_code_that_changed(
        self, regression, tmp_path, stop_after, monkeypatch, is_over
    ):
        """Of which its name says nothing. Guards against one dataset of two problems."""
        only = {"a": STRATEGIES["a"]}
        with monkeypatch.context():
            if is_over:
                study(regression, tmp_path, strategies=only)
            else:
                stop_after(3)
                with pytest.raises(Stop):
                    study(regression, tmp_path, strategies=only)
        monkeypatch.undo()
        for method in ("loss", "evaluate", "init"):
            with pytest.raises(curvopt.StudyError, match="the code of .*: changed"):
                study(doubled(regression, method), tmp_path, strategies=only)

    @pytest.mark.slow
    def test_the_code_of_a_strategys_init(self, regression, tmp_path):
        """Guards against runs of two strategies under one name."""

        class Constant(curvopt.AbstractLineSearch):
            start: float

            def init(self, y):
                return jnp.asarray(type(self).number)

            def step(self, line, count, state):
                return state, curvopt.StepInfo(), state

        solver = curvopt.LineSearchMinimiser(SGD(), Constant(0.0))
        Constant.number = 0.1
        study(regression, tmp_path, strategies={"a": solver}, seeds=1)
        Constant.number = 0.4
        jax.clear_caches()
        with pytest.raises(curvopt.StudyError, match="or the strategy: changed"):
            study(regression, tmp_path, strategies={"a": solver}, seeds=2)

    def test_numbers_in_a_closure(self, regression, tmp_path):
        """Which the description of a strategy does not show."""
        adam = lambda rate: {
            "a": curvopt.LineSearchMinimiser(FromOptax(optax.adam(rate)), LearningRate(1.0))
        }
        study(regression, tmp_path, strategies=adam(1e-3), seeds=1, steps=4)
        with pytest.raises(curvopt.StudyError, match="the strategy: changed"):
            study(regression, tmp_path, strategies=adam(1e-1), seeds=1, steps=4)

    def test_compiler_settings(self, regression, tmp_path):
        small = {"strategies": {"a": STRATEGIES["a"]}, "seeds": 1, "steps": 4}
        study(regression, tmp_path, **small)
        with (
            jax.default_matmul_precision("highest"),
            pytest.raises(curvopt.StudyError, match="matmul_precision: None → highest"),
        ):
            study(regression, tmp_path, **small)

    def test_two_processes_in_one_folder(self, regression, tmp_path):
        small = {"strategies": {"a": STRATEGIES["a"]}, "seeds": 1, "steps": 4}
        lock = filelock.FileLock(tmp_path / ".lock-0")
        with (
            lock,
            pytest.raises(curvopt.StudyError, match="another process is running a study"),
        ):
            study(regression, tmp_path, **small)
        study(regression, tmp_path, **small)

    def test_other_versions(self, regression, finished, tmp_path, stop_after, monkeypatch):
        """A finished study is only read; an unfinished one resumes if that is accepted."""
        known, (_, whole) = _session.versions(), finished
        with monkeypatch.context() as patch:
            patch.setattr(_session, "versions", lambda: known | {"jax": "0.0.1"})
            stop_after(9)
            with pytest.raises(Stop):
                study(regression, tmp_path)
        monkeypatch.undo()
        message = rf"of other versions:\n  jax: 0.0.1 → {jax.__version__}\n"
        with pytest.raises(curvopt.StudyError, match=message):
            study(regression, tmp_path)
        data = study(regression, tmp_path, accept_versions=True)
        assert_same(data, whole)
        assert "0.0.1" in data.attrs["versions_before"]
        # Recorded: it is not asked again, and nothing is compiled once it is finished.
        assert_same(study(regression, tmp_path), whole)
        monkeypatch.setattr(_session, "versions", lambda: known | {"jax": "0.0.2"})
        assert_same(study(regression, tmp_path), whole)

    def test_another_sharding(self, regression, tmp_path):
        """Goes on with the same numbers, to rounding, and is recorded. Code that changed is
        noticed once it was run under that sharding."""
        mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        split = curvopt.Execution(sharding=curvopt.Sharding(mesh))
        only = {"strategies": {"a": STRATEGIES["a"]}, "seeds": 2}
        study(regression, tmp_path, steps=10, **only)
        data = study(regression, tmp_path, steps=20, execution=split, **only)
        whole = study(regression, steps=20, **only)
        np.testing.assert_allclose(data.loss, whole.loss, rtol=1e-5)
        now, before = json.loads(data.execution.item())["places"]
        assert before == "1 device" and "auto axes: data 1" in now
        twice = doubled(regression, "loss")
        with pytest.raises(curvopt.StudyError, match="the code of .*: changed"):
            study(twice, tmp_path, steps=30, execution=split, **only)

    @pytest.mark.parametrize("seconds", [-1.0, float("nan"), "x"])
    def test_save_every(self, regression, tmp_path, seconds, unchecked):
        with pytest.raises(ValueError, match="save_every must be a number of seconds"):
            study(regression, tmp_path, save_every=seconds)
