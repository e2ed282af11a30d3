"""The command line, as a user meets it."""

import json
import os

import numpy as np
import pytest
import xarray as xr

import curvopt
from experiments.__main__ import main


pytestmark = pytest.mark.host


QUICK = ["--seeds", "2", "--steps", "12", "--rates", "3", "--evaluations", "2"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "compare"
    arguments = ["--directions", "sgd", "adam", "--tuning-seeds", "1", "--out", str(out)]
    assert main(["compare", *arguments, *QUICK]) == 0
    return out


def test_compare_writes_its_folder(results):
    saved = {"study", "tuning"}
    names = {
        str(p.relative_to(results))
        for p in results.rglob("*")
        if p.is_file() and p.relative_to(results).parts[0] not in saved
    }
    figures = {
        f"figures/{name}.{suffix}"
        for name in ("loss", "line", "test-accuracy", "tuning")
        for suffix in ("png", "pdf")
    }
    assert names == {"results.nc", "tuning.nc", "report.md", "report.html"} | figures


def test_the_data_read_back(results):
    with xr.open_dataset(results / "results.nc") as data:
        assert data.sizes["strategy"] == 6
        assert data.loss.dims == ("strategy", "seed", "step")
        assert list(data.direction.values[:3]) == ["SGD"] * 3
        assert np.isfinite(data.train_loss).all()
        assert "train_images=u8[12000,28,28]" in data.attrs["problem"]
        assert "sgd" in data.attrs["tuned"] and "seeds=2" in data.attrs["configuration"]
        assert list(data.seed.values) == [0, 1]
        assert "jax" in json.loads(data.attrs["versions"])
    with xr.open_dataset(results / "tuning.nc") as tuning:
        assert tuning.loss.dims == ("strategy", "learning_rate", "seed", "step")
        assert not set(tuning.seed.values) & {0, 1}
        assert tuning.sizes["strategy"] == 4


def test_the_report(results):
    text = (results / "report.md").read_text("utf-8")
    for part in (
        "| SGD, rescaled (cosine) ",
        "nothing can be claimed from 2 seeds; 8 are needed for 4 comparisons",
        "![test_accuracy against steps](figures/test-accuracy.png)",
        "tuning took",
    ):
        assert part in text


def test_the_same_command_goes_on(results, capsys, monkeypatch):
    """What is finished is not run again; another study is not written over it unasked."""
    from curvopt._study import _program

    first = xr.load_dataset(results / "results.nc")
    monkeypatch.delattr(_program.Program, "advance")
    arguments = ["--directions", "sgd", "adam", "--tuning-seeds", "1"]
    assert main(["compare", *arguments, "--out", str(results), *QUICK]) == 0
    again = xr.load_dataset(results / "results.nc")
    assert again.equals(first) and again.attrs["problem"] == first.attrs["problem"]
    capsys.readouterr()
    other = ["compare", "--out", str(results), *QUICK, "--steps", "13"]
    assert main([*other, *arguments]) == 2
    assert "other steps: it was 12, now it is 13" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--directions", "sgd", "adan"], "unknown direction adan; valid are: sgd, mom"),
        (["--line-searches", "magic"], "unknown line search magic; valid are: tuned, "),
        (["--problem", "imagenet"], "unknown problem imagenet; valid are: fashion-sub"),
        (["--seeds", "0"], "--seeds must be at least 1, but it is 0"),
        (["--steps", "-5"], "--steps must be at least 1, but it is -5"),
        (["--tuning-seeds", "0"], "--tuning-seeds must be at least 1"),
        (["--problem", "mnist-mlp", "--data-dir", "/nowhere"], "/nowhere is not there"),
        (["--out", "/proc/nowhere"], "output folder /proc/nowhere is not writable"),
    ],
)
def test_what_cannot_be_run(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"]])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    expected = (
        ["compare", "cost", "step-cost"] if len(arguments) == 1 else ["--line-searches"]
    )
    assert all(word in out for word in expected)


MODULE = """
import curvopt
from strategies import LearningRate

class Mine(curvopt.AbstractLineSearch):
    def init(self, y):
        return None

    def step(self, line, count, state):
        return 0.1, curvopt.StepInfo(slope=line.slope), None

class Down(curvopt.AbstractDirection):
    def init(self, y, *, key):
        return None

    def step(self, model, y, state):
        import jax
        return curvopt.Descent(jax.tree.map(lambda g: -2 * g, model.grad)), None

slow = LearningRate(1e-3)
number = 3
"""


def test_strategies_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "my_strategies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    rules = ["my_strategies:Mine", "my_strategies:slow", "armijo"]
    arguments = ["--directions", "my_strategies:Down", "--line-searches", *rules]
    assert main(["compare", *arguments, "--out", str(tmp_path / "out"), *QUICK]) == 0
    with xr.open_dataset(tmp_path / "out" / "results.nc") as data:
        assert list(data.strategy.values) == ["Down, Mine", "Down, slow", "Down, Armijo"]
        np.testing.assert_allclose(data.step_size.sel(strategy="Down, Mine"), 0.1)


def test_names_that_are_the_same_in_two_modules(tmp_path, monkeypatch):
    """Guards against a strategy that takes another one's place, unnoticed."""
    from experiments._catalogue import choose_directions, choose_line_searches

    for name in ("one_module", "other_module"):
        (tmp_path / f"{name}.py").write_text(MODULE.replace("class Down", "class SGD"))
    monkeypatch.syspath_prepend(str(tmp_path))
    rules = choose_line_searches(
        ["one_module:slow", "other_module:slow", "one_module:Mine"]
    )
    labels = [rule.label for rule in rules.values()]
    assert labels == ["one_module:slow", "other_module:slow", "Mine"]
    directions = choose_directions(["sgd", "one_module:SGD"])
    assert [d.label for d in directions.values()] == ["SGD", "one_module:SGD"]


@pytest.mark.parametrize(
    "option, name, message",
    [
        (
            "--line-searches",
            "my_strategies:Other",
            "line search my_strategies:Other cannot",
        ),
        ("--line-searches", "no_such_module:Mine", "No module named 'no_such_module'"),
        (
            "--line-searches",
            "my_strategies:LearningRate",
            "cannot be made without arguments",
        ),
        ("--line-searches", "my_strategies:number", "must be a curvopt.AbstractLineSearch"),
        ("--directions", "my_strategies:Mine", "must be a curvopt.AbstractDirection"),
        ("--directions", ":", "direction : cannot be loaded"),
        ("--directions", "./my_strategies.py:Down", "cannot be loaded: TypeError"),
    ],
)
def test_strategies_that_cannot_be_loaded(
    option, name, message, tmp_path, monkeypatch, capsys
):
    (tmp_path / "my_strategies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["compare", option, name, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_every_name_of_the_catalogue_makes_a_solver():
    """On a problem of the right shape; the runs themselves are the common suite's."""
    from experiments._catalogue import DIRECTIONS, LINE_SEARCHES
    from experiments.problems import PROBLEMS

    problem = PROBLEMS["fashion-subset-mlp"](None)
    for entry in DIRECTIONS.values():
        for rule in LINE_SEARCHES.values():
            if rule.solver is not None:
                solver = rule.solver(entry.direction, problem, 10)
                assert isinstance(solver, curvopt.LineSearchMinimiser)


def test_step_cost(capsys):
    assert main(["step-cost", "--directions", "sgd", "--repeats", "2"]) == 0
    rows = {
        line[:38].strip(): line[38:].split()
        for line in capsys.readouterr().out.splitlines()
    }
    # FLOPs are XLA's and do not depend on the clock.
    flops = {n: float(cells[0]) for n, cells in rows.items() if n.startswith("SGD, ")}
    assert flops["SGD, learning rate"] == pytest.approx(1.0, abs=0.02)
    adjoint, hvp = flops["SGD, rescaled, adjoint"], flops["SGD, rescaled, hvp"]
    assert 1.4 < adjoint < 1.9 < hvp


def test_compare_without_an_accuracy(tmp_path):
    out = tmp_path / "out"
    arguments = ["--problem", "quadratic", "--directions", "sgd", "--line-searches", "unit"]
    assert main(["compare", *arguments, "--out", str(out), *QUICK]) == 0
    assert (out / "figures" / "distance.png").exists()
    assert " distance |" in (out / "report.md").read_text("utf-8")
