"""What a function of the user is told of a study, and what it may stop."""

import threading
from collections import Counter

import numpy as np
import pytest
from test_resume import (
    assert_same,
    fixed,
    rescaled,
    Stop,
    stop_after as stop_after,
    study,
)

import curvopt
from curvopt._study import _store


pytestmark = pytest.mark.host

GRID = {"a": curvopt.Family(fixed, rate=[0.1, 0.2]), "b": rescaled()}


class Told:
    """Counts its calls, one at a time, and stops what it is told to."""

    def __init__(self, *stops):
        self.calls, self.stops, self._busy = [], stops, threading.Lock()

    def __call__(self, evaluation):
        assert self._busy.acquire(blocking=False)
        self.calls.append(evaluation)
        self._busy.release()
        return (evaluation.strategy, evaluation.seed, evaluation.step) in self.stops

    @property
    def counts(self):
        return Counter(
            (e.strategy, *e.hyperparameters.values(), e.seed, e.step) for e in self.calls
        )


def test_every_evaluation_is_reported_once(regression, tmp_path, stop_after, monkeypatch):
    """By groups side by side, in a study that is broken off several times."""
    told = Told()
    for chunks in (1, 5):
        with pytest.raises(Stop), monkeypatch.context():
            stop_after(chunks)
            # Nothing is saved before a group has ended: all of its steps are repeated.
            study(regression, tmp_path, strategies=GRID, on_evaluation=told, save_every=1e9)
        monkeypatch.undo()
    data = study(regression, tmp_path, strategies=GRID, on_evaluation=told)
    assert_same(data, study(regression, strategies=GRID))
    steps = [0, 10, 20, 30, 40]
    runs = [("a", 0.1), ("a", 0.2), ("b",)]
    assert told.counts == Counter(
        (*run, seed, step) for run in runs for seed in range(3) for step in steps
    )
    for evaluation in told.calls:
        assert set(evaluation.metrics) == {"train_loss"}
        at = {"strategy": evaluation.strategy, "seed": evaluation.seed}
        own = data.train_loss.sel(at | {"evaluation_step": evaluation.step})
        rate = evaluation.hyperparameters.get("rate", 0.1)
        assert evaluation.metrics["train_loss"] == own.sel(rate=rate)


def test_a_lane_is_stopped(regression, finished, tmp_path):
    """Its record and its parameters are those at the stop; the others are as without it.
    It stays stopped when the study is broken off, resumed and extended."""
    (_, whole), kept = finished, {}

    def on_evaluation(evaluation):
        at = evaluation.strategy, evaluation.seed, evaluation.step
        if at in (("b", 1, 20), ("a", 2, 0)):  # there is nothing to stop at the start
            kept[at] = evaluation.params()
            return True
        if at == ("b", 0, 30):
            raise Stop

    with pytest.raises(Stop):
        study(regression, tmp_path, on_evaluation=on_evaluation, save_every=1e9)
    assert set(kept) == {("b", 1, 20), ("a", 2, 0)}
    one = {"strategy": "b", "seed": 1}
    assert curvopt.load_study(tmp_path).stopped_at.sel(one) == 20
    data = study(regression, tmp_path)
    assert data.stopped_at.values.tolist() == [[-1, -1, -1], [-1, 20, -1]]
    assert data.steps_made.values.tolist() == [[40, 40, 40], [40, 20, 40]]
    end = data.sel(one)
    np.testing.assert_array_equal(end.loss[:20], whole.loss.sel(one)[:20])
    np.testing.assert_array_equal(end.train_loss[:3], whole.train_loss.sel(one)[:3])
    assert end.loss[20:].isnull().all() and end.train_loss[3:].isnull().all()
    assert (end.evaluated_curvatures[20:] == 0).all() and end.diverged_at == -1
    others = whole.stopped_at.copy(data=data.stopped_at.values < 0)
    for name in ("loss", "train_loss", "step_size"):
        np.testing.assert_array_equal(
            data[name].where(others), whole[name].where(others), err_msg=name
        )
    final = curvopt.final_metric(data, "train_loss").sel(one)
    assert final == end.train_loss[2]
    run = curvopt.load_run(tmp_path, strategy="b", seed=1, problem=regression)
    for a, b in zip(run.params.layers, kept["b", 1, 20].layers):
        np.testing.assert_array_equal(a.weight, b.weight)
    longer = study(regression, tmp_path, steps=60, evaluations=6)
    assert longer.steps_made.values.tolist() == [[60, 60, 60], [60, 20, 60]]
    assert_same(curvopt.load_study(tmp_path), longer)


def test_a_study_ends_when_all_are_stopped(regression, stop_after):
    """And without a folder."""
    made = stop_after(10_000)
    told = Told(*(("a", seed, 1000) for seed in range(3)))
    data = study(regression, strategies={"a": fixed(0.1)}, on_evaluation=told, steps=4000)
    assert (data.steps_made == 1000).all() and len(made) < 1000
    figure = curvopt.plots.metric_curves(data, "train_loss")
    assert "Diverged" not in "".join(text.get_text() for text in figure.texts)


def test_an_error_in_one_of_two_groups(regression, finished, tmp_path):
    """Of two lanes that are evaluated together, the second one is told as well."""
    told = Told()

    def on_evaluation(evaluation):
        told(evaluation)
        if evaluation.strategy == "b" and evaluation.step == 20:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        study(regression, tmp_path, on_evaluation=on_evaluation, save_every=1e9)
    made = curvopt.load_study(tmp_path).steps_made
    assert (made.sel(strategy="a") == 40).all()
    assert made.sel(strategy="b").max() == 20
    assert_same(study(regression, tmp_path, on_evaluation=told), finished[1])
    runs = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]
    assert told.counts == Counter((*r, k) for r in runs for k in (0, 10, 20, 30, 40))


def test_a_damaged_run_that_was_stopped(regression, tmp_path):
    """It is run again to where it was stopped, and not reported again."""
    told = Told(("a", 0, 20))
    only = {"strategies": {"a": fixed(0.1)}, "on_evaluation": told}
    data = study(regression, tmp_path, **only)
    with _store.Store(tmp_path, 0) as store:
        store.drop(0, 0)
    assert_same(study(regression, tmp_path, **only), data)
    assert set(told.counts.values()) == {1}
