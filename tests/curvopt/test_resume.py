"""Nothing that was computed is lost: a study that is broken off goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import curvopt
from curvopt._study import _program, _store
from strategies import CurvatureRescaling, FromOptax, LearningRate, Momentum, SGD


pytestmark = [pytest.mark.host, pytest.mark.usefixtures("unoptimised")]


STRATEGIES = {
    "a": curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1)),
    "b": curvopt.LineSearchMinimiser(Momentum(), CurvatureRescaling(0.5, average=0.9)),
}
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


def test_a_study_goes_on_where_it_was(regression, tmp_path, stop_after, monkeypatch):
    whole = study(regression)
    for chunks in (1, 5, 9):
        with pytest.raises(Stop), monkeypatch.context():
            stop_after(chunks)
            study(regression, tmp_path)
        monkeypatch.undo()
    assert_same(study(regression, tmp_path), whole)


def test_what_is_finished_is_not_run_again(regression, tmp_path, stop_after):
    first = study(regression, tmp_path)
    made = stop_after(0)
    assert_same(study(regression, tmp_path), first)
    assert not made


def test_strategies_can_be_added(regression, tmp_path):
    one = {"a": STRATEGIES["a"]}
    study(regression, tmp_path, strategies=one)
    assert_same(study(regression, tmp_path), study(regression))


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


def test_ctrl_c_ends_with_everything_saved(regression, tmp_path, monkeypatch):
    advance, sent = _program.Program.advance, []
    handler = signal.getsignal(signal.SIGINT)

    def interrupted(self, *args):
        if not sent:  # a second one would act at once
            sent.append(os.kill(os.getpid(), signal.SIGINT))
        time.sleep(0.05)
        return advance(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_program.Program, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            study(regression, tmp_path, save_every=1e9)
    for group in (0, 1):  # those that were being run, after the chunk that was being made
        state = np.load(next(tmp_path.glob(f"a-*/group-{group}/state.npz")))
        assert state["step"] == 1
    assert not list(tmp_path.glob("b-*/group-*"))
    assert signal.getsignal(signal.SIGINT) is handler
    assert_same(study(regression, tmp_path), study(regression))


KILLED = textwrap.dedent(
    """
    import os, sys
    sys.path.insert(0, {tests!r})
    from conftest import Regression
    import test_resume
    test_resume.study(Regression(), {folder!r}, steps={steps})
    """
)


def test_kill_9(regression, tmp_path, request):
    """At whatever moment: moments are drawn from the time that a run takes, counted from
    when it has saved something. `--kills 20` kills it twenty times."""
    kills, steps = request.config.getoption("--kills"), 2000
    code = KILLED.format(tests=os.path.dirname(__file__), folder=str(tmp_path), steps=steps)
    expected, rng = study(regression, steps=steps), np.random.default_rng(0)
    for made in range(kills):
        saved = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/group-*/state.npz")}
        # Compiled as it is here.
        env = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        process = subprocess.Popen([sys.executable, "-c", code], env=env)
        while process.poll() is None:
            now = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/group-*/state.npz")}
            if now != saved:
                time.sleep(rng.exponential(0.5 / kills))
                process.kill()
            time.sleep(0.001)
        # It must not have ended before it was killed.
        assert process.wait() == -signal.SIGKILL, made
    assert_same(study(regression, tmp_path, steps=steps), expected)


def test_chunks_of_another_length(regression, tmp_path, stop_after, monkeypatch):
    """They change no number, so a study can go on with them."""
    with monkeypatch.context():
        stop_after(5)
        with pytest.raises(Stop):
            study(regression, tmp_path)
    monkeypatch.undo()
    how = curvopt.Execution(chunk=2)
    assert_same(study(regression, tmp_path, execution=how), study(regression))


class TestErrors:
    """Each names what is wrong and what to do, and leaves earlier results as they are."""

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"steps": 41}, "holds a study with other steps: it was 40, now it is 41"),
            ({"seeds": [0, 1, 5]}, "other seeds"),
            ({"evaluations": 3}, "other evaluations"),
            (
                {
                    "strategies": {
                        "a": curvopt.LineSearchMinimiser(SGD(), LearningRate(0.2))
                    }
                },
                "holds a strategy with other hyper-parameters",
            ),
            (
                {
                    "strategies": {
                        "a": curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())
                    }
                },
                "holds a strategy with other strategy",
            ),
        ],
    )
    def test_another_configuration(self, regression, tmp_path, change, message):
        study(regression, tmp_path)
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with pytest.raises(curvopt.StudyError, match=message):
            study(regression, tmp_path, **change)
        after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        assert before == after

    def test_other_data(self, regression, tmp_path):
        study(regression, tmp_path)
        with pytest.raises(curvopt.StudyError, match="other data of the problem"):
            study(type(regression)(poison=3.0), tmp_path)

    def test_another_loss(self, regression, tmp_path, stop_after, monkeypatch):
        """The code of the loss, of which its name says nothing."""
        with monkeypatch.context():
            stop_after(3)
            with pytest.raises(Stop):
                study(regression, tmp_path)
        monkeypatch.undo()
        loss = type(regression).loss
        monkeypatch.setattr(
            type(regression),
            "loss",
            lambda self, params, args: (
                1.5 * loss(self, params, args)[0],
                loss(self, params, args)[1],
            ),
        )
        jax.clear_caches()
        with pytest.raises(curvopt.StudyError, match="other program"):
            study(regression, tmp_path)
        jax.clear_caches()

    @pytest.mark.parametrize("method", ["loss", "evaluate", "init"])
    def test_code_that_changed_after_it_was_finished(
        self, regression, tmp_path, monkeypatch, method
    ):
        """Guards against one dataset of two problems."""
        study(regression, tmp_path, strategies={"a": STRATEGIES["a"]})
        known = getattr(type(regression), method)
        # Twice the loss, the metrics or the parameters, the operations otherwise the same.
        twice = lambda *args: jax.tree.map(lambda x: 2 * x, known(*args))
        monkeypatch.setattr(type(regression), method, twice)
        jax.clear_caches()
        with pytest.raises(curvopt.StudyError, match="other (program|initialisation)"):
            study(regression, tmp_path, strategies={"a": STRATEGIES["a"]})
        jax.clear_caches()

    def test_numbers_in_a_closure(self, regression, tmp_path):
        """Which the description of a strategy does not show."""
        adam = lambda rate: {
            "a": curvopt.LineSearchMinimiser(FromOptax(optax.adam(rate)), LearningRate(1.0))
        }
        study(regression, tmp_path, strategies=adam(1e-3))
        with pytest.raises(curvopt.StudyError, match="other program"):
            study(regression, tmp_path, strategies=adam(1e-1))

    def test_two_processes_in_one_folder(self, regression, tmp_path):
        lock = filelock.FileLock(tmp_path / ".lock-0")
        with lock, pytest.raises(curvopt.StudyError, match="another process runs a study"):
            study(regression, tmp_path)
        study(regression, tmp_path)

    def test_other_versions(self, regression, tmp_path):
        study(regression, tmp_path)
        path = tmp_path / "study.json"
        known = json.loads(path.read_text())
        known["versions"]["jax"] = "0.0.1"
        path.write_text(json.dumps(known))
        with pytest.raises(curvopt.StudyError, match="other versions: .*0.0.1"):
            study(regression, tmp_path)

    @pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
    def test_a_damaged_file(self, regression, tmp_path, damage):
        whole = study(regression, tmp_path)
        path = next(tmp_path.glob("b-*/group-1/state.npz"))
        data = path.read_bytes()
        middle = data.index(np.load(path)["lane_0"].tobytes())
        flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
        path.write_bytes({"cut": data[:middle], "changed": flipped, "empty": b""}[damage])
        with pytest.raises(curvopt.StudyError, match="state.npz is damaged.*group-1"):
            study(regression, tmp_path)
        for file in path.parent.iterdir():  # as the message says
            file.unlink()
        assert_same(study(regression, tmp_path), whole)

    def test_a_lost_piece(self, regression, tmp_path):
        study(regression, tmp_path)
        next(tmp_path.glob("a-*/group-0/steps-000000001-*.npz")).unlink()
        with pytest.raises(
            curvopt.StudyError, match="records of 1 steps, but a state after"
        ):
            study(regression, tmp_path)

    def test_a_full_disk(self, regression, tmp_path, monkeypatch):
        whole, replace, written = study(regression), os.replace, []

        def full(source, target):
            written.append(target)
            if len(written) > 9:
                raise OSError(28, "No space left on device")
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(_store.os, "replace", full)
            with pytest.raises(curvopt.StudyError, match="No space left.*is intact"):
                study(regression, tmp_path)
        assert not list(tmp_path.rglob(".partial-*"))
        assert_same(study(regression, tmp_path), whole)

    def test_a_folder_that_cannot_be_written(self, regression, tmp_path):
        path = tmp_path / "file"
        path.write_text("here is a file, not a folder")
        with pytest.raises(curvopt.StudyError, match="not writable.*Choose another"):
            study(regression, path)

    def test_another_number_of_devices(self, regression, tmp_path):
        study(regression, tmp_path)
        path = next(tmp_path.glob("a-*/execution.json"))
        known = json.loads(path.read_text())
        path.write_text(json.dumps(known | {"devices": 2}))
        with pytest.raises(ValueError, match="begun on 2 devices, but there are 1"):
            study(regression, tmp_path)

    @pytest.mark.parametrize("seconds", [-1.0, float("nan")])
    def test_save_every(self, regression, tmp_path, seconds):
        with pytest.raises(ValueError, match="save_every must be seconds"):
            study(regression, tmp_path, save_every=seconds)
