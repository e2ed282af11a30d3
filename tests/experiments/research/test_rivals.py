"""The questions of rivals and of relatives: what their conclusions make of known data."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import curvopt
from experiments.research import _reported
from experiments.research._bench import Bench
from experiments.research._claims import claims, verdict
from experiments.research._overview import overview
from experiments.research._profiles import costs_to_target, target
from experiments.research._settings import Setting, SETTINGS
from experiments.research._standings import (
    failed,
    final,
    lost,
    ranks,
    spent_a_step,
    standing,
)
from experiments.research.questions import relatives
from experiments.research.questions.relatives import RELATIVES
from experiments.research.questions.rivals import RIVALS
from strategies import FromEvalParams, FromOptax, LearningRate, SGD, WindowAverage


pytestmark = pytest.mark.host

START, STEPS, WINDOWS = 10.0, 100, 20


def made(ends, *, seeds=12, diverged=(), rates=None, accuracy=True, spread=0.01):
    """A result in which every strategy falls in a straight line from the start to its end,
    where it is after half of the run; a step costs what `rates` has, 1 if nothing, and
    twice that in time; seeds differ by `spread`."""
    names = list(ends)
    shift = spread * np.linspace(-1, 1, seeds)
    final = np.array([[ends[n] + d for d in shift] for n in names])
    window = np.arange(WINDOWS) * STEPS / WINDOWS + 2
    way = np.minimum(window / (STEPS / 2), 1)
    smooth = START + (final[..., None] - START) * way
    bad = np.array([[n in diverged] * seeds for n in names])
    final = np.where(bad, START, final)
    smooth = np.where(bad[..., None], np.nan, smooth)
    cost = np.array([(rates or {}).get(n, 1.0) for n in names])
    variables = {
        "train_loss": (("strategy", "seed"), final),
        "start": (("strategy", "seed"), np.full(final.shape, START)),
        "diverged": (("strategy", "seed"), bad),
        "gradient_equivalents": (
            ("strategy", "seed"),
            np.repeat(cost[:, None] * STEPS, seeds, axis=1),
        ),
        "smooth_loss": (("strategy", "seed", "window"), smooth),
        "smooth_cost": (("strategy", "window"), cost[:, None] * (window + 1)),
        "step_time": ("strategy", 2 * cost),
    }
    if accuracy:
        variables["test_accuracy"] = ("strategy", "seed"), 1 - final / 20
    data = xr.Dataset(
        {k: (dims, np.asarray(x, np.float32)) for k, (dims, x) in variables.items()},
        coords={"strategy": names, "seed": np.arange(seeds), "window": window},
    )
    data["diverged"] = data.diverged.astype(bool)
    data["gradient_seconds"] = np.float32(0.5)
    return data.assign_attrs(
        metric="train_loss", label="a model, some data", steps=str(STEPS)
    )


DIRECTIONS = ("SGD", "RMSProp", "Adam", "Momentum")


def rivals_data(**options):
    """Momentum's recipe ends at 1, without a horizon at 1.5; its tuned constant at 2, its
    tuned cosine at 0.5. The older recipe is compared with nothing."""
    ends = {}
    for k, name in enumerate(DIRECTIONS):
        ends[f"{name}, tuned constant"] = 2.0
        ends[f"{name}, tuned cosine"] = 0.5 if name == "Momentum" else 1.4 - 0.1 * k
        ends[f"{name}, rescaled"] = 4.0
        ends[f"{name}, hindsight"] = 1.3 - 0.1 * k
    for name in ("Momentum", "Adam"):
        ends[f"{name}, hindsight, no horizon, averaged"] = 1.5
    data = made(ends | {"Prodigy": 3.0, "CDAT": 1.5, "SLS": 1.0}, **options)
    chosen = {
        f"{name}, tuned {kind}": {"learning_rate": 0.1, "cost": cost}
        for name in DIRECTIONS
        for kind, cost in (("constant", 1100.0), ("cosine", 2200.0))
    }
    return data.assign_attrs(tuned=json.dumps(chosen))


def test_rivals_are_counted():
    # SLS ends as Momentum's recipe does; SGD's, at 1.3, is beaten by it and beats CDAT.
    numbers = RIVALS.conclude({"mlp": rivals_data(), "gru": rivals_data()}).numbers
    assert numbers["RivalsConstantBetter"] == "4" and numbers["RivalsConstantWorse"] == "0"
    assert numbers["RivalsCosineBetter"] == "6" and numbers["RivalsCosineWorse"] == "2"
    kinds = ("Better", "Worse", "Undecided")
    assert [numbers[f"RivalsUntuned{kind}"] for kind in kinds] == ["4", "0", "2"]
    assert [numbers[f"RivalsPlain{kind}"] for kind in kinds] == ["2", "2", "0"]
    assert numbers["RivalsFamily"] == "11" and numbers["RivalsSeeds"] == "12"
    # 1,100 and 2,200 gradient-equivalents of tuning, 100 for a run.
    assert (numbers["RivalsTuningLeast"], numbers["RivalsTuningMost"]) == ("11", "22")
    assert all(re.fullmatch("[A-Z][A-Za-z]*", name) for name in numbers)


@pytest.mark.filterwarnings("error")
def test_rivals_of_a_quick_run():
    # Two seeds decide nothing; accuracy, a rival, and convergence may be missing.
    few = rivals_data(seeds=2, accuracy=False, diverged=["Prodigy"])
    found = RIVALS.conclude({"gru": few.drop_sel(strategy="CDAT"), "mlp": few})
    assert found.numbers["RivalsConstantUndecided"] == "4"
    prodigy = [r for r in found.tables["rivals-overview"].splitlines() if "Prodigy" in r]
    assert prodigy[0].split(" & ")[5] == "0"
    assert "RivalsLostCdat" not in found.numbers
    assert set(found.figures) == {"rivals-profiles", "rivals-courses"}
    assert {"rivals-gru", "rivals-mlp", "rivals-overview"} < set(found.tables)
    for table in found.tables.values():
        assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") == 1
        widths = {
            line.count("&")
            for line in table.splitlines()
            if line.endswith(r"\\") and "multicolumn" not in line
        }
        assert len(widths) == 1


def test_runs_that_end_above_their_start_count_as_the_start():
    # Guards: one run at 1e20 was all of a mean, and a run that diverged ranked before it.
    data = made({"a": 1.0, "b": 1e20, "c": 0.1}, diverged=["c"])
    np.testing.assert_allclose(final(data).mean("seed"), [1, START, START], rtol=1e-6)
    assert failed(data).sum("seed").values.tolist() == [0, 12, 12]
    assert ranks(data).tolist() == [1, 2.5, 2.5]


def test_a_step_of_runs_that_diverged_costs_nothing_known():
    # Guards: they make no steps, and made a strategy look cheaper than its gradient.
    data = made({"a": 1.0, "b": 1.0}, rates={"a": 2.0}, diverged=["b"])
    data["diverged"][0, :3] = True
    data["gradient_equivalents"][0, :3] = 1.0
    np.testing.assert_allclose(spent_a_step(data), [2.0, np.nan])


def test_standing_is_sorted_and_counts_what_failed():
    data = made({"a": 2.0, "b": 1.0, "c": 0.1}, diverged=["c"], rates={"b": 1.5})
    rows = standing(data).splitlines()[4:7]
    assert [row.split(" & ")[0] for row in rows] == ["b", "a", "c"]
    # Loss, its rank, accuracy, cost and time of a step.
    assert rows[0].startswith("b & 1.000 & ") and "& 1.0 & 95.0 & 1.50 & 3.00 &" in rows[0]
    assert rows[1].endswith(r"&  \\") and rows[2].endswith(r"& 12 \\")
    assert ranks(data).tolist() == [2, 1, 3]


def test_lost_of_the_way():
    loss = lost(made({"a": 5.5, "b": 1.0, "c": 0.0}, diverged=["c"])).mean("seed")
    np.testing.assert_allclose(loss, [0.5, 0.0, 1.0], atol=1e-6)


def test_overview():
    data = made({"a": 5.5, "b": 1.0}, rates={"b": 3.0})
    table, texts = overview({"x": data, "y": data}, ["a", "b"])
    assert texts["a"]["Lost"] == texts["a"]["Mean"] == r"50\,\%"
    assert texts["b"]["Spent"] == "3.00" and texts["b"]["Time"] == "6.00"
    first, second = table.splitlines()[4:6]
    assert first.startswith("b & ") and first.endswith(r"& 100 & 3.00 & 6.00 \\")
    assert second.split(" & ")[5] == "0"


def test_cost_to_target_by_three_clocks():
    data = made({"a": 0.0, "b": 5.0}, rates={"a": 1.5}, spread=0.0)
    # 95 % of the way from 10 to 0, which `a` has made after 95 % of half of the run.
    assert target(data) == pytest.approx(0.5)
    costs = {k: costs_to_target({"x": data}, ["a", "b"], k) for k in _reported.clocks(data)}
    steps = 52 + 1  # windows are at 2, 7, ..., 47, 52: the first at or after 47.5
    assert np.all(costs["steps"][0] == steps) and np.all(np.isinf(costs["steps"][1]))
    np.testing.assert_allclose(costs["gradient-equivalents"][0], 1.5 * steps)
    np.testing.assert_allclose(costs["seconds"][0], steps * 2 * 1.5 * 0.5)


def test_claims_need_agreement():
    data = made({"a": 2.0, "b": 1.0, "c": 1.0})
    found = claims(data, [("a", "b"), ("b", "c"), ("c", "a"), ("a", "not there")])
    verdicts = {pair: verdict(of) for pair, of in found.items()}
    assert verdicts == {
        ("a", "b"): "worse",
        ("b", "c"): "undecided",
        ("c", "a"): "better",
    }
    assert found["a", "b"].family == 3


def test_relatives():
    ends = {"SGD, rescaled": 1.0, "INNAprop": 0.5, "FoMoH, one direction": 4.0}
    many = {"FoMoH, 8 directions, cosine": 5.0}  # not run where it takes too long
    found = RELATIVES.conclude({"logistic": made(ends | many), "mlp": made(ends)})
    kinds = ("Better", "Worse", "Undecided")
    assert [found.numbers[f"Relatives{kind}"] for kind in kinds] == ["2", "3", "0"]
    rows = found.tables["relatives-claims"]
    assert r"INNAprop & $\mathbf{-50.0}$ & $\mathbf{-50.0}$" in rows
    assert r"FoMoH, one direction & $\mathbf{+300.0}$" in rows
    assert r"FoMoH, 8 directions, cosine & $\mathbf{+400.0}$ & --" in rows
    assert set(found.figures) == {"relatives-courses"}


def test_many_random_directions_are_not_asked_where_they_take_hours(tmp_path):
    mlp, lenet = (
        set(relatives._relatives(Bench(name, SETTINGS[name], Parabola(), tmp_path, True)))
        for name in ("mlp", "lenet")
    )
    assert mlp - lenet == {"FoMoH, 8 directions, cosine"} and lenet < mlp


START_POINT = np.array([1.0, -2.0])


class Parabola(curvopt.AbstractProblem):
    """Half of the squared distance from the batch's point; evaluated as it stands."""

    def init(self, key):
        return jnp.asarray(START_POINT, jnp.float32), None

    def batch(self, key, count):
        return jax.random.normal(jax.random.fold_in(key, count), (2,))

    def loss(self, params, args):
        data, state, _ = args
        return jnp.sum((params - data) ** 2) / 2, (state, {})

    def evaluate(self, params, model_state):
        return {"train_loss": jnp.sum(params**2)}

    @property
    def steps_per_epoch(self):
        return 5


@pytest.mark.slow
def test_what_is_reported(tmp_path):
    """Averages are evaluated too. That of schedule-free is, at a constant rate, the mean of
    all `z`."""
    problem = Parabola()
    setting = Setting("a parabola", lambda folder: problem, lambda: problem, steps=12)
    bench = Bench("parabola", setting, problem, tmp_path, quick=True)
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))
    free = curvopt.LineSearchMinimiser(
        FromOptax(optax.contrib.schedule_free_sgd(0.1)),
        LearningRate(1.0),
        average=FromEvalParams(optax.contrib.schedule_free_eval_params),
    )
    averaged = dataclasses.replace(solver, average=WindowAverage())
    strategies = {"SGD": solver, "averaged": averaged, "schedule-free": free}
    data = _reported.reported(bench, strategies)
    assert data.strategy.values.tolist() == list(strategies)
    assert np.all(data.step_time > 0) and data.gradient_seconds > 0
    clocks = _reported.clocks(data)
    assert all(x.dims == ("strategy", "window") for x in clocks.values())
    assert clocks["steps"][0, -1] == 12

    batch_key = jax.random.split(jax.random.key(0), 4)[1]
    points = np.stack([problem.batch(batch_key, jnp.array(k)) for k in range(12)])
    z = y = sgd = average = START_POINT
    zs, losses, seen, plain = [], [], [np.sum(y**2)], []
    for point in points:
        losses.append(np.sum((y - point) ** 2) / 2)
        plain.append(np.sum((sgd - point) ** 2) / 2)
        sgd = sgd - 0.1 * (sgd - point)
        average = average + 9 / (len(plain) + 9) * (sgd - average)
        z = z - 0.1 * (y - point)
        zs.append(z)
        x = np.mean(zs, axis=0)
        y = 0.9 * x + 0.1 * z
        seen.append(np.sum(x**2))
    of = data.sel(seed=0)
    np.testing.assert_allclose(of.smooth_loss.sel(strategy="SGD"), plain, rtol=1e-4)
    np.testing.assert_allclose(of.course.sel(strategy="SGD")[-1], sgd @ sgd, rtol=1e-4)
    last = of.course.sel(strategy="averaged")[-1]
    np.testing.assert_allclose(last, average @ average, rtol=1e-4)
    free = of.sel(strategy="schedule-free")
    np.testing.assert_allclose(free.smooth_loss, losses, rtol=1e-4)
    np.testing.assert_allclose(free.course, np.array(seen)[[0, 6, 12]], rtol=1e-4)
