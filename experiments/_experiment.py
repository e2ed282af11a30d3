"""An experiment: what every door makes, and all that follows reads."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree

import curvopt

from ._names import UsageError
from ._outline import Asked, Outline


# Seeds of tuning are drawn from here on, those that are reported are below.
FIRST_TUNING_SEED = 1_000_000


def seed_list(seeds: int | Sequence[int], first: int = 0) -> list[int]:
    """Seeds one by one: of a number, so many from the first one on.

    **Raises:**

    `UsageError` if there are more than could be told from those of tuning.
    """
    if not isinstance(seeds, int):
        return list(seeds)
    if not 1 <= seeds <= FIRST_TUNING_SEED:
        raise UsageError(
            f"seeds must be at least 1 and at most {FIRST_TUNING_SEED:,}, but they are "
            f"{seeds}."
        )
    return list(range(first, first + seeds))


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A strategy that is to be found: the best point of its families, on seeds of its own.

    **Attributes:**

    - `families`: by what tells them apart, such as a schedule.
    - `seeds`: from which they are tried.
    """

    families: Mapping[str, curvopt.Family]
    seeds: Sequence[int]

    def candidates(self, name: str) -> dict[str, curvopt.Family]:
        """What they are called in the study of the tuning."""
        return {f"{name}, {kind}": family for kind, family in self.families.items()}


Strategy = curvopt.LineSearchMinimiser | curvopt.Family | Tuned


def _first(family: curvopt.Family) -> curvopt.LineSearchMinimiser:
    return family.make(**{k: jnp.asarray(x[0]) for k, x in family.values.items()})


def _check_step(
    problem: curvopt.AbstractProblem, name: str, solver: curvopt.LineSearchMinimiser
) -> None:
    """Let a strategy make a step, on shapes alone: what only problem and strategy together
    can get wrong, such as a curvature that the loss does not allow."""

    def step(key: PyTree, count: PyTree) -> PyTree:
        params, model_state = problem.init(key)
        state = solver.init_strategy(params, key)
        args = problem.batch(key, count), model_state, key
        return solver.update(problem.loss, params, args, count, state)[0]

    try:
        eqx.filter_eval_shape(step, jr.key(0), jnp.array(0, jnp.int32))
    except ValueError as error:
        raise UsageError(
            f"the strategy {name!r} cannot make a step on the problem: {error}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Strategies, some of which are tuned first, compared on a problem. A value: everything
    in it is checked when it is made, and nothing is compiled for that.

    **Attributes:**

    - `problem`: what is trained.
    - `strategies`: by name, solvers, families of them, and what is tuned.
    - `seeds`, `steps`, `evaluations`: as in [`curvopt.Study`][].
    - `outline`: how the answer is to be read.
    - `execution`: how runs are made.

    **Raises:**

    `ValueError` naming what cannot be run, its value and the remedy.
    """

    problem: curvopt.AbstractProblem
    strategies: Mapping[str, Strategy]
    seeds: Sequence[int]
    steps: int
    evaluations: int
    outline: Outline
    execution: curvopt.Execution = curvopt.Execution()

    @functools.cached_property
    def tunings(self) -> list[curvopt.Study]:
        """What is tried: one study for each choice of seeds."""
        by_seeds: dict[tuple[int, ...], dict[str, Any]] = {}
        for name, tuned in self._tuned.items():
            by_seeds.setdefault(tuple(tuned.seeds), {}).update(tuned.candidates(name))
        return [
            curvopt.Study(
                self.problem, candidates, seeds=seeds, steps=self.steps, evaluations=1
            )
            for seeds, candidates in by_seeds.items()
        ]

    @property
    def _tuned(self) -> dict[str, Tuned]:
        return {name: x for name, x in self.strategies.items() if isinstance(x, Tuned)}

    def found(self, name: str, best: curvopt.BestPoint) -> curvopt.LineSearchMinimiser:
        """The solver at the best point of what was tuned."""
        family = self._tuned[name].candidates(name)[best.strategy]
        return family.make(**{k: jnp.asarray(x) for k, x in best.values.items()})

    def study(self, found: Mapping[str, curvopt.LineSearchMinimiser]) -> curvopt.Study:
        """What is reported, with what was found for each strategy that is tuned."""
        return curvopt.Study(
            self.problem,
            {**self.strategies, **found},
            seeds=self.seeds,
            steps=self.steps,
            evaluations=self.evaluations,
        )

    def asked(self) -> Outline:
        """The outline, with the runs that are asked for."""

        def grid(x: Strategy) -> dict[str, list[float]]:
            own = x.values.items() if isinstance(x, curvopt.Family) else ()
            return {name: list(values) for name, values in own}

        def runs(strategies: Mapping[str, Strategy], seeds: Sequence[int]) -> Asked:
            return Asked({name: grid(x) for name, x in strategies.items()}, list(seeds))

        return dataclasses.replace(
            self.outline,
            runs=runs(self.strategies, self.seeds),
            tuned={n: runs(x.candidates(n), x.seeds) for n, x in self._tuned.items()},
        )

    def __post_init__(self) -> None:
        self._check_baseline()
        for name, tuned in self._tuned.items():
            both = sorted(set(self.seeds) & set(tuned.seeds))
            if both:
                raise UsageError(
                    f"seeds that are reported must not be tuned on, but {both} of "
                    f"{name!r} are. Take others, or a number, for so many from "
                    f"{FIRST_TUNING_SEED:,} on."
                )
        standing_in = {
            name: _first(next(iter(tuned.families.values())))
            for name, tuned in self._tuned.items()
        }
        study = self.study(standing_in)
        params, state = eqx.filter_eval_shape(study.problem.init, jr.key(0))
        metrics: Any = eqx.filter_eval_shape(study.problem.evaluate, params, state)
        if self.outline.metric not in metrics:
            raise UsageError(
                f"metric: unknown metric {self.outline.metric!r}; the problem's are: "
                f"{', '.join(metrics)}."
            )
        for one in (*self.tunings, study):
            for name, x in one.strategies.items():
                solver = _first(x) if isinstance(x, curvopt.Family) else x
                if one is not study or name not in standing_in:
                    _check_step(one.problem, name, solver)

    def _check_baseline(self) -> None:
        baseline, names = self.outline.baseline, list(self.strategies)
        if baseline is None:
            return
        own = isinstance(baseline, str)
        of = {n: baseline for n in names if n != baseline} if own else baseline
        pairs = [baseline] if own else [x for pair in of.items() for x in pair]
        for name in pairs:
            if name not in names:
                raise UsageError(
                    f"baseline: unknown strategy {name!r}; valid are: "
                    f"{', '.join(map(repr, names))}."
                )
        if not of:
            what = f"{baseline!r} is the only strategy" if own else "the table is empty"
            raise UsageError(
                f"baseline: {what}, so that there is nothing to compare. Leave it out, or "
                "write another strategy."
            )
        for name, rival in of.items():
            if name == rival:
                raise UsageError(f"baseline: {name!r} cannot be its own baseline.")
            for one in (name, rival):
                if isinstance(self.strategies[one], curvopt.Family):
                    raise UsageError(
                        f"baseline: with hyperparameters nothing is compared, because the "
                        f"best point of {one!r} is chosen on the seeds that are reported. "
                        "Leave it out of the baseline, or write it without hyperparameters."
                    )
