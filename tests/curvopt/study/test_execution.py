"""How lanes are run: what is chosen, and that it changes no result."""

import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from curvopt._study import _execution, _lane, _program, _steps
from curvopt._study._execution import choose, fitting_width
from strategies import BacktrackingArmijo, CurvatureRescaling, LearningRate, Momentum, SGD


STRATEGIES = {
    "fixed": curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1)),
    "rescaled": curvopt.LineSearchMinimiser(Momentum(), CurvatureRescaling(average=0.9)),
    "searched": curvopt.LineSearchMinimiser(SGD(), BacktrackingArmijo()),
}


def study(problem, names=tuple(STRATEGIES), **how):
    how = {"workers": 1} | how
    return curvopt.run_study(
        problem,
        {name: STRATEGIES[name] for name in names},
        seeds=5,
        steps=11,
        evaluations=2,
        execution=curvopt.Execution(**how),
        progress=False,
    )


def chosen(data):
    return [json.loads(str(text)) for text in data.execution.values]


@pytest.fixture(scope="module")
def together(regression):
    """The study with all lanes at once."""
    return study(regression)


def test_no_choice_changes_a_result(regression, stateful, together):
    """Two at once leave one lane over: its group is filled up."""
    for problem, name, *ways in (
        (regression, "searched", ("scan", 1, 1), ("dispatch", 2, 1)),
        (stateful, "fixed", ("scan", 2, 2)),
    ):
        known = problem is regression
        expected = together.sel(strategy=[name]) if known else study(problem, [name])
        for loop, lanes, workers in ways:
            data = study(problem, [name], loop=loop, lanes_at_once=lanes, workers=workers)
            assert {(c["loop"], c["lanes_at_once"]) for c in chosen(data)} == {
                (loop, lanes)
            }
            for part in ("loss", "step_size", "slope"):
                np.testing.assert_allclose(data[part], expected[part], rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(data.evaluated_losses, expected.evaluated_losses)


class Convolutions(curvopt.AbstractProblem):
    """A convolution, within a jit and a vmap."""

    def _model(self, key):
        return eqx.nn.Conv1d(1, 2, 3, key=key)

    def init(self, key):
        return eqx.filter(self._model(key), eqx.is_array), None

    def batch(self, key, count):
        return jr.normal(jr.fold_in(key, count), (4, 1, 8))

    def loss(self, params, args):
        static = eqx.filter(self._model(jr.key(0)), eqx.is_array, inverse=True)
        out = jax.jit(jax.vmap(eqx.combine(params, static)))(args[0])
        return jnp.mean((out - 1) ** 2), (None, {})

    def evaluate(self, params, model_state):
        return {}

    @property
    def steps_per_epoch(self):
        return 1


@pytest.mark.slow
def test_convolutions_on_a_cpu_are_dispatched(regression):
    for choice in chosen(study(Convolutions())):
        assert (choice["loop"], choice["lanes_at_once"]) == ("dispatch", 1)
        assert "convolutions" in choice["reason"]
    for choice in chosen(study(regression)):
        assert (choice["loop"], choice["lanes_at_once"]) == ("scan", 5)


@pytest.mark.slow
def test_lanes_are_split_by_the_memory_of_the_compiled_program(regression):
    whole = study(regression)
    origins = [_lane.Origin(_lane.seed_key(k)) for k in range(5)]
    lanes = _lane.Lanes(
        regression, STRATEGIES["fixed"], False, origins, np.zeros(5, int), np.arange(5)
    )
    programs = _program.Programs(lanes, jax.local_devices(), 11)
    needed = {n: programs("scan", n).bytes for n in (1, 3, 5)}
    assert needed[1] < needed[3] < needed[5]
    budget = int(needed[3])
    assert fitting_width(programs, "scan", 5, budget) == 3
    data = curvopt.run_study(
        regression,
        {"fixed": STRATEGIES["fixed"]},
        seeds=5,
        steps=11,
        evaluations=2,
        execution=curvopt.Execution(memory=budget, workers=1),
        progress=False,
    )
    (choice,) = chosen(data)
    # As even as they can be: three and two.
    assert choice["lanes_at_once"] == 3 and "hold" in choice["reason"]
    np.testing.assert_allclose(data.loss, whole.loss.sel(strategy=["fixed"]), rtol=1e-5)
    with pytest.raises(ValueError, match="one lane needs .* for 1 at a time.*Execution"):
        study(regression, memory=int(0.9 * needed[1]))


class FakeProgram:
    """A program whose time for a step is given."""

    def __init__(self, loop, width, seconds):
        self.layout = _steps.Layout(width, False)
        self.seconds = seconds.get((loop, width), 9.0)
        self.longest = 100
        self.bytes = self.evaluation_bytes = width
        self.seconds_at_most, self.compile_seconds = math.nan, 0.0


class FakePrograms:
    from_host = False

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, loop, width):
        return FakeProgram(loop, width, self.seconds)

    def time(self, program, workers, steps):
        return program.seconds * steps


SLOW_TOGETHER = {("scan", 4): 0.8, ("scan", 8): 0.9}


@pytest.mark.parametrize(
    "seconds, execution, expected",
    [
        # Of two groups side by side, and more seconds for more lanes: vmap wins.
        ({("scan", 4): 0.1, ("scan", 1): 0.1}, {}, ("scan", 4, 2)),
        # One after another wins, and so does a call for each step.
        (SLOW_TOGETHER | {("scan", 1): 0.05}, {}, ("scan", 1, 2)),
        (
            SLOW_TOGETHER | {("scan", 1): 0.05, ("dispatch", 1): 0.02},
            {},
            ("dispatch", 1, 2),
        ),
        # All on one worker wins where two of them take more than twice the time.
        ({("scan", 4): 0.5, ("scan", 8): 0.3}, {}, ("scan", 8, 1)),
        # What is given stays.
        (
            {("scan", 8): 0.8, ("dispatch", 8): 0.1},
            {"lanes_at_once": 8, "workers": 1},
            ("dispatch", 8, 1),
        ),
        (SLOW_TOGETHER | {("scan", 1): 0.01}, {"loop": "scan"}, ("scan", 1, 2)),
        (
            {("scan", 2): 0.8},
            {"loop": "scan", "lanes_at_once": 2, "workers": 3},
            ("scan", 2, 3),
        ),
        # More and more lanes at once, for as long as that is faster.
        (
            {("scan", 2): 0.2, ("scan", 1): 0.4, ("scan", 8): 0.01},
            {"workers": 1, "loop": "scan"},
            ("scan", 8, 1),
        ),
        # Short runs are not measured.
        ({("scan", 4): 0.0001, ("scan", 1): 0.00001}, {}, ("scan", 4, 2)),
        # Fewer side by side where two lanes do not fit.
        ({("scan", 1): 1.0}, {"memory": 1}, ("scan", 1, 1)),
        # Memory comes first: of four lanes, two for each worker.
        ({("scan", 2): 0.1, ("scan", 1): 1.0}, {"memory": 4}, ("scan", 2, 2)),
    ],
)
def test_the_fastest_is_chosen_by_measurement(
    seconds, execution, expected, unchecked, monkeypatch
):
    monkeypatch.setattr(_execution, "cpu_count", lambda: 2)
    choice = choose(
        curvopt.Execution(**execution),
        FakePrograms(seconds),
        lanes=8,
        steps=10_000,
        convolutions=False,
    )
    assert (choice.loop, choice.lanes_at_once, choice.workers) == expected


@pytest.mark.parametrize(
    "lane, expected",
    [
        # The best is between one lane and all, and what is far from it is not tried.
        (lambda width: 1 + 4 / width + width / 8, (4, [1, 4, 16, 500])),
        # More are always better: an empty place is paid for.
        (lambda width: 1 / width, (500, [1, 4, 16, 64, 256, 500])),
        (lambda width: width, (1, [1, 4, 500])),
    ],
)
def test_widths_between_one_and_all(lane, expected, unchecked):
    seconds = {("scan", n): n * lane(n) for n in (1, 4, 16, 64, 256, 500)}
    programs, tried = FakePrograms(seconds), []
    programs.time = lambda program, workers, steps: (
        tried.append(program.layout.width) or program.seconds * steps
    )
    choice = choose(
        curvopt.Execution(loop="scan", workers=1),
        programs,
        lanes=500,
        steps=10_000,
        convolutions=False,
    )
    assert (choice.lanes_at_once, sorted(set(tried))) == expected


def test_measuring_takes_its_share_of_the_run(unchecked, monkeypatch):
    """Guards against a measurement that costs more than it can gain."""
    now, seconds = [0.0], {("scan", n): 1.0 for n in (1, 4, 16, 64, 100)}
    programs = FakePrograms(seconds)

    def took(program, workers, steps):
        now[0] += program.seconds * steps
        return program.seconds * steps

    programs.time = took
    monkeypatch.setattr(_execution.time, "perf_counter", lambda: now[0])
    for steps, measured in ((10, False), (200, True), (400, True)):
        now[0] = 0.0
        how = curvopt.Execution(loop="scan", workers=1)
        reason = choose(how, programs, lanes=100, steps=steps, convolutions=False).reason
        assert reason.startswith("measured") == measured
        assert now[0] <= 2 + 0.05 * steps


def test_a_measurement_is_recorded_and_changes_no_number(regression, together, monkeypatch):
    monkeypatch.setattr(_execution, "_SHARE", math.inf)
    monkeypatch.setattr(_execution, "_MEASURE_SECONDS", 0.0)
    data = study(regression, ["rescaled"])
    (choice,) = chosen(data)
    assert choice["reason"].startswith("measured, a step of a lane: scan × 5")
    assert choice["compile_seconds"] > 0
    expected = together.sel(strategy=["rescaled"])
    np.testing.assert_allclose(data.loss, expected.loss, rtol=1e-4)


def test_metrics_one_lane_after_another(regression, together, monkeypatch):
    """Where the evaluation of all lanes at once does not fit."""
    monkeypatch.setattr(_program.Program, "evaluation_bytes", math.inf)
    data = study(regression, ["fixed"])
    assert not any(choice["evaluate_at_once"] for choice in chosen(data))
    expected = together.sel(strategy=["fixed"])
    np.testing.assert_allclose(data.train_loss, expected.train_loss, rtol=1e-5)


@pytest.mark.slow
def test_the_choice_is_said(regression, capsys, monkeypatch):
    import tqdm

    monkeypatch.setattr(tqdm.tqdm, "__init__", _with_terminal(tqdm.tqdm.__init__))
    how = curvopt.Execution(workers=2)
    curvopt.run_study(regression, STRATEGIES, seeds=4, steps=3, execution=how)
    err = capsys.readouterr().err
    assert "fixed: 2 lanes at once, 2 groups side by side, steps in a compiled" in err
    assert "best loss" in err


def _with_terminal(init):
    def opened(self, *args, **kwargs):
        init(self, *args, **(kwargs | {"disable": False}))

    return opened


@pytest.mark.parametrize(
    "how, message",
    [
        ({"loop": "while"}, "loop must be one of 'scan', 'dispatch', but it is 'while'"),
        ({"lanes_at_once": 0}, "lanes_at_once must be an integer of at least 1"),
        ({"chunk": 1.5}, "chunk must be an integer of at least 1"),
        ({"memory": -1}, "memory must be an integer of at least 1"),
        ({"devices": ()}, "devices must be at least one"),
    ],
)
def test_bad_input(how, message, unchecked):
    with pytest.raises(ValueError, match=message):
        curvopt.Execution(**how)
