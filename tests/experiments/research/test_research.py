"""The command of the research, and the files that it keeps."""

import numpy as np
import pytest
import xarray as xr

from experiments.__main__ import main
from experiments.research import QUESTIONS
from experiments.research._command import origin


pytestmark = pytest.mark.host


@pytest.mark.slow
def test_a_quick_run_is_kept_and_concluded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["research", "--quick", "--questions", "recipe", "--settings", "logistic"]
    assert main(command) == 0
    assert "recipe, logistic: " in capsys.readouterr().out
    results = tmp_path / "results" / "research-quick"
    data = xr.load_dataset(results / "recipe" / "logistic.nc")
    assert data.attrs["label"] == "logistic regression, MNIST"
    assert data.attrs["quick"] == "True"
    assert {"command", "commit", "versions", "hardware", "date"} <= set(data.attrs)
    assert data.sizes["direction"] == 4
    assert (data.train_loss < data.start).all()
    assert "distance" in data and (data.distance > 0).all()
    findings = QUESTIONS["recipe"].findings(results)
    assert findings.numbers["RecipeCases"] == "4"


def test_the_command_is_kept_without_places(monkeypatch):
    words = ["x", "research", "--out", "a", "--quick", "--data-dir", "b", "--runs", "c"]
    monkeypatch.setattr("sys.argv", [*words, "--settings", "mlp"])
    assert origin()["command"] == "python -m experiments research --quick --settings mlp"


def test_what_nobody_asks(tmp_path, capsys):
    command = ["research", "--questions", "batch", "--settings", "lenet"]
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "none of batch is asked of lenet" in capsys.readouterr().err
    assert main(["research", "--questions", "nothing"]) == 2
    assert "unknown question nothing" in capsys.readouterr().err


def test_the_recipe_by_hand():
    def results(sgd, adam):
        loss = np.array([sgd, adam], np.float32)[:, :, None, None]
        dims = ("direction", "ell", "average", "seed")
        return xr.Dataset(
            {
                "train_loss": (dims, loss),
                "start": (dims, np.full_like(loss, 9)),
                "tuned": ("direction", np.ones(2, np.float32)),
            },
            {"direction": ["SGD", "Adam"], "ell": [1.0, 2.0], "average": [0.9]},
            {"metric": "train_loss"},
        )

    one, two = results([2, 0], [2, 100]), results([1, 3], [0, 1])
    found = QUESTIONS["recipe"].conclude({"a": one, "b": two})
    # Of the way from 9 to 1, an eighth is missed twice at the first value, and once won.
    assert found.numbers["RecipeScale"] == "1.0"
    assert found.numbers["RecipeMissed"] == r"3.1\,\%"
    assert found.numbers["RecipeMissedWorst"] == r"12\,\%"
    assert (found.numbers["RecipeBeaten"], found.numbers["RecipeCases"]) == ("1", "4")
    assert found.numbers["RecipeMissedAdam"] == r"0\,\%"
    # What ends above its start has missed all, and no more.
    assert r"(100\,\%)" in found.tables["recipe"]
