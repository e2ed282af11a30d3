"""Reads a study back: its dataset, and the parameters of its runs."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Array, Int, PyTree

from .._checks import check_instance
from .._problem import AbstractProblem
from ._dataset import dataset, final_metric, Outcome, Point
from ._lane import answered, lane_tree, start_like, unpacked
from ._records import Records
from ._store import Store, StudyError


def outcome_of(
    store: Store,
    name: str,
    strategy: Mapping[str, Any],
    cohorts: Mapping[int, Any],
    wanted: Sequence[tuple[Point, int]],
    steps: int,
    schedule: Int[np.ndarray, " evaluations"],
) -> Outcome:
    """The wanted runs of a strategy, as far as they were saved.

    **Arguments:**

    - `store`: the study's folder.
    - `name`, `strategy`: the strategy's name, and its saved document.
    - `cohorts`: its cohorts.
    - `wanted`: point and seed of each run.
    - `steps`, `schedule`: the steps and the evaluation schedule of the longest run.
    """
    row = {(run_key(point), seed): k for k, (point, seed) in enumerate(wanted)}
    records = Records(len(wanted), steps, schedule)

    # Empty before the first save: the store knows no layout yet.
    def blank() -> dict[str, np.ndarray]:
        return {
            kind: np.zeros((len(wanted), size), [tuple(x) for x in layout[kind]])
            for layout in store.found(f"layout/{name}")[:1]
            for kind, size in (("steps", steps), ("evaluations", len(schedule)))
        }

    whole = blank()
    for number, cohort in cohorts.items():
        runs = cohort_runs(strategy, cohort)
        for run, first, last, own, evaluations in store.records(number):
            k = row.get((run_key(runs[run][0]), runs[run][1]))
            if k is None:
                continue
            if last > steps:
                raise StudyError(
                    f"{store.path} holds a longer study:\n  steps: {last} → {steps}\nRun "
                    "with as many steps, or load it: `curvopt.load_study(folder)`."
                )
            whole = whole or blank()  # saved since, by a study that runs
            whole["steps"][k, first:last] = np.frombuffer(own, whole["steps"].dtype)
            found = np.frombuffer(evaluations, whole["evaluations"].dtype)
            at = np.searchsorted(schedule, found["step"])
            whole["evaluations"][k, at] = found
            records.evaluated[k, at] = True
            records.made[k] = last
        for key, values in marks_of(records, number).items():
            for found in store.found(key):
                for run, step in found.items():
                    k = row.get((run_key(runs[int(run)][0]), runs[int(run)][1]))
                    if k is not None:
                        values[k] = max(values[k], step)
    if whole:
        records.fill(whole["steps"], whole["evaluations"])
    return Outcome(
        text=strategy["text"],
        points=[point for point, _ in wanted],
        seeds=[seed for _, seed in wanted],
        records=records,
        costs=next(iter(store.found(f"costs/{name}")), {}),
        seconds=max(store.found(f"seconds/{name}"), default=0.0),
        compile_seconds=sum(c["choice"]["compile_seconds"] for c in cohorts.values()),
        execution=_execution(cohorts),
    )


def marks_of(records: Records, cohort: int) -> dict[str, Int[np.ndarray, " runs"]]:
    """What is saved of the calls of `on_evaluation`, by the keys of its documents."""
    return {
        f"reported/{cohort}": records.reported,
        f"stopped/{cohort}": records.stopped_at,
    }


def _execution(cohorts: Mapping[int, Any]) -> Any:
    choices = [cohort["choice"] for cohort in cohorts.values()]
    return choices[0] if len(choices) == 1 else choices


def run_key(point: Point) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(point.items()))


def cohort_runs(strategy: Mapping[str, Any], cohort: Any) -> list[tuple[Point, int]]:
    """Point and seed of each run of a cohort."""
    points = [point["values"] for point in strategy["points"]]
    return [(points[k], seed) for k, seed in cohort["runs"]]


def attributes_of(study: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a dataset, from the document of a study."""
    found = {
        "problem": study["text"],
        "steps": study["steps"],
        "versions": json.dumps(study["versions"][-1]),
    }
    if len(study["versions"]) > 1:
        found["versions_before"] = json.dumps(study["versions"][:-1])
    return found


def load_study(folder: str | os.PathLike) -> xr.Dataset:
    """Load the study in a folder: all its runs, finished or not.

    Nothing is compiled and the problem is not needed: a study can be loaded on another
    machine, under other versions of everything, from a read-only disk, and while it runs.

    ```python
    data = curvopt.load_study("results/rates")
    print(data.train_loss.isel(evaluation_step=-1).mean("seed"))
    ```

    **Arguments:**

    - `folder`: the `folder` of [`curvopt.run_study`][] or [`curvopt.train`][].

    **Returns:**

    The dataset of [`curvopt.run_study`][], for all strategies, values and seeds in the
    folder; `steps_made` is how many steps each run has made, 0 where there is no run.
    That of `train` has the strategy `train` and the seed 0.

    **Raises:**

    [`curvopt.StudyError`][] if the folder has no study, or if the study has another format
    or is damaged.
    """
    with Store(folder) as store:
        study = store.study
        strategies, cohorts = store.strategies(), store.cohorts()
        if study is None or not cohorts:
            raise StudyError(f"the study in {store.path} has no runs yet.")
        outcomes, seeds = {}, dict[int, None]()
        for name, strategy in strategies.items():
            own = {k: c for k, c in cohorts.items() if c["strategy"] == name}
            runs = [run for cohort in own.values() for run in cohort_runs(strategy, cohort)]
            seeds |= dict.fromkeys(seed for _, seed in runs)
            schedule = np.array(study["schedule"])
            outcome = outcome_of(store, name, strategy, own, runs, study["steps"], schedule)
            if outcome.records.steps:
                outcomes[name] = outcome
        if not outcomes:
            raise StudyError(f"the study in {store.path} has no records yet.")
        return dataset(outcomes, list(seeds), attributes_of(study))


class LoadedRun(eqx.Module):
    """What [`curvopt.load_run`][] returns.

    **Attributes:**

    - `params`, `model_state`: the parameters and the model's state after the last saved
        step; if the solver has an average, that of the parameters.
    - `history`: an `xarray.Dataset` with dimension `step`, and `evaluation_step` for the
        problem's metrics; its coordinates say which run it is.
    """

    params: PyTree[Array]
    model_state: PyTree
    history: xr.Dataset = eqx.field(static=True)


def load_run(
    folder: str | os.PathLike,
    *,
    strategy: str | None = None,
    seed: int | None = None,
    best: str | None = None,
    lower_is_better: bool = True,
    problem: AbstractProblem | None = None,
    **hyperparameters: float,
) -> LoadedRun:
    """Load the parameters and the model's state of one run of a study.

    ```python
    run = curvopt.load_run("results/rates", strategy="SGD", seed=3, learning_rate=0.1)
    best = curvopt.load_run("results/rates", best="test_loss", problem=problem)
    model = eqx.combine(best.params, static)
    ```

    **Arguments:**

    - `folder`: the `folder` of [`curvopt.run_study`][] or [`curvopt.train`][].
    - `strategy`, `seed`, `hyperparameters`: which run. It is enough to give those that
        leave a single run.
    - `best`: a metric; it picks the run with the best final value among those left. A run
        that diverged counts as its value at the start.
    - `lower_is_better`: whether the best value is the lowest.
    - `problem`: the problem that was trained on. With it the parameters are the pytree that
        its `init` returns; without it, nested dictionaries and lists of the same arrays.

    **Returns:**

    A [`curvopt.LoadedRun`][].

    **Raises:**

    `ValueError` if there is no such run, or more than one; [`curvopt.StudyError`][] as
    [`curvopt.load_study`][].
    """
    if problem is not None:
        check_instance("problem", problem, AbstractProblem)
    data = load_study(folder)
    asked = {"strategy": strategy, "seed": seed, **hyperparameters}
    at = _which(data, {k: x for k, x in asked.items() if x is not None})
    if best is not None:
        final = final_metric(data, best)
        final = final.where(at)
        values = final if lower_is_better else -final
        if not bool(np.isfinite(values).any()):
            raise ValueError(
                f"none of the runs left has a finite {best!r}. Choose another metric as "
                "`best`, or other runs."
            )
        at = _first(at & (values == values.min()))
    chosen = np.argwhere(at.values)
    if len(chosen) != 1:
        which = (
            ", ".join(f"{k}={x!r}" for k, x in asked.items() if x is not None) or "nothing"
        )
        raise ValueError(
            f"{which} leaves {len(chosen)} runs. There are: {_listed(data)}. Name a single "
            "run, or give a metric as `best`."
        )
    history = data.isel(dict(zip(at.dims, map(int, chosen[0]))))
    name, own = str(history.strategy.item()), int(history.seed.item())
    with Store(folder) as store:
        document, layout = (
            store.strategies()[name],
            store.found(f"layout/{name}")[0]["lane"],
        )
        point = {k: float(history[k].item()) for k in document["points"][0]["values"]}
        (at_cohort, at_run) = next(
            (number, run)
            for number, cohort in store.cohorts().items()
            if cohort["strategy"] == name
            for run, (values, run_seed) in enumerate(cohort_runs(document, cohort))
            if run_seed == own and run_key(values) == run_key(point)
        )
        arrays = answered(layout, unpacked(layout, store.state(at_cohort, at_run)))
    lane = lane_tree(layout, arrays)
    params, state = lane["params"], lane.get("model_state")
    if problem is not None:
        params, state = start_like(problem, layout, arrays)
    return LoadedRun(params, state, history)


def _which(data: xr.Dataset, asked: Mapping[str, Any]) -> xr.DataArray:
    """Which runs match the request, each marked once."""
    at = data.steps_made > 0
    hyperparameters = [
        str(k) for k in data.steps_made.dims if k not in ("strategy", "seed")
    ]
    own = json.loads(data.attrs["hyperparameters"])
    for k, name in enumerate(data.strategy.values.tolist()):
        for knob in hyperparameters:
            if knob not in own[name]:  # the same run at all its values: keep the first
                first = data[knob] == data[knob][0]
                at = at & (first | (data.strategy != data.strategy[k]))
    for name, value in asked.items():
        if name not in at.dims:
            raise ValueError(
                f"the study has no hyper-parameter {name!r}; there are: "
                f"{', '.join(hyperparameters) or 'none'}."
            )
        near = data[name] == value
        if not isinstance(value, str):  # a value that was stored may be rounded to float32
            near = xr.apply_ufunc(np.isclose, data[name], value, kwargs={"rtol": 1e-6})
        if not bool(near.any()):
            raise ValueError(f"there is no {name} {value!r}; there are: {_listed(data)}.")
        at = at & near
    return at


def _first(at: xr.DataArray) -> xr.DataArray:
    """`at` with only its first true entry kept."""
    values = np.zeros(at.size, bool)
    values[np.flatnonzero(at.values.ravel())[:1]] = True
    return at.copy(data=values.reshape(at.shape))


def _listed(data: xr.Dataset) -> str:
    parts = []
    for dim in data.steps_made.dims:
        values = data[dim].values.tolist()
        shown = ", ".join(map(repr, values[:12])) + (", ..." if len(values) > 12 else "")
        parts.append(f"{dim}: {shown}")
    return "; ".join(parts)
