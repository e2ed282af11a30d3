"""Lanes on several devices and in several processes are those of one device."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import _processes
import jax
import numpy as np
import pytest
import xarray as xr

import curvopt
from strategies import BacktrackingArmijo, CurvatureRescaling, Momentum, SGD


def rescaled(rate):
    return curvopt.LineSearchMinimiser(Momentum(), CurvatureRescaling(rate, average=0.9))


def searched(rate):
    return curvopt.LineSearchMinimiser(SGD(), BacktrackingArmijo(rate))


def study(problem, folder=None, steps=20, on_evaluation=None, **how):
    return curvopt.run_study(
        problem,
        {"rescaled": rescaled, "searched": searched},
        hyperparameters={"rate": [0.05, 0.3]},
        seeds=5,
        steps=steps,
        evaluations=2,
        execution=curvopt.Execution(**how),
        folder=folder,
        save_every=0.2,
        progress=False,
        on_evaluation=on_evaluation,
    )


def on_eight_devices(out, *problems):
    assert jax.device_count() == 8
    for problem in problems:
        name = type(problem).__name__
        study(problem).to_netcdf(f"{out}-{name}-all.nc")
        some = study(problem, loop="dispatch", devices=jax.devices()[:3], lanes_at_once=1)
        some.to_netcdf(f"{out}-{name}-some.nc")


def in_each_of_two_processes(out, steps, problem):
    """A study that is saved, one that is not and is watched, and a training run."""
    assert jax.process_count() == 2
    index, told = jax.process_index(), []
    study(problem, out, steps, lanes_at_once=1).to_netcdf(f"{out}-saved-{index}.nc")
    watch = lambda e: told.append([e.strategy, *e.hyperparameters.values(), e.seed, e.step])
    study(problem, on_evaluation=watch).to_netcdf(f"{out}-free-{index}.nc")
    result = trained(problem)
    result.history.to_netcdf(f"{out}-trained-{index}.nc")
    np.savez(f"{out}-{index}.npz", told=told, **numbered(result.params))


def trained(problem):
    return curvopt.train(
        problem, rescaled(0.3), jax.random.key(0), steps=20, evaluations=2, progress=False
    )


def numbered(params):
    return {str(k): x for k, x in enumerate(jax.tree.leaves(params))}


# Tests have one device; what is to have more runs in processes of its own.
_START = textwrap.dedent(
    """
    import sys
    sys.path[:0] = {tests!r}
    if {address!r}:
        import _processes
        _processes.join({address!r}, {index}, {heartbeat})
    from conftest import Regression, Stateful
    from test_devices import in_each_of_two_processes, on_eight_devices, study
    {call}
    """
)


def start(call, devices, address="", index=0, heartbeat=100):
    tests = [str(path) for path in Path(__file__).parents[:2]]
    code = _START.format(
        tests=tests, call=call, address=address, index=index, heartbeat=heartbeat
    )
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    # Errors of one process must be seen while the other waits for it.
    environment = os.environ | {"XLA_FLAGS": flags}
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def assert_equal_lanes(a, b):
    """To rounding, which depends on how many lanes are computed together."""
    assert a.sizes == b.sizes and a.sizes["rate"] == 2
    for name in ("loss", "step_size", "gradient_norm"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for name in set(a.data_vars) & {"train_loss", "size"}:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, err_msg=name)
    np.testing.assert_array_equal(a.evaluated_losses, b.evaluated_losses)


@pytest.fixture
def alone(regression):
    return study(regression)


@pytest.mark.slow
def test_eight_devices(alone, stateful, tmp_path):
    """Ten lanes on eight devices, on three, and on one; a search that takes another number
    of trials in each; a model with state and randomness."""
    call = f"on_eight_devices({str(tmp_path / 'd')!r}, Regression(), Stateful())"
    assert start(call, 8).wait(timeout=600) == 0
    for problem, one in (("Regression", alone), ("Stateful", study(stateful))):
        for how in ("all", "some"):
            data = xr.load_dataset(tmp_path / f"d-{problem}-{how}.nc")
            assert_equal_lanes(data, one)
            if how == "all":
                assert '"devices": 8' in str(data.execution.values[0])


def start_two(out, steps, heartbeat=100):
    address = _processes.address()
    call = f"in_each_of_two_processes({str(out)!r}, {steps}, Regression())"
    return [start(call, 2, address, index, heartbeat) for index in range(2)]


def wait_for_steps(folder, both):
    """Until both of two processes have saved some."""
    while not (folder / "study-1.sqlite").exists() or steps_made(folder) < 100:
        assert [process.poll() for process in both] == [None, None]
        time.sleep(0.1)


@pytest.mark.slow
def test_two_processes_of_which_one_is_interrupted(alone, regression, tmp_path):
    """The other one ends too, soon and with a message; what both saved is resumed by as
    many processes. Each gets the whole dataset, of this study and of one without a
    folder."""
    folder = tmp_path / "study"
    both = start_two(folder, 200_000)
    try:
        wait_for_steps(folder, both)
        both[1].send_signal(signal.SIGTERM)
        assert [process.wait(timeout=60) != 0 for process in both[::-1]] == [True, True]
    finally:
        for process in both:
            process.kill()
    before = curvopt.load_study(folder).steps_made
    assert (before < 200_000).all() and (before > 0).any()
    longest = int(before.max())
    both = start_two(folder, longest)
    try:
        assert [process.wait(timeout=100) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    read = lambda how, k: xr.load_dataset(tmp_path / f"study-{how}-{k}.nc")
    first, second = read("saved", 0), read("saved", 1)
    assert (first.steps_made == longest).all() and (second.steps_made == longest).all()
    np.testing.assert_array_equal(first.loss, second.loss)
    loaded = curvopt.load_study(folder)
    assert (loaded.steps_made == longest).all()
    np.testing.assert_array_equal(loaded.loss[..., :longest], first.loss)
    times = ["seconds", "compile_seconds"]
    for how in ("free", "trained"):
        first, second = (read(how, k).drop_vars(times) for k in range(2))
        assert first.equals(second)
        if how == "free":
            assert_equal_lanes(first, alone)
    first, second = (np.load(f"{folder}-{k}.npz") for k in range(2))
    for name, x in numbered(trained(regression).params).items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], x, rtol=1e-4, atol=1e-6)
    # Each run's evaluations are reported by the process that makes it.
    told = [*map(tuple, first["told"].tolist()), *map(tuple, second["told"].tolist())]
    assert len(told) == len(set(told)) == 3 * alone.loss[..., 0].size
    assert len(first["told"]) > 0 and len(second["told"]) > 0


@pytest.mark.slow
def test_a_process_that_is_killed(tmp_path):
    """It says nothing, and the other one ends once jax misses its heartbeat. What both
    saved is resumed by one process alone."""
    folder = tmp_path / "study"
    both = start_two(folder, 200_000, heartbeat=10)
    try:
        wait_for_steps(folder, both)
        both[1].kill()
        assert both[0].wait(timeout=60) != 0
    finally:
        for process in both:
            process.kill()
    longest = steps_made(folder)
    call = f"study(Regression(), {str(folder)!r}, {longest}, lanes_at_once=1)"
    assert start(call, 2).wait(timeout=200) == 0
    loaded = curvopt.load_study(folder)
    assert (loaded.steps_made == longest).all()
    assert np.isfinite(loaded.loss[..., :longest]).all()


def steps_made(folder):
    """The most steps that a run there has made."""
    try:
        return int(curvopt.load_study(folder).steps_made.max())
    except curvopt.StudyError:
        return 0
