"""The README's Python is run as it stands, block after block."""

import re
from pathlib import Path


README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def test_the_python_of_the_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it saves a study
    namespace = {}
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), namespace)
    assert namespace["solution"].stats["loss"] < namespace["model"].value
    assert namespace["final"].sizes == {"strategy": 2, "learning_rate": 3}
    assert (tmp_path / "results" / "sine" / "study.json").exists()
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
