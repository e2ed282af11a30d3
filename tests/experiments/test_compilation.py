"""Programs that commands keep in the user's cache folder."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import xarray as xr

from experiments._compilation import _forget, _processors, keep_programs


pytestmark = pytest.mark.host

_CPUINFO = """\
processor\t: {number}
model name\t: {model}
cpu MHz\t\t: {speed}
flags\t\t: fpu {flags}
"""


def _described(path, **kinds):
    kinds = {"model": "one", "speed": 2100, "flags": "avx2", "number": 0} | kinds
    path.write_text(_CPUINFO.format(**kinds))
    return _processors(path)


def test_each_kind_of_processor_has_a_folder(tmp_path):
    """Guards against a program with instructions that this processor does not have."""
    file = tmp_path / "cpuinfo"
    one = _described(file)
    assert one is not None and one == _described(file, speed=3000, number=7)
    others = [_described(file, flags="avx2 avx512f"), _described(file, model="two")]
    assert len({one, *others}) == 3
    file.write_text("model name: one\n")
    assert _processors(file) is None and _processors(tmp_path / "absent") is None


def test_the_oldest_are_forgotten(tmp_path):
    for age in range(4):
        path = tmp_path / f"{age}"
        path.write_bytes(bytes(10))
        os.utime(path, (1e9 - age, 1e9 - age))
    _forget(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def _setting(name):
    return getattr(jax.config, name)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, under jax's own defaults."""
    names = (
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: _setting(name) for name in names}
    monkeypatch.setattr("pooch.os_cache", lambda name: str(tmp_path / name))
    jax.config.update("jax_enable_compilation_cache", True)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_where_programs_are_kept(cache, monkeypatch):
    monkeypatch.setattr("experiments._compilation._processors", lambda: "this")
    keep_programs(False)
    assert _setting("jax_compilation_cache_dir") is None and not any(cache.iterdir())
    keep_programs(True)
    own = cache / "curvopt" / "programs" / "this"
    assert Path(_setting("jax_compilation_cache_dir")) == own and own.is_dir()
    jax.config.update("jax_compilation_cache_dir", "theirs")
    keep_programs(True)
    assert _setting("jax_compilation_cache_dir") == "theirs"


def test_without_a_folder_to_write_to(cache):
    (cache / "curvopt").write_text("a file, where a folder would be")
    keep_programs(True)
    assert _setting("jax_compilation_cache_dir") is None


@pytest.mark.slow
def test_the_second_command_compiles_nothing(tmp_path):
    """And its numbers are those of programs that were compiled, to the bit."""
    cache = tmp_path / "cache"
    own = {"XDG_CACHE_HOME": str(cache), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    study = ["--problem", "quadratic", "--directions", "sgd", "--line-searches", "unit"]
    sizes = ["--seeds", "2", "--steps", "12"]

    def kept(out, *more):
        command = [sys.executable, "-m", "experiments", "compare", *study, *sizes, *more]
        command += ["--out", str(tmp_path / out)]
        done = subprocess.run(
            command, env=os.environ | own, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "cache" not in done.stderr
        return sorted(path.name for path in cache.glob("curvopt/programs/*/*"))

    assert kept("compiled", "--no-cache") == []
    first = kept("first")
    assert sum(name.startswith("jit_scan") for name in first) == 1
    assert kept("second") == first
    numbers = [
        xr.load_dataset(tmp_path / out / "results.nc").drop_vars(
            ["seconds", "compile_seconds", "execution"], errors="ignore"
        )
        for out in ("compiled", "first", "second")
    ]
    assert numbers[0].equals(numbers[1]) and numbers[0].equals(numbers[2])
