import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

import curvopt

from .._experiment import FIRST_TUNING_SEED
from ._families import Family, KINDS, raw, schedule
from ._settings import Setting


_QUICK_STEPS = 12


@dataclasses.dataclass(frozen=True)
class Bench:
    """One setting, ready to run. All questions share its runs.

    **Attributes:**

    - `name`, `setting`: the setting and its name.
    - `problem`: its problem, with the distance travelled as a further metric.
    - `folder`: the folder in which runs are saved.
    - `quick`: whether to run a few steps only, as a smoke test.
    """

    name: str
    setting: Setting
    problem: curvopt.AbstractProblem
    folder: Path
    quick: bool

    @property
    def steps(self) -> int:
        return _QUICK_STEPS if self.quick else self.setting.steps

    @property
    def seeds(self) -> int:
        """The number of reported seeds."""
        return 2 if self.quick else 12

    @property
    def tuning_seeds(self) -> list[int]:
        """The seeds on which values are tried."""
        number = 1 if self.quick else self.setting.tuning_seeds
        return [FIRST_TUNING_SEED + k for k in range(number)]

    def schedule(self, kind: str):
        """A schedule over the run, by kind."""
        return schedule(kind, self.steps)

    def _run(self, study: str, strategies: Mapping, steps: int | None, **options):
        return curvopt.run_study(
            self.problem,
            strategies,
            steps=self.steps if steps is None else min(steps, self.steps),
            evaluations=2 if self.quick else self.setting.evaluations,
            folder=self.folder / study,
            **options,
        )

    def sweep(
        self,
        study: str,
        families: Mapping[str, Family | curvopt.Family],
        grid: Mapping[str, Sequence[float]] | None = None,
        steps: int | None = None,
    ) -> xr.Dataset:
        """Run families of strategies at all values of their hyper-parameters, on the tuning
        seeds.

        **Arguments:**

        - `study`: the name of the folder for the runs. Runs that another question saved
            there are not made again.
        - `families`: functions of the hyper-parameters, or families with values of their
            own, by name.
        - `grid`: the hyper-parameters' names and values, for the functions.
        - `steps`: a number of steps below the setting's.

        **Returns:**

        The dataset of [`curvopt.run_study`][].
        """
        given = {}
        for name, family in families.items():
            own = isinstance(family, curvopt.Family)
            make, values = (family.make, family.values) if own else (family, grid or {})
            if self.quick:  # a few of them
                values = {k: list(x)[min(2, len(x) - 1) :: 4] for k, x in values.items()}
            given[name] = curvopt.Family(make, **values)
        return self._run(study, given, steps, seeds=self.tuning_seeds)

    def compare(
        self,
        study: str,
        strategies: Mapping[str, curvopt.LineSearchMinimiser],
        steps: int | None = None,
        seeds: int | Sequence[int] | None = None,
    ) -> xr.Dataset:
        """Run strategies, by default on the reported seeds; returns the dataset of
        [`curvopt.run_study`][]."""
        seeds = self.seeds if seeds is None else seeds
        return self._run(study, strategies, steps, seeds=seeds)

    def rates(
        self,
        direction: str,
        which: curvopt.AbstractDirection,
        values: Sequence[float],
        kinds: Sequence[str] = KINDS,
    ) -> xr.Dataset:
        """Run a direction at raw learning rates, constant and under a cosine."""
        families = {kind: raw(which, self.schedule(kind)) for kind in kinds}
        return self.sweep(f"rates-{direction}", families, {"learning_rate": values})

    def outcomes(self, data: xr.Dataset) -> xr.Dataset:
        """The outcomes of runs: the final metrics (the initial ones if a run diverged),
        whether it diverged, and its cost."""
        evaluated = [str(k) for k, v in data.items() if "evaluation_step" in v.dims]
        final = {name: curvopt.final_metric(data, name) for name in evaluated}
        start = data[self.setting.metric].isel(evaluation_step=0, drop=True)
        spent = data.gradient_equivalents.isel(step=-1)
        out = xr.Dataset(
            {
                **final,
                "start": start,
                "diverged": data.diverged_at >= 0,
                "gradient_equivalents": spent,
            }
        ).drop_vars(["evaluation_step", "step"], errors="ignore")
        kept = {k: v.astype(np.float32) for k, v in out.items() if v.dtype == np.float64}
        return out.assign(kept).assign_attrs({})
