"""Lanes on several devices and in several processes are those of one device."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import xarray as xr

import curvopt


# Tests have one device; what is to have more runs in processes of its own.
_STUDY = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    import jax
    if len(sys.argv) > 3:
        address, count, index = sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
        jax.distributed.initialize(address, count, index)
    from conftest import Regression, Stateful
    import curvopt
    from strategies import BacktrackingArmijo, CurvatureRescaling, Momentum, SGD

    solver = curvopt.LineSearchMinimiser
    rescaled = lambda rate: solver(Momentum(), CurvatureRescaling(rate, average=0.9))
    searched = lambda rate: solver(SGD(), BacktrackingArmijo(rate))
    strategies = dict(rescaled=rescaled, searched=searched)

    def study(problem, folder=None, steps=20, **how):
        return curvopt.run_study(
            problem,
            strategies,
            hyperparameters=dict(rate=[0.05, 0.3]),
            seeds=5,
            steps=steps,
            evaluations=2,
            execution=curvopt.Execution(**how),
            folder=folder,
            save_every=0.2,
            progress=False,
        )

    {body}
    """
)

EIGHT = """
    assert jax.device_count() == 8
    for problem in (Regression(), Stateful()):
        name = type(problem).__name__
        study(problem).to_netcdf(f"{sys.argv[1]}-{name}-all.nc")
        some = study(problem, loop="dispatch", devices=jax.devices()[:3], lanes_at_once=1)
        some.to_netcdf(f"{sys.argv[1]}-{name}-some.nc")
        one = study(problem, devices=jax.devices()[:1])
        one.to_netcdf(f"{sys.argv[1]}-{name}-one.nc")
"""

DISTRIBUTED = """
    data = study(Regression())
    assert jax.process_count() == (int(sys.argv[4]) if len(sys.argv) > 3 else 1)
    data.to_netcdf(f"{sys.argv[1]}-{jax.process_index()}.nc")
"""


SAVED = """
    data = study(Regression(), folder=sys.argv[1], steps=int(sys.argv[2]), lanes_at_once=1)
    data.to_netcdf(f"{sys.argv[1]}-{jax.process_index()}.nc")
"""


def start(body, out, devices, *arguments, second="-"):
    code = _STUDY.format(tests=os.path.dirname(__file__), body=textwrap.dedent(body))
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    # Errors of one process must be seen while the other waits for it.
    return subprocess.Popen(
        [sys.executable, "-c", code, str(out), second, *arguments],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )


def assert_equal_lanes(a, b):
    """To rounding, which depends on how many lanes are computed together."""
    assert a.sizes == b.sizes and a.sizes["rate"] == 2
    for name in ("loss", "step_size", "gradient_norm"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for name in set(a.data_vars) & {"train_loss", "size"}:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, err_msg=name)
    np.testing.assert_array_equal(a.evaluated_losses, b.evaluated_losses)


def test_eight_devices(tmp_path):
    """Ten lanes on eight devices, on three, and on one; a search that takes another number
    of trials in each; a model with state and randomness."""
    assert start(EIGHT, tmp_path / "d", 8).wait(timeout=600) == 0
    for problem in ("Regression", "Stateful"):
        read = lambda how, p=problem: xr.load_dataset(tmp_path / f"d-{p}-{how}.nc")
        one = read("one")
        for how in ("all", "some"):
            assert_equal_lanes(read(how), one)
        assert '"devices": 8' in str(read("all").execution.values[0])


def start_two(body, out, **options):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    address = f"localhost:{port}"
    return [start(body, out, 2, address, "2", str(k), **options) for k in range(2)]


def test_two_processes(tmp_path):
    """Each process gets the whole dataset."""
    both = start_two(DISTRIBUTED, tmp_path / "p")
    alone = start(DISTRIBUTED, tmp_path / "alone", 1)
    try:
        assert [process.wait(timeout=100) for process in (*both, alone)] == [0, 0, 0]
    finally:
        for process in (*both, alone):
            process.kill()
    first, second = (xr.load_dataset(tmp_path / f"p-{k}.nc") for k in range(2))
    assert first.drop_vars(["seconds", "compile_seconds"]).equals(
        second.drop_vars(["seconds", "compile_seconds"])
    )
    assert_equal_lanes(first, xr.load_dataset(tmp_path / "alone-0.nc"))


def test_one_of_two_processes_is_interrupted(tmp_path):
    """The other one ends too, soon and with a message; what both saved is resumed, by as
    many processes or by one."""
    folder = tmp_path / "study"
    both = start_two(SAVED, folder, second="200000")
    try:
        while not (folder / "study-1.sqlite").exists() or steps_made(folder) < 100:
            assert [process.poll() for process in both] == [None, None]
            time.sleep(0.1)
        both[1].send_signal(signal.SIGTERM)
        assert [process.wait(timeout=60) != 0 for process in both[::-1]] == [True, True]
    finally:
        for process in both:
            process.kill()
    before = curvopt.load_study(folder).steps_made
    assert (before < 200_000).all() and (before > 0).any()
    longest = int(before.max())
    both = start_two(SAVED, folder, second=str(longest))
    try:
        assert [process.wait(timeout=100) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    first, second = (xr.load_dataset(tmp_path / f"study-{k}.nc") for k in range(2))
    assert (first.steps_made == longest).all() and (second.steps_made == longest).all()
    np.testing.assert_array_equal(first.loss, second.loss)
    loaded = curvopt.load_study(folder)
    assert (loaded.steps_made == longest).all()
    np.testing.assert_array_equal(loaded.loss[..., :longest], first.loss)


def steps_made(folder):
    """The most steps that a run there has made."""
    try:
        return int(curvopt.load_study(folder).steps_made.max())
    except curvopt.StudyError:
        return 0
