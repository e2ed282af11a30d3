import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

import curvopt

from ._families import Family, KINDS, raw, schedule
from ._settings import Setting


# Where values are tried the seeds are drawn from here on: never among the reported ones.
_FIRST_TUNING_SEED = 1_000_000

_QUICK_STEPS = 12


@dataclasses.dataclass(frozen=True)
class Bench:
    """One setting, ready to be run on. All questions share what was run on it.

    **Attributes:**

    - `name`, `setting`: which.
    - `problem`: its problem, which tells the distance travelled as well.
    - `folder`: where runs are saved as they go.
    - `quick`: whether it only shows that everything works.
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
        """How many seeds are reported."""
        return 2 if self.quick else 12

    @property
    def tuning_seeds(self) -> list[int]:
        """From which seeds values are tried."""
        number = 1 if self.quick else self.setting.tuning_seeds
        return [_FIRST_TUNING_SEED + k for k in range(number)]

    def schedule(self, kind: str):
        """A schedule over the run, by its kind."""
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
        """Families of strategies at all values of their number, from the tuning seeds.

        **Arguments:**

        - `study`: the name of the folder in which the runs are saved. What another
            question ran there already is not run again.
        - `families`: by name, functions of the number, or families with values of their
            own.
        - `grid`: its name and values, of those that are functions.
        - `steps`: fewer than the setting's, perhaps.

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
    ) -> xr.Dataset:
        """Strategies from the seeds that are reported: the dataset of
        [`curvopt.run_study`][]."""
        return self._run(study, strategies, steps, seeds=self.seeds)

    def rates(
        self, direction: str, which: curvopt.AbstractDirection, values: Sequence[float]
    ) -> xr.Dataset:
        """A direction at raw learning rates, constant and with a cosine."""
        families = {kind: raw(which, self.schedule(kind)) for kind in KINDS}
        return self.sweep(f"rates-{direction}", families, {"learning_rate": values})

    def outcomes(self, data: xr.Dataset) -> xr.Dataset:
        """The outcomes of runs, without their course: the metrics at the end (where a run
        diverged, at the start), whether it diverged, and what it cost."""
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
