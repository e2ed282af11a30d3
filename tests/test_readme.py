"""The README's Python is run as it stands, block after block."""

import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp


README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def killed(code):
    """Run code in a process of its own, and kill it when its study has begun."""
    process = subprocess.Popen([sys.executable, "-c", code])
    while process.poll() is None:
        if Path("results/sine/study.sqlite").exists():
            process.kill()
        time.sleep(0.001)


def test_the_python_of_the_readme_runs(capsys, tmp_path, monkeypatch):
    """Block after block; the study is killed, resumed, extended, loaded, compared, drawn,
    and the parameters of its best run are used."""
    monkeypatch.chdir(tmp_path)  # it saves a study
    monkeypatch.setenv("PYTHONPATH", str(README.parent))
    namespace, before = {}, ""
    for block in blocks("python"):
        if '.run("results/sine")' in block and "seeds=4" in block:
            killed(before + block)
        before += block
        exec(compile(block, str(README), "exec"), namespace)
    assert namespace["solution"].stats["loss"] < namespace["model"].value
    assert namespace["final"].sizes == {"strategy": 2, "learning_rate": 3}
    assert namespace["saved"].identical(namespace["grid"])
    assert namespace["grid"].sizes["seed"] == 8
    assert (namespace["grid"].steps_made == 500).all()
    assert (tmp_path / "results" / "sine.png").stat().st_size > 10_000
    assert jnp.isfinite(jax.vmap(namespace["fitted"])(jnp.zeros(2))).all()
    errors = namespace["run"].history.error
    assert errors[-1] < errors[0]
    assert namespace["study"].sizes["seed"] == 8
    assert namespace["last_loss"] < namespace["cross_entropy"](
        namespace["net"], namespace["data"]
    )
    assert namespace["minimum"].stats["loss"] < namespace["model"].value
    assert namespace["result"].history.sizes["step"] == 20
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_there_are_two_commands_that_do_all_the_set_up():
    commands = blocks("sh")
    assert len(commands) == 2
    for command in commands:
        assert "-m venv" in command and "pip install" in command
