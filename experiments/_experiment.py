"""An experiment: strategies compared on a problem, some of them tuned first."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree

import curvopt
from curvopt._study import seed_numbers

from ._folder import ResultsFolder
from ._names import UsageError
from ._outline import Asked, NAME, Outline, STUDY, TUNING


# Tuning uses seeds from here on; reported seeds are below it, so that none is in both.
FIRST_TUNING_SEED = 1_000_000

Seeds = int | Sequence[int]


def _listed(seeds: Seeds, first: int) -> list[int]:
    """The seeds as a list; a number stands for that many seeds from `first` on.

    **Raises:**

    `UsageError` if the number is below 1, or would reach the tuning seeds.
    """
    if not isinstance(seeds, int):
        return seed_numbers(seeds)
    if not 1 <= seeds <= FIRST_TUNING_SEED:
        raise UsageError(
            f"seeds must be at least 1 and at most {FIRST_TUNING_SEED:,}, but they are "
            f"{seeds}."
        )
    return list(range(first, first + seeds))


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A strategy to be tuned: the best point of its families, on separate seeds.

    **Attributes:**

    - `families`: the candidates, by a word that distinguishes them, such as a schedule.
    - `seeds`: the tuning seeds; a number stands for that many seeds that are not reported.
    """

    families: Mapping[str, curvopt.Family]
    seeds: Seeds

    def candidates(self, name: str) -> dict[str, curvopt.Family]:
        """The families by their names in the study of the tuning."""
        return {f"{name}, {kind}": family for kind, family in self.families.items()}


Strategy = curvopt.LineSearchMinimiser | curvopt.Family | Tuned


def _at(family: curvopt.Family, point: Mapping[str, float]) -> curvopt.LineSearchMinimiser:
    return family.make(**{name: jnp.asarray(x) for name, x in point.items()})


def _first(family: curvopt.Family) -> curvopt.LineSearchMinimiser:
    return _at(family, {name: values[0] for name, values in family.values.items()})


def _check_step(
    problem: curvopt.AbstractProblem, name: str, solver: curvopt.LineSearchMinimiser
) -> None:
    """Trace one step of a strategy. It fails where problem and strategy do not fit, for
    example where the curvature method cannot differentiate the loss."""

    def step(key: PyTree, count: PyTree) -> PyTree:
        params, model_state = problem.init(key)
        state = solver.init_strategy(params, key)
        args = problem.example_batch(key, count), model_state, key
        return solver.update(problem.loss, params, args, count, state)[0]

    try:
        eqx.filter_eval_shape(step, jr.key(0), jnp.array(0, jnp.int32))
    except ValueError as error:
        raise UsageError(
            f"the strategy {name!r} cannot take a step on the problem: {error}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Strategies compared on a problem, some of them tuned first. Everything is checked at
    construction, without compiling.

    **Attributes:**

    - `problem`: the problem.
    - `strategies`: solvers, families of them, and strategies to be tuned, by name.
    - `seeds`: how many, or which.
    - `steps`, `evaluations`: as in [`curvopt.Study`][].
    - `outline`: what to report and compare.
    - `execution`: how the lanes are run.

    **Raises:**

    `ValueError` naming the field that cannot be run, its value and the remedy.
    """

    problem: curvopt.AbstractProblem
    strategies: Mapping[str, Strategy]
    seeds: Seeds
    steps: int
    evaluations: int
    outline: Outline
    execution: curvopt.Execution = curvopt.Execution()

    @property
    def _tuned(self) -> dict[str, Tuned]:
        return {name: x for name, x in self.strategies.items() if isinstance(x, Tuned)}

    @functools.cached_property
    def _tunings(self) -> list[curvopt.Study]:
        """The studies of the tuning, one for each choice of seeds."""
        by_seeds: dict[tuple[int, ...], dict[str, Any]] = {}
        for name, tuned in self._tuned.items():
            seeds = tuple(_listed(tuned.seeds, FIRST_TUNING_SEED))
            by_seeds.setdefault(seeds, {}).update(tuned.candidates(name))
        return [
            curvopt.Study(
                self.problem, candidates, seeds=seeds, steps=self.steps, evaluations=1
            )
            for seeds, candidates in by_seeds.items()
        ]

    def _study(self, found: dict[str, curvopt.LineSearchMinimiser]) -> curvopt.Study:
        """The reported study, with the solver found for each tuned strategy."""
        others = {n: x for n, x in self.strategies.items() if not isinstance(x, Tuned)}
        ordered = {name: (found | others)[name] for name in self.strategies}
        return curvopt.Study(
            self.problem,
            ordered,
            seeds=_listed(self.seeds, 0),
            steps=self.steps,
            evaluations=self.evaluations,
        )

    def _asked(self) -> Outline:
        """The outline, with the runs that this experiment asks for."""

        def grid(x: Strategy) -> dict[str, list[float]]:
            own = x.values.items() if isinstance(x, curvopt.Family) else ()
            return {name: list(values) for name, values in own}

        def runs(strategies: Mapping[str, Strategy], seeds: Seeds, first: int) -> Asked:
            grids = {name: grid(x) for name, x in strategies.items()}
            return Asked(grids, _listed(seeds, first))

        return dataclasses.replace(
            self.outline,
            runs=runs(self.strategies, self.seeds, 0),
            tuned={
                name: runs(tuned.candidates(name), tuned.seeds, FIRST_TUNING_SEED)
                for name, tuned in self._tuned.items()
            },
        )

    def run(self, folder: Path, *, overwrite: bool = False) -> None:
        """Tune, then run the study. Runs that the folder already has are not made again.

        **Arguments:**

        - `folder`: where the runs are saved.
        - `overwrite`: whether to delete the folder's studies first, and nothing else.

        **Raises:**

        `UsageError` if the folder cannot be written to. [`curvopt.StudyError`][] if it
        holds another study.
        """
        outline = self._asked()
        ResultsFolder(folder)
        if overwrite:
            for part in (TUNING, STUDY):
                curvopt.delete_study(folder / part)
        # Another experiment's outline stays until the studies accept this one's runs: after
        # an error the folder must still be readable.
        if overwrite or not (folder / NAME).exists():
            outline.save(folder)
        found = {}
        try:
            for study in self._tunings:
                runs = study.run(folder / TUNING, execution=self.execution)
                for name, tuned in self._tuned.items():
                    candidates = tuned.candidates(name)
                    if candidates.keys() <= study.strategies.keys():
                        best = curvopt.best_point(
                            runs,
                            outline.metric,
                            list(candidates),
                            lower_is_better=outline.lower_is_better,
                        )
                        found[name] = _at(candidates[best.strategy], best.values)
            self._study(found).run(folder / STUDY, execution=self.execution)
        except curvopt.StudyError as error:
            raise curvopt.StudyError(
                f"{error} (On the command line, --out chooses another folder, and "
                "--overwrite deletes the studies in this one.)"
            ) from error
        outline.save(folder)

    def __post_init__(self) -> None:
        self._check_baseline()
        for name, tuned in self._tuned.items():
            tried = _listed(tuned.seeds, FIRST_TUNING_SEED)
            both = sorted(set(_listed(self.seeds, 0)) & set(tried))
            if both:
                raise UsageError(
                    f"tuning seeds must not be reported, but {both} of {name!r} are. Take "
                    "others, or give their number, for that many seeds from "
                    f"{FIRST_TUNING_SEED:,} on."
                )
        # In place of what tuning will find: for these checks any of a family will do.
        standing_in = {
            name: _first(next(iter(tuned.families.values())))
            for name, tuned in self._tuned.items()
        }
        study = self._study(standing_in)
        params, state = eqx.filter_eval_shape(study.problem.init, jr.key(0))
        metrics: Any = eqx.filter_eval_shape(study.problem.evaluate, params, state)
        if self.outline.metric not in metrics:
            raise UsageError(
                f"metric: unknown metric {self.outline.metric!r}; the problem's are: "
                f"{', '.join(metrics)}."
            )
        for one in (*self._tunings, study):
            for name, x in one.strategies.items():
                solver = _first(x) if isinstance(x, curvopt.Family) else x
                if one is not study or name not in standing_in:
                    _check_step(one.problem, name, solver)

    def _check_baseline(self) -> None:
        baseline, names = self.outline.baseline, list(self.strategies)
        if baseline is None:
            return
        if isinstance(baseline, str):
            rivals = {name: baseline for name in names if name != baseline}
            remedy = f"{baseline!r} is the only strategy"
        else:
            rivals, remedy = baseline, "the table is empty"
        for name in (
            *([baseline] if isinstance(baseline, str) else rivals),
            *rivals.values(),
        ):
            if name not in names:
                raise UsageError(
                    f"baseline: unknown strategy {name!r}; valid are: "
                    f"{', '.join(map(repr, names))}."
                )
        if not rivals:
            raise UsageError(
                f"baseline: {remedy}, so that there is nothing to compare. Remove the "
                "baseline, or add another strategy."
            )
        for name, rival in rivals.items():
            if name == rival:
                raise UsageError(f"baseline: {name!r} cannot be its own baseline.")
            for one in (name, rival):
                if isinstance(self.strategies[one], curvopt.Family):
                    raise UsageError(
                        f"baseline: {one!r} has hyperparameters and cannot be compared, "
                        "because its best point is chosen on the reported seeds. Remove it "
                        "from the baseline, or write it without hyperparameters."
                    )
