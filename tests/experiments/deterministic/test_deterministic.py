"""The comparison on deterministic problems; only compilation takes time here."""

import json
import math
import sys
import types
from functools import partial

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
import pytest
import scipy.optimize
import xarray as xr

import curvopt
from experiments.__main__ import main
from experiments.deterministic._classic import CLASSIC
from experiments.deterministic._dataset import dataset
from experiments.deterministic._drive import drive
from experiments.deterministic._measure import measure, Measured, Run, UnusableProblem
from experiments.deterministic._prices import evaluate, Prices
from experiments.deterministic._problem import Problem
from experiments.deterministic._report import report
from experiments.deterministic._solvers import Solver, SOLVERS
from experiments.deterministic._table import costs_table, duels_table, summary_table
from experiments.deterministic._target import first_reaching, lowest_value, target_value
from strategies import (
    Backtracking,
    CurvatureRescaling,
    LearningRate,
    SGD,
    StrongWolfe,
    TruncatedNewton,
)


pytestmark = pytest.mark.host


# Moré, Garbow & Hillstrom's values at the starts, or by hand.
STARTS = {
    "rosenbrock": 24.2,
    "rosenbrock-100": 50 * 24.2,
    "beale": 14.203125,
    "himmelblau": 106,
    "booth": 74,
    "powell-singular": 215,
    "wood": 19192,
    "helical-valley": 2500,
    "box": 1031.15381,
    "brown-dennis": 7926693.337,
    "penalty": 148032.56535,
    "kowalik-osborne": 0.00531317227,
    "osborne": 0.879026294,
    "logistic-regression": math.log(2),
}

MINIMISERS = {
    "rosenbrock": [1, 1],
    "rosenbrock-10": [1] * 10,
    "rosenbrock-100": [1] * 100,
    "beale": [3, 0.5],
    "himmelblau": [3, 2],
    "booth": [1, 3],
    "bowl": [0] * 50,
    "steep-bowl": [0] * 50,
    "powell-singular": [0] * 4,
    "wood": [1] * 4,
    "helical-valley": [1, 0, 0],
    "box": [1, 10, 1],
}


FEW = {"rosenbrock", "powell-singular", "osborne", "logistic-regression"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FEW else pytest.mark.slow) for n in CLASSIC],
)
def test_classic_problems_are_those_of_the_literature(name, x64):
    problem = CLASSIC[name]
    y0, args = problem.start()
    assert all(y.dtype == jnp.float64 for y in jtu.tree_leaves(y0))
    if name in STARTS:
        assert float(problem.fn(y0, args)) == pytest.approx(STARTS[name], rel=1e-8)
    if name in MINIMISERS:
        assert problem.minimum == 0
        assert float(problem.fn(jnp.array(MINIMISERS[name], float), args)) < 1e-25
    elif problem.minimum is not None:
        both = jax.jit(jax.value_and_grad(problem.fn))
        best = scipy.optimize.minimize(
            lambda y: both(y, args), np.asarray(y0), jac=True, options={"gtol": 1e-9}
        )
        assert best.fun == pytest.approx(problem.minimum, rel=1e-5)


HESSIAN = np.diag([1.0, 3.0, 10.0])


def quadratic(y, args):
    return y @ (args @ y) / 2


def driven(minimiser, budget=100, fn=quadratic, prices=(1, 0.5, 0.5, 1, 1)):
    y0, args = jnp.array([3.0, -2.0, 1.0]), jnp.asarray(HESSIAN)
    run = jax.jit(partial(drive, fn, minimiser, budget=budget))
    history = run(y0, args, jnp.array(prices, float))
    points = int(history.points)
    return np.asarray(history.values)[:points], np.asarray(history.counts), history


def conjugate_gradients(y, points):
    """Polak-Ribière+ with Armijo's search, from its formulas, counting its calls."""
    calls = {"value": 0, "gradient": 0}

    def f(y):
        calls["value"] += 1
        return y @ HESSIAN @ y / 2

    def df(y):
        calls["gradient"] += 1
        return HESSIAN @ y

    value, g = f(y), df(y)
    u = -g
    history = [(value, dict(calls))]
    while len(history) < points:
        t, trial = 1.0, f(y + u)
        while trial > value + 0.1 * t * (g @ u):
            t /= 2
            trial = f(y + t * u)
        y, value, old = y + t * u, trial, g
        g = df(y)
        beta = max(g @ (g - old), 0) / (old @ old)
        u = -g + beta * u if g @ (-g + beta * u) < 0 else -g
        history.append((value, dict(calls)))
    return history


def test_their_trials_are_counted(x64):
    values, counts, _ = driven(optx.NonlinearCG(1e-300, 0.0))
    expected = conjugate_gradients(np.array([3.0, -2.0, 1.0]), 12)
    for value, count, (of_formula, calls) in zip(values, counts, expected):
        assert value == pytest.approx(of_formula, rel=1e-9)
        # An accepted trial's value is part of its value-and-gradient.
        gradients, losses = calls["gradient"], calls["value"] - calls["gradient"]
        assert count.tolist() == [gradients, losses, 0, 0, 0]
    assert counts[11, 1] > 11


OURS = curvopt.LineSearchMinimiser(SGD(), Backtracking(CurvatureRescaling()))


def test_our_evaluations_are_counted(x64):
    values, counts, _ = driven(OURS)
    y = np.array([3.0, -2.0, 1.0])
    for k in range(10):
        # The exact step of a quadratic is accepted at once.
        assert values[k] == pytest.approx(y @ HESSIAN @ y / 2, rel=1e-9)
        assert counts[k].tolist() == [k + 1, k, k, 0, 0]
        g = HESSIAN @ y
        y = y - (g @ g) / (g @ HESSIAN @ g) * g


def test_a_gradient_that_is_handed_on_is_counted_once(x64):
    """The start's, and then one for each trial, and for each curvature, which repeats the
    sweeps."""
    solver = curvopt.LineSearchMinimiser(SGD(), StrongWolfe(CurvatureRescaling()))
    values, counts, _ = driven(solver)
    expected, _, _ = driven(OURS)
    np.testing.assert_allclose(values[:10], expected[:10], rtol=1e-9)
    for k in range(10):
        # The exact step of a quadratic is accepted at once.
        assert counts[k].tolist() == [2 * k + 1, 0, k, 0, 0]


def test_products_of_the_hessian_are_counted(x64):
    """With the gradient that they repeat, where one was handed on."""
    direction = TruncatedNewton(3, 1e-9)
    handed_on = curvopt.LineSearchMinimiser(direction, StrongWolfe(LearningRate(1.0)))
    values, counts, _ = driven(handed_on)
    assert values[1] < 1e-20 * values[0] and counts[1].tolist() == [3, 0, 0, 0, 3]
    evaluated = curvopt.LineSearchMinimiser(direction, LearningRate(1.0))
    assert driven(evaluated)[1][1].tolist() == [2, 0, 0, 0, 3]


@pytest.mark.parametrize("name", ["cg", "optx-bfgs"])
def test_where_a_run_ends(name, x64):
    minimiser = SOLVERS[name].minimiser
    values, counts, history = driven(minimiser, budget=5, prices=(1, 1, 1, 1, 1))
    assert counts[len(values) - 1].sum() <= 5 and history.total.sum() >= 5
    values, _, history = driven(minimiser)
    # No element of the gradient is above 1e-9, and no eigenvalue below 1.
    assert values[-1] <= 3 * 1e-9**2 / 2 < values[-2]
    assert history.total.sum() < 60
    # Ours rejects a value that is not finite, theirs may accept it; it is no point.
    bad = lambda y, args: jnp.where(y[0] == 3, quadratic(y, args), -jnp.inf)
    values, _, _ = driven(minimiser, fn=bad)
    np.testing.assert_array_equal(values, 15.5)


def test_prices(x64, monkeypatch):
    y, args = jnp.array([3.0, -2.0, 1.0]), jnp.asarray(HESSIAN)
    start = evaluate(quadratic, y, args)
    assert start.value == quadratic(y, args) and start.gradient_norm == 10
    assert start.prices.gradient == 1 and 0 < start.prices.loss < 1
    assert start.prices.curvature > 0 and start.prices.slope > start.prices.loss

    unknown = lambda self, kind: float("nan")
    monkeypatch.setattr(curvopt.cost.EvaluationCosts, "__getitem__", unknown)
    assert evaluate(quadratic, y, args).prices == Prices(1.0, 1 / 3, 2 / 3, 2 / 3, 2.0)


def test_the_target_is_that_of_more_and_wild():
    histories = [np.array([10.0, 4.0, 2.1]), np.array([10.0, 2.0]), np.array([])]
    assert lowest_value(histories) == 2.0
    assert lowest_value(histories, minimum=1.0) == 1.0
    assert lowest_value(histories, minimum=3.0) == 2.0
    target = target_value(10.0, 2.0, 0.25)
    assert target == 4.0
    assert [first_reaching(h, target) for h in histories] == [1, 1, None]


def test_dataset_and_tables():
    def run(values, losses):
        values = np.array(values, float)
        counts = np.array([[k + 1, n, 0, 0, 0] for k, n in enumerate(losses)])
        return Run(values, counts, counts[-1] + 1, seconds=1.0)

    solvers = {"cg": SOLVERS["cg"], "optx-cg": SOLVERS["optx-cg"]}
    runs = {"cg": run([10, 1, 0], [0, 2, 4]), "optx-cg": run([10, 5, 4], [0, 0, 0])}
    problem = Problem("p", quadratic, lambda: (None, None))
    data = dataset(
        [Measured(problem, 3, 10.0, Prices(loss=0.5), runs)],
        solvers,
        0.1,
        {"unusable": json.dumps({"q": "a reason"}), "command": "this"},
    )
    ours, theirs = data.isel(problem=0, solver=0), data.isel(problem=0, solver=1)
    assert float(data.target_value[0]) == 1.0
    assert float(ours.cost_to_target) == 3.0 and bool(ours.solved)
    assert (int(ours.gradients), int(ours.losses)) == (2, 2)
    assert float(ours.seconds_to_target) == pytest.approx(3 / float(ours.cost))
    assert np.isinf(theirs.seconds_to_target)
    assert np.isinf(theirs.cost_to_target) and not bool(theirs.solved)
    # The whole run.
    assert (int(theirs.gradients), float(theirs.cost)) == (4, 4.5 + 2 / 3 + 2 / 3 + 2)
    assert "| p " in costs_table(data) and "|                3.0 " not in summary_table(
        data
    )
    assert "1 of 1" in duels_table(data) and "100.0%" in summary_table(data)
    assert "q: a reason" in report(data)


class Broken(optx.NonlinearCG):
    def init(self, *args):
        raise RuntimeError("a reason\nand more lines")


@pytest.mark.slow
def test_command(tmp_path, monkeypatch, capsys):
    def fails():
        raise FileNotFoundError("no data")

    broken = Problem("broken", quadratic, fails)
    endless = Problem("endless", lambda y, args: jnp.inf * y, lambda: (jnp.ones(()), None))
    for problem in (broken, endless):
        monkeypatch.setitem(CLASSIC, problem.name, problem)
    monkeypatch.setitem(SOLVERS, "broken", Solver("broken solver", Broken(1e-3, 1e-3)))
    arguments = ["deterministic", "--names", "booth", "broken", "beale", "endless"]
    arguments += ["--solvers", "cg", "optx-bfgs", "broken", "--out", str(tmp_path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "| booth " in out and "1 of 2" in out
    assert "broken solver on booth: RuntimeError: a reason" in out and "and more" not in out
    assert "broken: FileNotFoundError: no data" in out and "endless: " in out

    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {
        "results.nc",
        "report.md",
        "figures/profile.png",
        "figures/profile.pdf",
    }
    with xr.open_dataset(tmp_path / "results.nc") as data:
        assert data.cost_to_target.dims == ("solver", "problem")
        assert list(data.problem.values) == ["booth", "beale"]
        assert data.unknowns.values.tolist() == [2, 2]
        assert data.solved.values.tolist() == [[True] * 2, [True] * 2, [False] * 2]
        assert np.isinf(data.cost_to_target.sel(solver="broken")).all()
        assert float(data.final_value.sel(solver="cg", problem="booth")) < 1e-12
        assert list(json.loads(data.attrs["unusable"])) == ["broken", "endless"]
        assert "jax" in json.loads(data.attrs["versions"])
    text = (tmp_path / "report.md").read_text("utf-8")
    for part in ("Moré & Wild", "| beale ", "Solvers that failed", "no data", "jax "):
        assert part in text
    assert jnp.zeros(()).dtype == jnp.float32

    assert main(arguments) == 2
    assert "already holds results" in capsys.readouterr().err
    none = [*arguments[:1], "--names", "broken", "--solvers", "cg", "--out"]
    assert main([*none, str(tmp_path / "none")]) == 2
    assert "none of the problems can be evaluated. broken: File" in capsys.readouterr().err


def test_a_problem_without_a_finite_start_is_refused():
    problem = Problem("p", lambda y, args: jnp.log(y), lambda: (jnp.zeros(()), None))
    with pytest.raises(UnusableProblem, match="value at the start is not finite"):
        measure(problem, SOLVERS, budget=10)


@pytest.mark.slow
def test_sif2jax(tmp_path, monkeypatch, capsys):
    # A constrained problem whose import alone takes half a minute.
    slow = types.ModuleType("sif2jax.cutest._constrained_minimisation.cleuven7")
    vars(slow)["CLEUVEN7"] = type("CLEUVEN7", (), {})
    monkeypatch.setitem(sys.modules, slow.__name__, slow)
    command = ["deterministic", "--problems", "sif2jax"]
    arguments = [*command, "--names", "ROSENBR", "BARD", "--solvers", "cg", "optx-lbfgs"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    with xr.open_dataset(tmp_path / "results.nc") as data:
        assert data.start_value.values[0] == pytest.approx(24.2, rel=1e-12)
        assert data.solved.values.all()
    # The package switches float64 on for all; the command switches it off again.
    assert jnp.zeros(()).dtype == jnp.float32
    capsys.readouterr()

    assert main([*command, "--names", "ROSENBROCK"]) == 2
    error = capsys.readouterr().err
    assert "unknown problem ROSENBROCK; valid are: " in error and "ROSENBR, " in error


def test_sif2jax_is_optional(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sif2jax", None)
    assert main(["deterministic", "--problems", "sif2jax"]) == 2
    assert "pip install sif2jax" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--names", "rosenbork"], "unknown problem rosenbork; valid are: rosenbrock, "),
        (["--solvers", "simplex"], "unknown solver simplex; valid are: bfgs, lbfgs, "),
        (["--tolerance", "1"], "--tolerance must be between 0 and 1, but it is 1.0"),
        (["--tolerance", "nan"], "--tolerance must be between 0 and 1, but it is nan"),
        (["--budget", "0"], "--budget must be at least 1, but it is 0"),
        (["--max-unknowns", "0"], "--max-unknowns must be at least 1, but it is 0"),
        (["--max-unknowns", "1"], "no problem has at most 1 unknowns"),
        (["--out", "/proc/nowhere"], "output folder /proc/nowhere is not writable"),
    ],
)
def test_what_cannot_be_run(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["deterministic", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ")
    assert not list(tmp_path.iterdir())
