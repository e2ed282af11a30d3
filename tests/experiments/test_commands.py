"""The command line, as a user meets it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import curvopt
from curvopt._study._host import Progress
from experiments.__main__ import main


pytestmark = pytest.mark.host


QUICK = ["--seeds", "2", "--steps", "12", "--rates", "3", "--evaluations", "2"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "compare"
    arguments = ["--directions", "sgd", "adam", "--tuning-seeds", "1", "--out", str(out)]
    assert main(["compare", *arguments, *QUICK]) == 0
    return out


@pytest.mark.slow
def test_compare_writes_its_folder(results):
    saved = {"study", "tuning"}
    names = {
        str(p.relative_to(results))
        for p in results.rglob("*")
        if p.is_file() and p.relative_to(results).parts[0] not in saved
    }
    figures = {
        f"figures/{name}.{suffix}"
        for name in (
            "loss",
            "line",
            "metric-train-loss",
            "metric-test-accuracy",
            "tuning",
        )
        for suffix in ("png", "pdf")
    }
    files = {"experiment.json", "results.nc", "tuning.nc", "report.md", "report.html"}
    assert names == files | figures


@pytest.mark.slow
def test_the_data_read_back(results):
    with xr.open_dataset(results / "results.nc") as data:
        assert data.sizes["strategy"] == 6
        assert data.loss.dims == ("strategy", "seed", "step")
        assert list(data.direction.values[:3]) == ["SGD"] * 3
        assert np.isfinite(data.train_loss).all()
        assert "data=(u8[12000,28,28], u8[12000])" in data.attrs["problem"]
        asked = json.loads(data.attrs["experiment"])
        assert asked["runs"]["seeds"] == [0, 1] and list(asked["tuned"]) == [
            "SGD, tuned rate",
            "Adam, tuned rate",
        ]
        assert list(data.seed.values) == [0, 1]
        assert "jax" in json.loads(data.attrs["versions"])
    with xr.open_dataset(results / "tuning.nc") as tuning:
        assert tuning.loss.dims == ("strategy", "learning_rate", "seed", "step")
        assert not set(tuning.seed.values) & {0, 1}
        assert tuning.sizes["strategy"] == 4
        # Each direction has a grid of its own.
        tried = (tuning.steps_made > 0).all("seed").sum("learning_rate")
        assert tried.values.tolist() == [3] * 4 and tuning.sizes["learning_rate"] > 3


@pytest.mark.slow
def test_the_report(results):
    text = (results / "report.md").read_text("utf-8")
    for part in (
        "| SGD, hindsight ",
        "nothing can be claimed from 2 seeds; 8 are needed for 4 comparisons",
        "](figures/metric-test-accuracy.png)",
        "tuning took",
    ):
        assert part in text


@pytest.mark.slow
def test_the_same_command_goes_on(results, capsys, monkeypatch):
    """What is finished is not run again; another study is not written over it unasked."""
    from curvopt._study import _program

    first = xr.load_dataset(results / "results.nc")
    with monkeypatch.context() as patch:
        patch.delattr(_program.Program, "advance")
        _same_again(results, first)
    capsys.readouterr()
    other = ["compare", "--out", str(results), *QUICK, "--steps", "13"]
    assert main([*other, "--directions", "sgd", "--tuning-seeds", "1"]) == 2
    error = capsys.readouterr().err
    assert "the code of the loss, the evaluation or the strategy" in error
    assert "--out chooses another folder" in error


def _same_again(results, first):
    arguments = ["--directions", "sgd", "adam", "--tuning-seeds", "1"]
    assert main(["compare", *arguments, "--out", str(results), *QUICK]) == 0
    again = xr.load_dataset(results / "results.nc")
    assert again.equals(first) and again.attrs["problem"] == first.attrs["problem"]


@pytest.mark.slow
def test_the_report_long_after_the_run(results, tmp_path, monkeypatch, capsys):
    """From what is on disk alone: nothing is run, and the problem is not needed."""
    monkeypatch.delattr("curvopt.Study.run")
    monkeypatch.setattr("experiments._catalogue.PROBLEMS", {})
    page = (results / "report.md").read_text("utf-8")
    assert main(["report", str(results), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "report.md").read_text("utf-8") == page
    assert xr.load_dataset(tmp_path / "results.nc").equals(
        xr.load_dataset(results / "results.nc")
    )
    first = {p.name for p in (results / "figures").iterdir()}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == first
    capsys.readouterr()
    assert main(["table", str(results)]) == 0
    assert capsys.readouterr().out.strip() in page
    assert main(["table", str(results), "--format", "csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][0] == "strategy" and "gradient-equivalents" in rows[0]
    assert len(rows) == 7
    assert main(["table", str(results), "--format", "latex"]) == 0
    latex = capsys.readouterr().out
    assert latex.startswith("\\begin{tabular}{l") and latex.count(r"\\") == 7
    assert main(["table", str(results), "--metric", "error"]) == 2
    assert "unknown metric 'error'; valid are: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_part_of_what_is_in_the_folder(results, tmp_path, monkeypatch):
    """A report is of the runs that were asked for, not of all that are there."""
    import shutil

    shutil.copytree(results, tmp_path / "copy")
    monkeypatch.delattr("curvopt._study._program.Program.advance")
    arguments = ["--directions", "adam", "--tuning-seeds", "1", *QUICK, "--seeds", "1"]
    assert main(["compare", *arguments, "--out", str(tmp_path / "copy")]) == 0
    data = xr.load_dataset(tmp_path / "copy" / "results.nc")
    assert data.sizes["strategy"] == 3 and data.seed.values.tolist() == [0]
    assert data.equals(
        xr.load_dataset(results / "results.nc").sel(strategy=data.strategy, seed=[0])
    )


@pytest.mark.slow
def test_overwriting_deletes_the_studies_and_nothing_else(tmp_path, capsys):
    out = tmp_path / "out"
    begun = ["compare", "--problem", "quadratic", "--directions", "sgd", "--out", str(out)]
    begun += ["--line-searches", "unit", *QUICK]
    assert main(begun) == 0
    # A problem without an accuracy.
    assert (out / "figures" / "metric-distance.png").exists()
    assert " distance |" in (out / "report.md").read_text("utf-8")
    for name in ("notes.txt", "study/mine.csv", "figures/mine.png"):
        (out / name).write_text("mine")
    other = [x if x != "12" else "13" for x in begun]
    assert main(["compare", *other[1:], "--seeds", "3"]) == 0  # more steps, more seeds
    data = xr.load_dataset(out / "results.nc")
    assert data.sizes["step"] == 13 and data.sizes["seed"] == 3
    assert main(begun) == 2 and "holds a longer study" in capsys.readouterr().err
    assert main([*begun, "--overwrite"]) == 0
    assert xr.load_dataset(out / "results.nc").sizes["step"] == 12
    for name in ("notes.txt", "study/mine.csv", "figures/mine.png"):
        assert (out / name).read_text() == "mine"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--directions", "sgd", "adan"], "unknown direction adan; valid are: sgd, mom"),
        (["--line-searches", "magic"], "unknown line search magic; valid are: tuned, "),
        (["--problem", "imagenet"], "unknown problem imagenet; valid are: fashion-sub"),
        (["--seeds", "0"], "seeds must be at least 1 and at most 1,000,000, but"),
        (["--seeds", str(2**70)], "seeds must be at least 1 and at most 1,000,000, but"),
        (["--steps", "-5"], "--steps must be an integer of at least 1, but it is -5"),
        (["--tuning-seeds", "0"], "--tuning-seeds must be an integer of at least 1"),
        (["--evaluations", "0"], "evaluations must be an integer of at least 1"),
        (["--rates", "0"], "--rates must be a number of values, at least 1, or lowest:"),
        (["--rates", "1:0.1:3"], "--rates must be a number of values, at least 1, or low"),
        (["--rates", "1:2"], "--rates must be a number of values, at least 1, or lowest:"),
        (["--metric", "loss"], "unknown metric 'loss'; the problem's are: "),
        (["--problem", "no_such:Bowl"], "problem 'no_such:Bowl' cannot be loaded: Mod"),
        (["--data-dir", "/nowhere"], "/nowhere is not there"),
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
import jax.numpy as jnp
import jax.random as jr

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

class Bowl(curvopt.AbstractProblem):
    def init(self, key):
        return jr.normal(key, (3,)), None

    def batch(self, key, count):
        return 0.1 * jr.normal(jr.fold_in(key, count), (3,))

    def loss(self, params, args):
        noise, _, _ = args
        return jnp.sum((params - noise) ** 2), (None, {})

    def evaluate(self, params, model_state):
        return {"height | $h$": jnp.sum(params**2)}

    @property
    def steps_per_epoch(self):
        return 4

slow = LearningRate(1e-3)
number = 3
"""


@pytest.mark.slow
def test_what_is_ones_own(tmp_path, monkeypatch):
    """A problem, a direction, line searches and a grid."""
    (tmp_path / "my_strategies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "out"
    arguments = ["--problem", "my_strategies:Bowl", "--metric", "height | $h$"]
    arguments += ["--directions", "sgd", "my_strategies:Down", "--line-searches", "tuned"]
    arguments += ["my_strategies:Mine", "my_strategies:slow", "armijo"]
    quick = [*QUICK, "--rates", "1e-3:0.1:3"]
    assert main(["compare", *arguments, "--out", str(out), *quick]) == 0
    data = xr.load_dataset(out / "tuning.nc")
    np.testing.assert_allclose(data.learning_rate, [1e-3, 1e-2, 0.1])
    assert (data.steps_made > 0).all()
    page = (out / "report.md").read_text("utf-8")
    assert r"Height \| \$h\$ against steps](figures/metric-height" in page
    data = xr.load_dataset(out / "results.nc")
    rules = ["tuned rate", "Mine", "slow", "Armijo"]
    assert list(data.strategy.values)[4:] == [f"Down, {rule}" for rule in rules]
    np.testing.assert_allclose(data.step_size.sel(strategy="Down, Mine"), 0.1)


def test_grids_of_all_directions_are_equally_dense():
    """Guards against a coarse grid for one's own directions, whose range is wider."""
    from experiments._catalogue import Direction, DIRECTIONS
    from strategies import SGD

    own = Direction("own", SGD(), 1e-4, 1e1)
    for entry in (*DIRECTIONS.values(), own):
        rates = np.log10(entry.learning_rates(7))
        np.testing.assert_allclose(np.diff(rates), 0.5)
        np.testing.assert_allclose(10 ** rates[[0, -1]], [entry.lowest, entry.highest])
    assert len(own.learning_rates(1)) == 1


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
            "line search 'my_strategies:Other' cannot",
        ),
        ("--line-searches", "no_such_module:Mine", "No module named 'no_such_module'"),
        (
            "--line-searches",
            "my_strategies:LearningRate",
            "cannot be made without arguments",
        ),
        ("--line-searches", "my_strategies:number", "must be a curvopt.AbstractLineSearch"),
        ("--directions", "my_strategies:Mine", "must be a curvopt.AbstractDirection"),
        ("--directions", ":", "direction ':' cannot be loaded"),
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_micro_batches(capsys):
    """FLOPs rise by what is computed again, and memory falls."""
    sizes = ["--batch-size", "64", "--length", "32", "--width", "64", "--layers", "1"]
    assert main(["micro-batches", "--micro-batches", "8", *sizes]) == 0
    rows = {
        cells[1].strip(): [[float(x) for x in cell.split("/")] for cell in cells[2:4]]
        for cells in (line.split("|") for line in capsys.readouterr().out.splitlines())
        if len(cells) == 5 and "/" in cells[2]
    }
    assert set(rows) == {"gradient", "adjoint", "forward", "Gauss-Newton"}
    for at_once, parts in rows.values():
        assert parts[0] < at_once[0] / 2
        assert at_once[1] < parts[1] < 2.2 * at_once[1]
    assert main(["micro-batches", "--micro-batches", "3", *sizes]) == 2


@pytest.mark.slow
def test_large_model():
    """On eight devices of a CPU: parameters and state fall to an eighth, and the losses are
    those of one device."""
    flags = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}"}
    sizes = ["--width", "128", "--layers", "2", "--symbols", "4096", "--length", "16"]
    arguments = ["large-model", *sizes, "--steps", "5"]
    done = _own_process(arguments, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    rows = [line.split("|")[2:5] for line in lines if "device" in line]
    numbers = [[float(x.replace(",", "")) for x in row] for row in rows]
    held, _, needed = zip(*numbers[:3])
    assert held[0] == held[1] > 0 and held[2] <= held[0] / 8 + 1
    assert needed[0] > needed[1] > needed[2]
    first, last, apart = zip(*numbers[3:])
    assert len(first) == 3 and np.isfinite(last).all()
    assert apart[0] == 0 and max(apart) < 1e-5


def _own_process(arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([sys.executable, "-m", "experiments", *arguments], **options)


@pytest.mark.slow
def test_a_narrow_terminal():
    """Guards against a layout that never ends, and takes all memory."""
    done = _own_process(["step-cost", "--help"], env={**os.environ, "COLUMNS": "5"})
    assert done.returncode == 0 and "--directions" in done.stdout


@pytest.mark.slow
def test_nobody_reads_what_is_printed(results):
    read, write = os.pipe()
    os.close(read)
    done = _own_process(
        ["table", str(results)], capture_output=False, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.slow
def test_nothing_to_print_to(results, monkeypatch):
    """A process without a console has no `stdout` and no `stderr`."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["table", str(results)]) == 0
    with Progress(2, True) as bar:
        bar.say("nothing")
        bar.advance(2, 1.0)


@pytest.mark.slow
def test_a_disk_that_is_full(results, monkeypatch, capsys, tmp_path):
    def full(self, path, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    assert main(["report", str(results), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "results.nc cannot be written: [Errno 28] No space left" in error
    assert not list((tmp_path / "out").iterdir())


def test_interrupted_while_it_is_loaded(monkeypatch, capsys):
    def interrupted(name, package=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupted)
    assert main(["compare"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_what_curvopt_refuses_is_a_message(tmp_path, capsys):
    (tmp_path / "experiment.json").write_text("[]")
    assert main(["report", str(tmp_path)]) == 2
    assert "there is no study in" in capsys.readouterr().err


def test_throughput_of_data_on_the_host(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "from_host.py").write_text(FROM_HOST)
    arguments = ["--problems", "quadratic", "from_host:problem", "--steps", "2"]
    assert main(["throughput", *arguments]) == 2
    assert "but from_host:problem has them on the host" in capsys.readouterr().err


FROM_HOST = """
import equinox as eqx
import numpy as np
import optax

import curvopt

x = np.ones((8, 3), np.float32)
problem = curvopt.SupervisedProblem(
    curvopt.EquinoxModel(lambda key: eqx.nn.MLP(3, 2, 4, 1, key=key)),
    loss=optax.squared_error,
    train=curvopt.HostData.from_arrays((x, x[:, :2]), batch_size=4),
)
"""


def test_throughput_of_a_way_that_there_is_not(capsys):
    arguments = ["--problems", "quadratic", "--only", "fastest", "--steps", "2"]
    assert main(["throughput", *arguments]) == 2
    assert "unknown way fastest; valid are: study, " in capsys.readouterr().err
