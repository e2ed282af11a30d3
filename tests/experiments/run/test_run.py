"""A study as a file, as a user meets it."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr

import curvopt
import experiments.run
from experiments.__main__ import main
from experiments.run._experiment import experiment_of
from experiments.run._file import read_study
from strategies import recipes, SGD, WindowAverage


pytestmark = pytest.mark.host


# A problem that compiles at once: the study is what is tested.
MODULE = """
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax

import curvopt
from strategies import LearningRate, SGD


class Bowl(curvopt.AbstractProblem):
    size: int = 3

    def init(self, key):
        return jr.normal(key, (self.size,)), None

    def batch(self, key, count):
        return 0.1 * jr.normal(jr.fold_in(key, count), (self.size,))

    def loss(self, params, args):
        noise, _, _ = args
        return jnp.sum((params - noise) ** 2), (None, {})

    def evaluate(self, params, model_state):
        return {"distance": jnp.sqrt(jnp.sum(params**2)), "accuracy": -jnp.sum(params**2)}

    @property
    def steps_per_epoch(self):
        return 4

def fails(size):
    raise RuntimeError("out of luck")

def schedule(count):
    return 1 / (1 + count)

def recipe(direction, *, steps, rate=0.1):
    return curvopt.LineSearchMinimiser(direction, LearningRate(rate / steps))

small = LearningRate(1e-3)
adam = optax.adam(1e-2)
number = 3
"""

STUDY = """
problem = { name = "my_bowl:Bowl", size = 4 }
seeds = 6
steps = 8
evaluations = 2
metric = "distance"
baseline = "tuned, by hand"

[execution]
loop = "scan"
lanes_at_once = 6

[tuning."tuned, by hand"]
direction = "SGD"
learning_rates = { from = 0.01, to = 1, number = 3 }
schedules = ["linear"]

[strategies."Adam, own recipe"]
direction = "adam"
recipe = { name = "my_bowl:recipe", rate = 2 }
"""

GRID = """
problem = "my_bowl:Bowl"
seeds = [3, 5]
steps = 8
evaluations = 2
metric = "accuracy"
lower_is_better = false

[execution]
loop = "scan"
lanes_at_once = 8

[hyperparameters]
learning_rate = { from = 0.01, to = 1.0, number = 3 }
decay = [0.0, 0.9]

[strategies."rate"]
direction = "SGD"
line_search = { name = "LearningRate", learning_rate = "$learning_rate" }

[strategies."nested"]
direction = { name = "Momentum", decay = "$decay" }
curvature = "ForwardCurvature"

[strategies."nested".line_search]
name = "GrowthLimited"
inner = { name = "CurvatureRescaling", learning_rate = "$learning_rate" }
"""


@pytest.fixture(scope="module", autouse=True)
def my_bowl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "my_bowl.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


def _run(path: Path, text: str, *more: str) -> int:
    path.write_text(text)
    return main(["run", str(path), "--out", str(path.parent / "out"), *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "bowl.toml"
    assert _run(path, STUDY) == 0
    return path


def test_a_file_to_a_folder(finished):
    out = finished.parent / "out"
    asked = json.loads((out / "experiment.json").read_text("utf-8"))
    assert asked["text"] == STUDY and asked["metric"] == "distance"
    assert asked["tuned"]["tuned, by hand"]["seeds"] == [1_000_000, 1_000_001]
    with xr.open_dataset(out / "results.nc") as data:
        assert list(data.strategy.values) == ["tuned, by hand", "Adam, own recipe"]
        assert data.loss.dims == ("strategy", "seed", "step")
        assert data.loss.shape == (2, 6, 8)
        np.testing.assert_allclose(
            data.step_size.sel(strategy="Adam, own recipe"), 2 / 8, rtol=1e-6
        )
        assert "size=4" in data.attrs["problem"]
        assert tomllib.loads(json.loads(data.attrs["experiment"])["text"])["seeds"] == 6
    text = (out / "report.md").read_text("utf-8")
    for part in (
        "# bowl\n",
        "| strategy ",
        " final distance ",
        "**Adam, own recipe** ",
        "- **tuned, by hand**: learning rate ",
        "linear; from 2 seeds; tuning took",
        "![Distance against steps](figures/metric-distance.png)",
        'recipe = { name = "my_bowl:recipe", rate = 2 }',
    ):
        assert part in text
    assert (out / "report.html").stat().st_size > 10_000
    for name in ("loss", "line", "metric-distance", "tuning"):
        assert (out / "figures" / f"{name}.pdf").exists()


@pytest.mark.slow
def test_a_finished_study_is_not_run_again(finished, capsys):
    out = finished.parent / "out"
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/study.sqlite")}
    assert len(before) == 2
    with xr.open_dataset(out / "results.nc") as data:
        first = data.load()
    assert _run(finished, STUDY) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    with xr.open_dataset(out / "results.nc") as data:
        xr.testing.assert_identical(data.drop_attrs(), first.drop_attrs())
    printed = capsys.readouterr().out
    assert "comparison at level 0.05" in printed and "report: " in printed


def test_another_study_in_the_same_folder(finished, capsys):
    asked = (finished.parent / "out" / "experiment.json").read_text("utf-8")
    assert _run(finished, STUDY.replace("size = 4", "size = 5")) == 2
    error = capsys.readouterr().err
    assert "size: 4 → 5" in error and "--overwrite" in error
    assert (finished.parent / "out" / "experiment.json").read_text("utf-8") == asked


@pytest.mark.slow
def test_hyperparameters(tmp_path, capsys):
    path = tmp_path / "grid.toml"
    assert _run(path, GRID) == 0
    with xr.open_dataset(tmp_path / "out" / "results.nc") as data:
        assert data.loss.dims == ("strategy", "learning_rate", "decay", "seed", "step")
        np.testing.assert_allclose(data.learning_rate, [0.01, 0.1, 1.0])
        assert list(data.seed.values) == [3, 5]
        final = data.accuracy.isel(evaluation_step=-1).mean("seed").sel(strategy="rate")
        best = final.learning_rate.values[int(final.isel(decay=0).values.argmax())]
        # What a strategy does not refer to changes nothing.
        np.testing.assert_allclose(*(final.isel(decay=k) for k in (0, 1)), rtol=1e-5)
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert f"- **rate**: learning rate {best:.4g}" in text
    assert "chosen on the reported seeds" in " ".join(text.split())
    row = next(line for line in text.splitlines() if line.startswith("| rate "))
    assert [cell.strip() for cell in row.split("|")[2:4]] == [f"{best:.4g}", "–"]
    assert (tmp_path / "out" / "figures" / "sensitivity-learning-rate.png").exists()
    assert not (tmp_path / "out" / "figures" / "sensitivity-decay.png").exists()
    assert "at its best point" in capsys.readouterr().out


def test_an_average(tmp_path):
    """Of a line search, and in place of that of a recipe."""
    average = 'direction = "SGD"\naverage = { name = "WindowAverage", window = 0.5 }\n'
    path = tmp_path / "averaged.toml"
    path.write_text(
        f'{STUDY}[strategies."searched"]\n{average}line_search = "CDAT"\n'
        f'[strategies."recipe"]\n{average}recipe = "hindsight"\n'
    )
    made = experiment_of(*read_study(path), "averages", None).strategies
    for name in ("searched", "recipe"):
        solver = made[name]
        assert isinstance(solver, curvopt.LineSearchMinimiser)
        assert eqx.tree_equal(solver.average, WindowAverage(0.5))
    recipe = recipes.hindsight(SGD(), steps=8)
    assert eqx.tree_equal(solver.line_search, recipe.line_search)


@pytest.mark.slow
def test_a_grid_of_its_own_beside_a_fixed_strategy(tmp_path):
    """Each has its own values; what is fixed can be compared with what is fixed."""
    text = STUDY + (
        '[strategies."swept"]\ndirection = "SGD"\n'
        "hyperparameters = { rate = [0.01, 0.1] }\n"
        'line_search = { name = "LearningRate", learning_rate = "$rate" }\n'
    )
    path = tmp_path / "own.toml"
    mapped = 'baseline = { "Adam, own recipe" = "tuned, by hand" }'
    text = text.replace('baseline = "tuned, by hand"', mapped)
    assert _run(path, "\ufeff" + text) == 0  # as editors of Windows begin a file
    with xr.open_dataset(tmp_path / "out" / "results.nc") as data:
        assert data.rate.values.tolist() == [0.01, 0.1]
        grids = json.loads(data.attrs["hyperparameters"])
        assert grids["swept"] == {"rate": [0.01, 0.1]}
        assert grids["tuned, by hand"] == {} == grids["Adam, own recipe"]
    page = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "- **swept**: rate " in page and "**Adam, own recipe** " in page


@pytest.mark.slow
def test_tuning_on_seeds_of_different_numbers(tmp_path):
    more = STUDY.partition("[tuning.")[2].partition("[strategies")[0]
    more = "[tuning." + more.replace("tuned, by hand", "on three") + "seeds = 3\n"
    path = tmp_path / "two.toml"
    assert _run(path, STUDY + more) == 0
    with xr.open_dataset(tmp_path / "out" / "tuning.nc") as data:
        ran = (data.steps_made > 0).any("learning_rate").sum("seed")
        assert ran.values.tolist() == [2, 3]
    page = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "linear; from 2 seeds" in page and "linear; from 3 seeds" in page


def _study(old: str = "", new: str = "", base: str = STUDY) -> str:
    assert old in base
    return base.replace(old, new, 1)


def _strategy(fields: str) -> str:
    """A study of one strategy, called `S`."""
    head = 'problem = "my_bowl:Bowl"\nsteps = 8\nmetric = "distance"\n'
    return f'{head}[strategies."S"]\n{fields}\n'


_SGD = 'direction = "SGD"\n'
_UNIT = 'line_search = "unit"\n'
_HYPER = "[hyperparameters]\nx = [1.0, -1.0]\n"

BAD = {
    "no TOML": ("steps = ", "is not valid TOML: Invalid value"),
    "type": (
        _study("steps = 8", 'steps = "many"'),
        "steps must be an integer, but it is 'many'.",
    ),
    "range": (
        _study("steps = 8", "steps = 0"),
        "steps must be an integer of at least 1, but",
    ),
    "missing": (_study("steps = 8\n"), "the field steps is missing."),
    "unknown": (
        _study("steps = 8", "steps = 8\nstep = 9"),
        "unknown field step; valid are: problem, steps, metric, seeds, ",
    ),
    "seeds": (
        _study("seeds = 6", "seeds = [1, 2, 1]"),
        "seeds must be at least one and distinct, but are [1, 2, 1].",
    ),
    "seed": (
        _study("seeds = 6", 'seeds = [1, "a"]'),
        "seeds[1] must be an integer, but it is 'a'.",
    ),
    "choice": (
        _study('loop = "scan"', 'loop = "while"'),
        "execution.loop must be one of 'scan', 'dispatch', but it is 'while'.",
    ),
    "unknown in a table": (
        _study('loop = "scan"', "lanes = 3"),
        "unknown field execution.lanes; valid are: loop, lanes_at_once, workers, measure, "
        "chunk, memory.",
    ),
    "problem": (
        _study('name = "my_bowl:Bowl", size = 4', 'name = "imagenet"'),
        "problem: unknown problem 'imagenet'; valid are: fashion-subset-logistic",
    ),
    "argument of a problem": (
        _study("size = 4", "width = 4"),
        "unknown field problem.width; valid are: size.",
    ),
    "a problem that fails": (
        _study("my_bowl:Bowl", "my_bowl:fails"),
        "problem: RuntimeError: out of luck",
    ),
    "no module": (
        _study("my_bowl:Bowl", "no_such:Bowl"),
        "problem: 'no_such:Bowl' cannot be loaded: ModuleNotFoundError",
    ),
    "metric": (
        _study('metric = "distance"', 'metric = "loss"'),
        "metric: unknown metric 'loss'; the problem's are: accuracy, distance.",
    ),
    "metric of which more is better": (
        _study('metric = "distance"', 'metric = "accuracy"'),
        "lower_is_better must be given for the metric 'accuracy'",
    ),
    "baseline": (
        _study('baseline = "tuned, by hand"', 'baseline = "tuned"'),
        "baseline: unknown strategy 'tuned'; valid are: 'tuned, by hand', 'Adam, own",
    ),
    "own baseline": (
        _study('baseline = "tuned, by hand"', 'baseline = { "Adam, own recipe" = "x" }'),
        "baseline: unknown strategy 'x'; valid are",
    ),
    "baseline of a grid": (
        _study("evaluations = 2", 'evaluations = 2\nbaseline = "rate"', GRID),
        "baseline: 'nested' has hyperparameters and cannot be compared",
    ),
    "no strategy": (
        _study('problem = "my_bowl:Bowl"', "", _strategy("x")).split("[")[0]
        + 'problem = "my_bowl:Bowl"',
        "there is no strategy to run",
    ),
    "one of two": (
        _strategy(_SGD),
        'strategies."S": a strategy must have either line_search or recipe, but it has',
    ),
    "unknown of a strategy": (
        _strategy(_SGD + _UNIT + 'curve = "x"'),
        'unknown field strategies."S".curve; valid are: direction, line_search, recipe,',
    ),
    "direction": (
        _strategy('direction = "SDG"\n' + _UNIT),
        "strategies.\"S\".direction: unknown direction 'SDG'; valid are: Adam, ",
    ),
    "recipe": (
        _strategy(_SGD + 'recipe = "best"'),
        "strategies.\"S\".recipe: unknown recipe 'best'; valid are: hindsight, ",
    ),
    "constructor's own": (
        _strategy('direction = { name = "Momentum", decay = 1.5 }\n' + _UNIT),
        'strategies."S".direction.decay must be at least 0 and below 1, but it is 1.5.',
    ),
    "no number": (
        _strategy('direction = { name = "Momentum", decay = "high" }\n' + _UNIT),
        "strategies.\"S\".direction.decay must be a number, but it is 'high'.",
    ),
    "no argument of it": (
        _strategy('direction = { name = "Momentum", beta = 0.5 }\n' + _UNIT),
        'unknown field strategies."S".direction.beta; valid are: decay, dampening, nest',
    ),
    "argument without default": (
        _strategy(_SGD + 'line_search = "LearningRate"'),
        'the field strategies."S".line_search.learning_rate is missing and has no default',
    ),
    "nested": (
        _strategy(
            _SGD + 'line_search = { name = "Smoothed", inner = { name = "Clipped", '
            'inner = { name = "CurvatureRescaling", along = "up" } } }'
        ),
        "strategies.\"S\".line_search.inner.inner.along must be one of 'direction'",
    ),
    "in a list": (
        _strategy('direction = { name = "HyperplaneSearch", directions = ["SGD", 3] }\n')
        + _UNIT,
        'strategies."S".direction.directions[1] must be an instance',
    ),
    "no name": (
        _strategy("direction = { decay = 0.5 }\n" + _UNIT),
        'strategies."S".direction must be a table with a name, { name = "...", ... }, but',
    ),
    "fields of what is made": (
        _strategy('direction = { name = "sgd", decay = 0.5 }\n' + _UNIT),
        "unknown field strategies.\"S\".direction.decay; 'sgd' is an instance",
    ),
    "another kind": (
        _strategy(_SGD + 'line_search = "my_bowl:SGD"'),
        'strategies."S".line_search must be a curvopt.AbstractLineSearch, but it is SGD',
    ),
    "schedule": (
        _strategy(
            _SGD + 'line_search = { name = "LearningRate", learning_rate = 1, '
            'schedule = "sine" }'
        ),
        "strategies.\"S\".line_search.schedule: unknown schedule 'sine'; valid are: const",
    ),
    "average": (
        _strategy(_SGD + 'line_search = "CDAT"\naverage = "Mean"'),
        "strategies.\"S\".average: unknown average 'Mean'; valid are: ExponentialAverage",
    ),
    "curvature of a loss without output": (
        _strategy(
            _SGD + 'line_search = "CurvatureRescaling"\ncurvature = "GaussNewtonCurvature"'
        ),
        "the strategy 'S' cannot take a step on the problem: GaussNewtonCurvature must",
    ),
    "no hyper-parameter": (
        _strategy(_SGD + 'line_search = { name = "LearningRate", learning_rate = "$x" }'),
        "strategies.\"S\".line_search.learning_rate: unknown hyper-parameter '$x'",
    ),
    "value of a hyper-parameter": (
        _strategy(_SGD + 'line_search = { name = "LearningRate", learning_rate = "$x" }')
        + _HYPER,
        'strategies."S".line_search.learning_rate must be at least 0, but it is -1.0. (At '
        "x = -1.)",
    ),
    "static": (
        _strategy('direction = { name = "Momentum", nesterov = "$x" }\n' + _UNIT) + _HYPER,
        'strategies."S".direction.nesterov: this field is compiled into the program and',
    ),
    "unused": (
        _strategy(_SGD + _UNIT) + _HYPER,
        'hyperparameters.x: no strategy refers to "$x"',
    ),
    "name of a hyper-parameter": (
        _study("decay = [0.0, 0.9]", "seed = [0.0, 0.9]", GRID).replace("$decay", "$seed"),
        "the name of a hyper-parameter must be a Python identifier that has no other "
        "meaning in the dataset of a study, but one is 'seed'",
    ),
    "values": (
        _study("decay = [0.0, 0.9]", "decay = [nan]", GRID),
        "the hyper-parameter 'decay' must have at least one value, all finite in float32",
    ),
    "grid": (
        _study("to = 1.0, number", "to = 0.001, number", GRID),
        "hyperparameters.learning_rate: a grid must go from a number to a higher one, but",
    ),
    "tuning on what is reported": (
        _study('schedules = ["linear"]', 'schedules = ["linear"]\nseeds = [4, 9]'),
        "tuning seeds must not be reported, but [4] of 'tuned, by hand' are",
    ),
    "schedule of the tuning": (
        _study('schedules = ["linear"]', 'schedules = ["sine"]'),
        "tuning.\"tuned, by hand\".schedules[0] must be one of 'constant', 'cosine', ",
    ),
    "nothing to tune": (
        _study('schedules = ["linear"]', 'line_search = "unit"'),
        'tuning."tuned, by hand".line_search must contain "$learning_rate"',
    ),
    "more seeds than there are": (
        _study("seeds = 6", f"seeds = {2**70}"),
        "seeds must be an integer of at most 1000000, but it is 1180591620717411303424.",
    ),
    "name of a prefix": (
        _study("decay = [0.0, 0.9]", "batch_rate = [0.0, 0.9]", GRID).replace(
            "$decay", "$batch_rate"
        ),
        "no other meaning in the dataset of a study, but one is 'batch_rate'",
    ),
    "name in a file": (
        _study("decay = [0.0, 0.9]", "steps = [0.0, 0.9]", GRID).replace(
            "$decay", "$steps"
        ),
        "a hyper-parameter cannot be called 'steps', which is reserved",
    ),
    "unused of a strategy": (
        _strategy(_SGD + _UNIT + "hyperparameters = { x = [1.0, 2.0] }"),
        'strategies."S".hyperparameters.x: the strategy does not refer to "$x"',
    ),
    "one name twice": (
        _study('[strategies."Adam, own recipe"]', '[strategies."tuned, by hand"]'),
        'tuning."tuned, by hand": [strategies] has a strategy of the same name',
    ),
}


@pytest.mark.parametrize("text, message", BAD.values(), ids=BAD)
def test_what_cannot_be_run(text, message, tmp_path, monkeypatch, capsys, unchecked):
    """Neither is anything compiled, nor a folder made."""

    def compiled(*args, **kwargs):
        raise AssertionError("a study was begun")

    monkeypatch.setattr("curvopt.Study.run", compiled)
    assert _run(tmp_path / "bad.toml", text) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert os.listdir(tmp_path) == ["bad.toml"]


def test_no_file(tmp_path, capsys):
    assert main(["run", str(tmp_path / "none.toml")]) == 2
    assert "none.toml cannot be read: [Errno 2] No such file" in capsys.readouterr().err


def test_objects_of_libraries_and_of_ones_own(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        _strategy(
            'direction = { name = "FromOptax", tx = "my_bowl:adam", '
            'fresh = { name = "optax:sgd", learning_rate = 1 } }\n'
            'line_search = { name = "StochasticArmijo", '
            'steps_per_epoch = "$steps_per_epoch" }'
        )
        + f'[strategies."own"]\n{_SGD}'
        'line_search = { name = "LearningRate", learning_rate = 1, '
        'schedule = "my_bowl:schedule" }\n'
        f'[strategies."made"]\n{_SGD}line_search = "my_bowl:small"\n'
        f'[strategies."sls"]\n{_SGD}line_search = "sls"\n'
    )
    made: Any = _read(path).strategies
    assert made["S"].direction.fresh is not None
    assert made["S"].line_search.steps_per_epoch == 4
    assert made["own"].line_search.schedule(3) == 0.25
    assert made["made"].line_search.learning_rate == np.float32(1e-3)
    assert made["sls"].line_search.steps_per_epoch == 4


def test_the_example_is_valid():
    made = _read(Path(experiments.run.__file__).parent / "example.toml")
    assert made.outline.baseline in made.strategies
    assert jax.tree.leaves(made.problem)


def _read(path: Path):
    from experiments.run._experiment import experiment_of
    from experiments.run._file import read_study

    return experiment_of(*read_study(path), path.stem, None)
