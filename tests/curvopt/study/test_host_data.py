"""Batches that come from the host: those of the device, asked for once, resumed exactly."""

import collections
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import _processes
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from test_devices import start

import curvopt
from curvopt._minibatch import host_minibatch_indices
from curvopt._study import _execution
from strategies import BacktrackingArmijo, LearningRate, SGD, StepTuned


def fixed(rate):
    return curvopt.LineSearchMinimiser(SGD(), LearningRate(rate))


SOLVER = fixed(0.1)
STRATEGIES = {
    "family": curvopt.Family(fixed, rate=[0.05, 0.1]),
    "searched": curvopt.LineSearchMinimiser(SGD(), BacktrackingArmijo()),
    "two": curvopt.LineSearchMinimiser(SGD(), StepTuned(0.1)),
}


X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
ARRAYS = X, np.sin(X.sum(axis=1))


def problem(train, **options):
    model = curvopt.EquinoxModel(lambda key: eqx.nn.Linear(3, "scalar", key=key))
    return curvopt.SupervisedProblem(
        model, optax.squared_error, train, validation=ARRAYS, **options
    )


def mapped(folder):
    """The data, as memory maps of files."""
    for name, x in zip("xz", ARRAYS):
        np.save(folder / f"{name}.npy", x)
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xz")


class Shuffled:
    """Batches by seed and step; counts how often each is asked for."""

    def __init__(self, arrays):
        self.arrays, self.asked = arrays, collections.Counter()

    def __call__(self, seed, step):
        self.asked[seed, step] += 1
        rows = host_minibatch_indices(seed, step, size=24, batch_size=8)
        return tuple(x[rows] for x in self.arrays)


def hosted(batch):
    return problem(curvopt.HostData(batch, steps_per_epoch=3))


class Own(curvopt.AbstractProblem):
    """A linear regression without a `batch`."""

    data: curvopt.HostData | None

    def init(self, key):
        return jnp.ones(3), None

    def loss(self, params, args):
        (x, z), state, _ = args
        return jnp.mean((x @ params - z) ** 2), (state, {})

    def evaluate(self, params, state):
        return {"length": curvopt.tree_norm(params)}

    @property
    def host_data(self):
        return self.data

    @property
    def steps_per_epoch(self):
        return 3


def own(batch):
    return Own(curvopt.HostData(batch, steps_per_epoch=3))


def study(problem, strategies=STRATEGIES, **options):
    how = {"workers": 1, "loop": "dispatch"} | options.pop("how", {})
    options = {"seeds": [1, 2, 5], "steps": 11, "evaluations": 2} | options
    options |= {"progress": False, "execution": curvopt.Execution(**how)}
    return curvopt.run_study(problem, strategies, **options)


def on_device(*args, **options):
    """The study of the same batches on the device."""
    return study(problem(ARRAYS, batch_size=8), *args, **options).drop_vars("train_loss")


def assert_same(a, b):
    """All numbers, bit for bit, but for times."""
    assert set(a.variables) == set(b.variables)
    for name in set(a.variables) - {"seconds", "compile_seconds", "execution"}:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=str(name))


def loaders():
    return [x for x in threading.enumerate() if "_load_all" in x.name]


@pytest.fixture
def batch(tmp_path):
    return Shuffled(mapped(tmp_path))


@pytest.fixture(scope="module")
def whole():
    """A study that nothing stops."""
    return study(own(Shuffled(ARRAYS)), {"a": SOLVER})


def test_it_is_the_problem_on_the_device(batch):
    """To the bit: a family, a search of several losses, and two steps on a batch. Each
    group asks once for a seed and step, whatever it evaluates."""
    data = study(hosted(batch))
    assert_same(data, on_device())
    # The first batch of seed 0 is asked for twice: what batches are, and that they repeat.
    assert batch.asked.pop((0, 0)) == 2
    steps, of_two = set(range(11)), set(range(6))
    assert {step for _, step in batch.asked} == steps
    for (_, step), times in batch.asked.items():
        assert times == 2 + (step in of_two)
    assert not loaders()


@pytest.mark.parametrize(
    "lanes, workers", [pytest.param(1, 1, marks=pytest.mark.slow), (2, 2)]
)
def test_no_choice_changes_a_result(lanes, workers, batch):
    one = {"family": STRATEGIES["family"]}
    expected = study(own(Shuffled(batch.arrays)), one)
    data = study(own(batch), one, how={"lanes_at_once": lanes, "workers": workers})
    np.testing.assert_allclose(data.loss, expected.loss, rtol=1e-5)
    # Runs of a seed are grouped: of six in pairs, each seed is asked for by one group.
    batch.asked.pop((0, 0))
    assert set(batch.asked.values()) == {2 // lanes}


def test_a_measurement_loads_nothing(batch, monkeypatch):
    """How lanes are run is measured on the first batch, which is there already."""
    monkeypatch.setattr(_execution, "_MEASURE_SECONDS", 0.0)
    how = {"measure": True, "workers": None, "loop": None}
    data = study(own(batch), {"a": SOLVER}, how=how, steps=3)
    assert "measured, a step of a lane: dispatch" in data.execution.item()
    assert batch.asked.pop((0, 0)) == 2
    assert len(batch.asked) == 9 and set(batch.asked.values()) == {1}


@pytest.mark.slow
def test_training(batch):
    """The seed is the one that the key was made from."""
    how = {"steps": 7, "progress": False}
    ours = curvopt.train(hosted(batch), SOLVER, jax.random.key(3), **how)
    how["execution"] = curvopt.Execution(loop="dispatch")
    device = problem(ARRAYS, batch_size=8)
    theirs = curvopt.train(device, SOLVER, jax.random.key(3), **how)
    np.testing.assert_array_equal(ours.history.loss, theirs.history.loss)
    assert set(batch.asked) == {(0, 0), *((3, step) for step in range(7))}
    # One that was split off has random bits; threefry is jax's default, not the only one.
    key = jax.random.split(jax.random.key(3, impl="rbg"))[0]
    assert np.isfinite(curvopt.train(hosted(batch), SOLVER, key, **how).history.loss).all()


def test_examples_that_are_evaluated(tmp_path):
    """Those that seed 0 begins with."""
    data = curvopt.HostData.from_arrays(mapped(tmp_path), batch_size=8)
    host = problem(data, evaluated=10)
    rows = np.concatenate(
        [host_minibatch_indices(0, k, size=24, batch_size=8) for k in (0, 1)]
    )[:10]
    device = problem(tuple(x[rows] for x in ARRAYS), batch_size=8)
    start = device.init(jax.random.key(0))
    assert host.evaluate(*start) == device.evaluate(*start)
    with pytest.raises(ValueError, match="batch_size must be left out, but it is 8"):
        problem(data, batch_size=8)
    stream = curvopt.HostData.from_iterator(lambda seed: [ARRAYS], steps_per_epoch=1)
    with pytest.raises(ValueError, match="evaluated must be left out, but it is 10"):
        problem(stream, evaluated=10)


@pytest.mark.parametrize(
    "size, batch_size",
    [
        (1000, 7),
        (1, 1),
        pytest.param(24, 8, marks=pytest.mark.slow),
        pytest.param(5, 5, marks=pytest.mark.slow),
    ],
)
def test_the_indices_are_those_of_the_device(size, batch_size):
    sizes = {"size": size, "batch_size": batch_size}
    key = jax.random.split(jax.random.key(2**32 - 1), 4)[1]
    for step in (0, 1, 300):
        ours = host_minibatch_indices(2**32 - 1, step, **sizes)
        theirs = curvopt.minibatch_indices(key, step, **sizes)
        np.testing.assert_array_equal(ours, theirs)


def test_memory_maps_are_not_read_ahead(tmp_path):
    """A batch of small examples in random order would read a whole file."""
    arrays = mapped(tmp_path)
    flags = lambda: re.findall(
        rf"{tmp_path}/x.npy\n.*?VmFlags: ([^\n]*)",
        Path("/proc/self/smaps").read_text(),
        re.DOTALL,
    )
    if sys.platform == "linux":
        assert len(flags()) == 1 and "rr" not in flags()[0].split()
        curvopt.HostData.from_arrays((arrays[0][4:], arrays[1][4:]), batch_size=8)
        assert "rr" in flags()[0].split()


KILLED = textwrap.dedent(
    """
    import sys, time
    sys.path[:0] = {tests!r}
    from pathlib import Path
    from test_host_data import mapped, own, Shuffled, STRATEGIES, study

    class Slow(Shuffled):
        def __call__(self, seed, step):
            time.sleep(0.02)
            return super().__call__(seed, step)

    Slow.__name__ = "Shuffled"
    slow, two = own(Slow(mapped(Path({data!r})))), {{"two": STRATEGIES["two"]}}
    study(slow, two, steps=100, folder={folder!r}, save_every=0)
    """
)


@pytest.mark.slow
def test_a_study_that_is_killed_resumes(batch, tmp_path):
    folder, one = tmp_path / "study", {"two": STRATEGIES["two"]}
    tests = [str(path) for path in Path(__file__).parents[:2]]
    code = KILLED.format(tests=tests, data=str(tmp_path), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code])
    while not (folder / "study.sqlite").exists() or not steps_made(folder):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = steps_made(folder)
    assert 0 < before < 100
    resumed = study(own(batch), one, steps=100, folder=folder)
    # From the batch on at which it was killed, which may be that of an odd step.
    assert min(step for seed, step in batch.asked if seed) == before // 2
    assert_same(resumed, study(own(batch), one, steps=100))


def steps_made(folder):
    try:
        return int(curvopt.load_study(folder).steps_made.max())
    except curvopt.StudyError:
        return 0


class Broken(Shuffled):
    """Fails at the seventh step of a seed."""

    broken: Exception | None

    def __call__(self, seed, step):
        if (seed, step) == (2, 6) and self.broken:
            raise self.broken
        return super().__call__(seed, step)


def test_an_error_comes_out_as_itself_with_everything_saved(batch, whole, tmp_path):
    class Own(RuntimeError):
        pass

    broken, one = Broken(batch.arrays), {"a": SOLVER}
    broken.broken = Own("the disk has gone")
    with pytest.raises(Own, match="the disk has gone") as caught:
        study(own(broken), one, folder=tmp_path / "study", save_every=1e9)
    assert caught.value is broken.broken
    assert curvopt.load_study(tmp_path / "study").steps_made.values.tolist() == [[6] * 3]
    assert not loaders()
    broken.broken = None
    assert_same(study(own(broken), one, folder=tmp_path / "study"), whole)


@pytest.mark.parametrize(
    "change, kind",
    [
        (lambda x, z: (x[:5], z[:5]), r"\(float32\[5, 3\], float32\[5\]\)"),
        (lambda x, z: (x.astype(np.float16), z), r"\(float16\[8, 3\], float32\[8\]\)"),
        (lambda x, z: {"x": x, "z": z}, r"\{x: float32\[8, 3\], z: float32\[8\]\}"),
    ],
)
def test_later_batches_of_another_kind(change, kind, batch):
    def later(seed, step):
        made = batch(seed, step)
        return change(*made) if (seed, step) == (5, 4) else made

    with pytest.raises(
        ValueError,
        match=r"seed 5, step 4 must be like the first one of seed 0, which is "
        rf"\(float32\[8, 3\], float32\[8\]\), but it is {kind}",
    ):
        study(own(later), {"a": SOLVER})


def test_memory_that_is_used_again(batch, whole):
    """A function may fill the same arrays at each step: they are copied before."""
    x, z = np.empty((8, 3), np.float32), np.empty(8, np.float32)

    def refilled(seed, step):
        x[:], z[:] = batch(seed, step)
        return x, z

    assert_same(study(own(refilled), {"a": SOLVER}), whole)


def test_double_precision_reaches_the_threads(batch, whole, x64):
    """jax's settings are those of a thread."""
    double = lambda seed, step: tuple(x.astype(np.float64) for x in batch(seed, step))
    data = study(own(double), {"a": SOLVER}, how={"lanes_at_once": 2, "workers": 2})
    assert data.loss.dtype == np.float64
    np.testing.assert_allclose(data.loss, whole.loss, rtol=1e-4)


def test_other_data_are_another_study(batch, tmp_path):
    one, folder = {"a": SOLVER}, tmp_path / "study"
    study(own(batch), one, folder=folder)
    other = Shuffled((batch.arrays[0] + np.float32(1), batch.arrays[1]))
    with pytest.raises(curvopt.StudyError, match=r"first batch of seed 0\[0\]: float32"):
        study(own(other), one, folder=folder)


STREAM, RANDOM = itertools.count(), np.random.default_rng(0)


@pytest.mark.parametrize(
    "given",
    [
        lambda seed, step: (RANDOM.normal(size=(8, 3)), np.ones(8)),
        lambda seed, step: (np.full((8, 3), next(STREAM)), np.ones(8)),
    ],
)
def test_batches_that_do_not_repeat(given, unchecked):
    with pytest.raises(ValueError, match=r"first one of seed 0 was another.*default_rng"):
        study(own(given), {"a": SOLVER})


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: curvopt.HostData(3, steps_per_epoch=1), "batch must be a function, but"),
        (
            lambda: curvopt.HostData(print, steps_per_epoch=0),
            "steps_per_epoch must be an integer of at least 1, but it is 0",
        ),
        (
            lambda: curvopt.HostData.from_arrays(np.ones((4, 2)), batch_size=5),
            "at most the number of examples, but it is 5 and there are 4",
        ),
        (
            lambda: curvopt.HostData.from_arrays((np.ones(4), np.ones(3)), batch_size=2),
            r"there are 4 in arrays\[0\], 3 in arrays\[1\]",
        ),
    ],
)
def test_bad_data(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()


class Forgetful(Own):
    """A wrapper that does not pass the data on."""

    problem: Own

    def batch(self, key, count):
        return self.problem.batch(key, count)


def test_a_class_of_ones_own(batch, unchecked):
    data = study(own(batch), {"a": SOLVER})
    assert data.loss.mean("seed")[0, -1] < data.loss.mean("seed")[0, 0]
    with pytest.raises(ValueError, match="loop must be 'dispatch' or None, but it is 'sc"):
        study(own(batch), {"a": SOLVER}, how={"loop": "scan"})
    with pytest.raises(ValueError, match="Own must define `batch`, or `host_data`"):
        study(Own(None), {"a": SOLVER})
    with pytest.raises(ValueError, match="Own has no `batch`.*must have its `host_data`"):
        study(Forgetful(None, own(batch)), {"a": SOLVER})


def in_order(batch, **options):
    return Own(curvopt.HostData.from_iterator(batch, steps_per_epoch=3, **options))


@pytest.mark.slow
def test_iterators_that_repeat(batch, tmp_path):
    """Strategies see the same batches, and a study that is extended goes on."""
    endless = lambda seed: (batch(seed, step) for step in itertools.count())
    two = {name: STRATEGIES[name] for name in ("family", "two")}
    again, folder = lambda: in_order(endless, repeatable=True), tmp_path / "study"
    study(again(), two, folder=folder, steps=5)
    longer = study(again(), two, folder=folder)
    np.testing.assert_array_equal(longer.loss, study(own(batch), two).loss)


def test_a_stream(batch, tmp_path):
    """One strategy reads it once; what would need it twice is refused."""
    endless = lambda seed: (batch(seed, step) for step in itertools.count())
    one, stream = {"a": SOLVER}, in_order(endless)
    data = study(stream, one, seeds=2)
    assert set(batch.asked.values()) == {1}
    assert_same(data, study(own(batch), one, seeds=2))
    with pytest.raises(ValueError, match="seed 0 were read already, and a stream cannot"):
        study(stream, one, seeds=2)
    with pytest.raises(ValueError, match="cannot go back, but there is 4 runs of each"):
        study(in_order(endless))
    with pytest.raises(ValueError, match="cannot go back, but there is the folder"):
        study(in_order(endless), one, folder=tmp_path / "study")


def test_iterators_that_break_their_promise(batch):
    ends = lambda seed: (batch(seed, step) for step in range(6))
    with pytest.raises(ValueError, match=r"has ended after 6 batches.*while True"):
        study(in_order(ends, repeatable=True), {"a": SOLVER})
    moves = itertools.count()
    changing = lambda seed: (batch(seed + next(moves), step) for step in range(99))
    with pytest.raises(ValueError, match="seed 0 was another when it was asked for again"):
        study(in_order(changing, repeatable=True), {"a": SOLVER})


def test_ctrl_c_while_data_are_loaded(batch, tmp_path):
    """A signal is heeded at the end of a chunk, everything is saved, and no thread is
    left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupting(seed, step):
        if (seed, step) == (1, 8):
            os.kill(os.getpid(), signal.SIGINT)
        return batch(seed, step)

    one, folder = {"a": SOLVER}, tmp_path / "study"
    interrupting.__qualname__ = "Shuffled"  # what a study knows it by
    try:
        with pytest.raises(KeyboardInterrupt):
            study(own(interrupting), one, steps=50, folder=folder, save_every=1e9)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 0 < steps_made(folder) < 50
    assert not loaders()
    assert_same(
        study(own(batch), one, steps=50, folder=folder),
        study(own(batch), one, steps=50),
    )


def on_two_devices(data, out):
    """Six lanes, three on each device, of which two share a seed."""
    assert jax.device_count() == 2
    batch = Shuffled(mapped(Path(data)))
    study(hosted(batch), {"family": STRATEGIES["family"]}).to_netcdf(out)
    assert set(batch.asked.values()) == {1, 2} and batch.asked.pop((0, 0)) == 2
    assert set(batch.asked.values()) == {1}


def in_two_processes(data, out):
    """Each asks for the seeds of its own lanes only."""
    batch = Shuffled(mapped(Path(data)))
    how = {"lanes_at_once": 1, "devices": jax.local_devices()[:1]}
    index = jax.process_index()
    study(hosted(batch), {"a": SOLVER}, how=how).to_netcdf(f"{out}-{index}")
    assert {seed for seed, _ in batch.asked} == [{0, 1, 5}, {0, 2}][index]


def ended(*calls, address=""):
    """The exit codes of processes."""
    calls = [f"import test_host_data; test_host_data.{call}" for call in calls]
    devices = 1 if address else 2
    both = [start(call, devices, address, k) for k, call in enumerate(calls)]
    try:
        return [process.wait(timeout=300) for process in both]
    finally:
        for process in both:
            process.kill()


@pytest.mark.slow
def test_two_devices(tmp_path):
    out = tmp_path / "data.nc"
    mapped(tmp_path)
    assert ended(f"on_two_devices({str(tmp_path)!r}, {str(out)!r})") == [0]
    expected = on_device({"family": STRATEGIES["family"]})
    np.testing.assert_allclose(xr.load_dataset(out).loss, expected.loss, rtol=1e-5)


@pytest.mark.slow
def test_two_processes(tmp_path):
    mapped(tmp_path)
    call = f"in_two_processes({str(tmp_path)!r}, {str(tmp_path / 'data.nc')!r})"
    assert ended(call, call, address=_processes.address()) == [0, 0]
    expected = on_device({"a": SOLVER})
    for index in range(2):
        data = xr.load_dataset(tmp_path / f"data.nc-{index}")
        np.testing.assert_allclose(data.loss, expected.loss, rtol=1e-5)
