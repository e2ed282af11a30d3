"""The Python of the README, of the guides and of the notebooks is run as it stands."""

import json
import re
import subprocess
import sys
import textwrap
import time
import types
import unittest.mock
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt


ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDES = ROOT / "curvopt" / "guides"


def blocks(path, language):
    """The code of a text, block by block."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return ["".join(x["source"]) for x in cells if x["cell_type"] == "code"]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


TEXTS = [
    path
    for path in (README, *sorted(GUIDES.glob("*.md")), *sorted(GUIDES.glob("*.ipynb")))
    if blocks(path, "python")
]


# Blocks that are killed before they are run, once there is a file.
KILLED = {
    'seeds=4, steps=100).run("results/first")': "results/first/study.sqlite",
    'steps=200, folder="results/long")': "results/long/study.sqlite",
    'y = fit(2000, Path("checkpoint.eqx"))': "checkpoint.eqx",
    'z = fit_with_orbax(2000, Path("checkpoints"))': "checkpoints/200",
}


def killed(code, file):
    """Run code in a process of its own, and kill it when it has written a file."""
    process = subprocess.Popen([sys.executable, "-c", code])
    while process.poll() is None:
        if Path(file).exists():
            process.kill()
        time.sleep(0.001)
    return process.returncode


def check_readme(names):
    assert names["solution"].stats["loss"] < names["model"].value
    assert names["minimum"].stats["loss"] < names["model"].value
    sizes = names["data"].sizes
    assert (sizes["strategy"], sizes["rate"], sizes["seed"]) == (2, 3, 8)
    assert names["data"].identical(curvopt.load_study("results/readme"))
    assert names["result"].history.sizes["step"] == 20


def check_first_study(names):
    assert names["saved"].identical(names["data"])
    assert names["data"].sizes["seed"] == 8
    assert (names["data"].steps_made == 100).all()
    assert Path("results/first.png").stat().st_size > 10_000
    final = curvopt.final_metric(names["data"], "train_loss")
    best = names["problem"].evaluate(names["best"].params, names["best"].model_state)
    np.testing.assert_allclose(best["train_loss"], final.min(), rtol=1e-4)
    assert names["study"].sizes["seed"] == 8


def check_strategy(names):
    start = names["loss"](names["y"], names["args"])
    assert names["solution"].stats["loss"] < start / 2


def check_problem(names):
    loss = names["fitted"].history.train_loss
    assert loss[-1] < loss[0] / 2
    error = names["run"].history.error
    assert error[-1] < error[0]
    in_parts = names["in_parts"].history.train_loss
    assert in_parts[-1] < in_parts[0] / 2


def check_data(names):
    images, labels, seen = names["images"], names["labels"], names["data"]
    on_device = curvopt.SupervisedProblem(
        names["problem"].model,
        names["problem"].loss_function,
        (np.asarray(images), labels),
        batch_size=50,
        prepare=names["problem"].prepare,
    )
    run = curvopt.run_study(on_device, names["solvers"], seeds=4, steps=60)
    np.testing.assert_allclose(seen.loss, run.loss, rtol=1e-3)
    assert names["run"].history.loss[-1] < names["run"].history.loss[0]
    repeated = names["repeated"]
    first, second = (next(repeated.batches(3, step))[0] for step in (0, 1))
    assert not np.array_equal(first, second)


def check_training_loop(names):
    """What was killed and resumed is what was not, bit for bit."""
    again = names["fit"](2000, Path("again.eqx"))
    for found in (names["y"], names["z"]):
        jax.tree.map(np.testing.assert_array_equal, found, again)
    batch = next(names["batches"](5000))
    before, after = (names["loss"](y, batch)[0] for y in (names["params"], again))
    assert after < before / 2


class Logged:
    """In place of a library for logging: keeps what it is told."""

    def __init__(self, *_, **__):
        self.rows = []

    def add_scalar(self, tag, scalar_value, global_step):  # as a SummaryWriter
        self.rows.append((global_step, tag, scalar_value))

    def log(self, data, step):  # as a run of wandb
        self.rows += [(step, name, value) for name, value in data.items()]


def check_logging(names):
    """The blocks for libraries that are not installed pass on each metric once."""
    text = (GUIDES / "long_runs.md").read_text("utf-8")
    indented = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.M)
    found = [textwrap.dedent(block) for block in indented if "import" in block]
    loggers = ("tensorboardX", "SummaryWriter", "writer"), ("wandb", "init", "run")
    for block, (library, maker, kept) in zip(found, loggers, strict=True):
        module, own = types.SimpleNamespace(**{maker: Logged}), {}
        with unittest.mock.patch.dict(sys.modules, {library: module}):
            exec(block, own)
        history = curvopt.train(
            names["problem"],
            names["solver"],
            names["key"],
            steps=4,
            evaluations=2,
            on_evaluation=own["log"],
        ).history
        metrics = [k for k, x in history.items() if "evaluation_step" in x.dims]
        expected = [
            (step, name, float(history[name].sel(evaluation_step=step)))
            for step in (0, 2, 4)
            for name in metrics
        ]
        assert len(metrics) > 1 and sorted(own[kept].rows) == sorted(expected)


def check_long_runs(names):
    check_logging(names)
    whole = curvopt.train(
        names["problem"], names["solver"], names["key"], steps=300, evaluations=20
    )
    jax.tree.map(np.testing.assert_array_equal, names["result"].params, whole.params)
    np.testing.assert_array_equal(names["result"].history.loss, whole.history.loss)
    lines = Path("results/curve.csv").read_text().splitlines()
    steps = [int(line.split(",")[1]) for line in lines]
    assert steps == [350, 400, 450, 500]
    stopped = names["data"].stopped_at
    assert (stopped > 0).any() and (stopped < 600).all()
    assert (names["data"].steps_made == stopped.where(stopped >= 0, 600)).all()


def check_optax(names):
    start = {"w": names["w"], "v": jnp.full(8, 0.1)}
    assert names["last_loss"] < names["loss"](start, names["batch"])


def check_curvature(names):
    model, u = names["model"], names["u"]
    trained = names["loss"](names["trained"].value, names["data"])
    assert trained < model.value
    matrix = model.curvature_matrix([u, names["params"]])
    np.testing.assert_allclose(matrix[0, 0], model.curvature(u), rtol=1e-4)
    np.testing.assert_allclose(names["matrix"].sum(), model.curvature(u), rtol=1e-4)


def check_format(names):
    saved = curvopt.load_study("results/small").loss.isel(strategy=0, seed=0)
    read = np.frombuffer(names["steps"], names["columns"])["loss"]
    np.testing.assert_array_equal(saved, read)


def check_accelerators(names):
    assert names["data"].sizes["seed"] == 4
    assert json.loads(names["data"].execution.item())["lanes_at_once"] == 2


def check_large_models(names):
    for run in (names["result"], names["split"]):
        assert run.history.train_loss[-1] < run.history.train_loss[0]
    assert names["data"].sizes["seed"] == 2
    assert names["record"].loss > 0 and int(names["count"]) == 2


def check_first_steps(names):
    assert names["solution"].stats["loss"] < names["loss"](names["y"], None)


def check_a_study(names):
    assert names["study"].sizes["seed"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_its_python_runs(path, tmp_path, monkeypatch):
    """Block after block; what is saved is killed, then resumed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{':'.join(sys.path)}")
    names, before = {"__name__": "__main__"}, ""
    for block in blocks(path, "python"):
        for line, file in KILLED.items():
            if line in block:
                assert killed(before + block, file) != 0
        before += block + "\n"
        exec(compile(block, str(path), "exec"), names)
    globals()[f"check_{path.stem.lower()}"](names)


@pytest.mark.host
def test_there_are_two_commands_that_do_all_the_set_up():
    commands = blocks(README, "sh")
    assert len(commands) == 2
    for command in commands:
        assert "-m venv" in command and "pip install" in command


@pytest.mark.host
def test_the_readme_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 200


@pytest.mark.host
@pytest.mark.parametrize("path", [README, ROOT / "CONTRIBUTING.md", *GUIDES.glob("*.md")])
def test_links_lead_somewhere(path):
    text = path.read_text("utf-8")
    for link in re.findall(r"\]\((?!http|#)([^)#\s]+)", text):
        assert (path.parent / link).exists(), link


@pytest.mark.host
@pytest.mark.parametrize("path", sorted(GUIDES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_hold_no_outputs(path):
    notebook = json.loads(path.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        assert cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
