"""The strategies of a study against their baselines, with what may be said of it."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import xarray as xr

from ._study import ended_well, final_metric
from .statistics import compare_paired, PairedComparison, seeds_needed


_DEFINITIONS = {
    "mean_difference": "mean over seeds of strategy minus baseline, paired",
    "low": "lower end of the BCa interval of mean_difference",
    "high": "upper end of the BCa interval of mean_difference",
    "relative_difference": (
        "mean_difference over the baseline's mean; nan where that is not positive"
    ),
    "p_value": "two-sided sign-flip test",
    "p_adjusted": "p_value, adjusted by Holm over the family",
    "holds": "whether a difference may be claimed",
    "diverged": "runs of the strategy that diverged; each counts as its value at the start",
    "baseline_diverged": "runs of the baseline that diverged",
}


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A family of strategies, each against its baseline, over the same seeds.

    **Attributes:**

    - `metric`: what is compared, at the end of the runs.
    - `pairs`: a [`curvopt.statistics.PairedComparison`][] for each strategy.
    - `baseline`: of each strategy.
    - `means`: the metric's mean over seeds, of each strategy and each baseline; of runs
        that diverged, the value at the start.
    - `diverged`: how many runs diverged, of each strategy and each baseline.
    - `seeds`: from how many each was run.
    - `level`: of the family's claims.
    - `lower_is_better`: whether the metric is a loss.
    - `label`: the metric in words.
    """

    metric: str
    pairs: dict[str, PairedComparison]
    baseline: dict[str, str]
    means: dict[str, float]
    diverged: dict[str, int]
    seeds: int
    level: float
    lower_is_better: bool
    label: str

    def relative_difference(self, strategy: str) -> float | None:
        """The mean difference over the baseline's mean; `None` where that is not
        positive, so that a fraction of it would mean nothing."""
        reference = self.means[self.baseline[strategy]]
        if reference <= 0:
            return None
        return self.pairs[strategy].mean_difference / reference

    def sentences(self, *, markdown: bool = False) -> tuple[str, ...]:
        """What may be said of each strategy, in the order of `pairs`: that its metric is
        lower or higher than the baseline's, that no difference can be claimed, or that
        there are too few seeds, and how many are needed.

        **Arguments:**

        - `markdown`: whether the strategies are in bold.
        """
        return tuple(
            self._sentence(name, f"**{name}**" if markdown else name) for name in self.pairs
        )

    def _sentence(self, name: str, shown: str) -> str:
        pair, rival = self.pairs[name], self.baseline[name]
        facts = f"({self._facts(name)}){self._diverged(name)}."
        if not pair.enough_seeds:
            needed = seeds_needed(pair.family, pair.level)
            return (
                f"{shown} against {rival}: nothing can be claimed from "
                f"{_counted(pair.seeds, 'seed')}; {needed} are needed for "
                f"{_counted(pair.family, 'comparison')} {facts}"
            )
        if not pair.holds:
            return f"{shown} against {rival}: no difference can be claimed {facts}"
        lower = pair.mean_difference < 0
        return (
            f"{shown} ends at a {'lower' if lower else 'higher'} {self.label} "
            f"({'better' if lower == self.lower_is_better else 'worse'}) than {rival}: the "
            f"difference holds {facts}"
        )

    def _facts(self, name: str) -> str:
        pair, relative = self.pairs[name], self.relative_difference(name)
        confidence = f"{100 * (1 - self.level):g} %"
        facts = (
            f"difference {pair.mean_difference:+.4g}, {confidence} interval "
            f"[{pair.low:+.4g}, {pair.high:+.4g}], adjusted p = {pair.p_adjusted:.3g}"
        )
        if not relative:
            return facts
        percent = 100 * abs(relative)
        size = f"{percent:,.0f}" if percent >= 100 else f"{percent:.3g}"
        return f"{size} % {'lower' if relative < 0 else 'higher'}: {facts}"

    def _diverged(self, name: str) -> str:
        mine, rivals = self.diverged[name], self.diverged[self.baseline[name]]
        if not mine and not rivals:
            return ""
        return (
            f"; diverged: {mine} of its {_counted(self.seeds, 'run')}, {rivals} of the "
            "baseline's"
        )

    def __str__(self) -> str:
        heading = (
            f"Final {self.label}, paired over {_counted(self.seeds, 'seed')}: "
            f"{_counted(len(self.pairs), 'comparison')} at level {self.level:g}."
        )
        return "\n".join([heading, *self.sentences()])

    def dataset(self) -> xr.Dataset:
        """All of it as labelled arrays with the dimension `strategy`, which has the
        coordinate `baseline`; definitions are attributes."""
        pairs = self.pairs.values()
        rivals = [self.baseline[name] for name in self.pairs]
        relative = [self.relative_difference(name) for name in self.pairs]
        values = {
            "mean_difference": [pair.mean_difference for pair in pairs],
            "low": [pair.low for pair in pairs],
            "high": [pair.high for pair in pairs],
            "relative_difference": [np.nan if x is None else x for x in relative],
            "p_value": [pair.p_value for pair in pairs],
            "p_adjusted": [pair.p_adjusted for pair in pairs],
            "holds": [pair.holds for pair in pairs],
            "diverged": [self.diverged[name] for name in self.pairs],
            "baseline_diverged": [self.diverged[rival] for rival in rivals],
        }
        return xr.Dataset(
            {
                name: ("strategy", x, {"definition": _DEFINITIONS[name]})
                for name, x in values.items()
            },
            coords={"strategy": list(self.pairs), "baseline": ("strategy", rivals)},
            attrs={
                "metric": self.metric,
                "seeds": self.seeds,
                "level": self.level,
                "lower_is_better": int(self.lower_is_better),  # netCDF has no booleans
            },
        )


def _final(data: xr.Dataset, metric: str) -> xr.DataArray:
    """The metric at the end of the runs, of dimensions `(strategy, seed)`."""
    final = final_metric(data, metric)
    for dim in ("strategy", "seed"):
        if dim not in final.dims:
            raise ValueError(
                f"{metric!r} must have the dimensions strategy and seed, but it has "
                f"{final.dims}. Keep {dim} as a dimension: select with a list, "
                f"`data.sel({dim}=[...])`."
            )
    further = [str(dim) for dim in final.dims if dim not in ("strategy", "seed")]
    if further:
        choice = ", ".join(f"{dim}=..." for dim in further)
        raise ValueError(
            f"{metric!r} must have the dimensions strategy and seed only, but it has "
            f"{', '.join(further)} too. Select first: `data.sel({choice})`."
        )
    return final.transpose("strategy", "seed")


def _baselines(names: list[str], baseline: str | Mapping[str, str]) -> dict[str, str]:
    """The baseline of each strategy that is to be compared."""
    valid = f"valid are: {', '.join(map(repr, names))}."
    if isinstance(baseline, str):
        if baseline not in names:
            raise ValueError(f"there is no strategy {baseline!r} as baseline; {valid}")
        of = {name: baseline for name in names if name != baseline}
        if not of:
            raise ValueError(
                f"there is nothing to compare: {baseline!r}, the baseline, is the only "
                "strategy. Run another one in the same study."
            )
        return of
    of = dict(baseline)
    if not of:
        raise ValueError(
            "there is nothing to compare: baseline is empty. Give each strategy that is to "
            f"be compared its baseline, `{{strategy: baseline}}`; {valid}"
        )
    for name, rival in of.items():
        for one in (name, rival):
            if one not in names:
                raise ValueError(f"there is no strategy {one!r}; {valid}")
        if name == rival:
            raise ValueError(
                f"{name!r} cannot be its own baseline: leave it out of `baseline`."
            )
    return of


def compare(
    data: xr.Dataset,
    metric: str,
    *,
    baseline: str | Mapping[str, str],
    level: float = 0.05,
    lower_is_better: bool = True,
) -> Comparison:
    """Strategies of a study against their baselines, by a metric at the end of the runs:
    paired by seed, as one family.

    ```python
    data = curvopt.run_study(problem, {"tuned": ..., "rescaled": ...}, seeds=8, steps=600)
    print(curvopt.compare(data, "train_loss", baseline="tuned"))
    ```

    A difference is claimed where the BCa interval leaves out zero, the sign-flip test,
    adjusted by Holm, is below the level, and there are enough seeds. A run that diverged
    counts as its value at the start.

    **Arguments:**

    - `data`: of [`curvopt.run_study`][]; where it has axes of hyper-parameters too, with
        one value of each selected.
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `baseline`: the strategy that all others are compared with; or, by strategy, the one
        that it is compared with, and no others are.
    - `level`: of the family; the intervals have confidence `1 - level`.
    - `lower_is_better`: whether the metric is a loss. It changes no figure, only which of
        lower and higher is called better.

    **Returns:**

    A [`curvopt.Comparison`][].

    **Raises:**

    `ValueError` if there is no such metric or strategy (naming those that there are), no
    strategy but the baseline, further dimensions than strategy and seed, or a run whose
    metric is not finite at the start either.
    """
    final = _final(data, metric)
    names = [str(name) for name in final.strategy.values]
    of = _baselines(names, baseline)
    values = dict(zip(names, np.asarray(final.values, dtype=float)))
    well = ended_well(data, metric).transpose("strategy", "seed").values
    diverged = dict(zip(names, np.count_nonzero(~well, axis=1)))
    compared = {*of, *of.values()}
    for name in names:
        wrong = np.flatnonzero(~np.isfinite(values[name]))
        if name in compared and len(wrong):
            seed = final.seed.values[wrong[0]]
            raise ValueError(
                f"{metric!r} of {name!r} is {values[name][wrong[0]]} at seed {seed}, at "
                "the end and at the start, so that the run cannot count as its value at "
                "the start. Choose another metric, or leave the seed out for all "
                f"strategies: `data.drop_sel(seed={seed})`."
            )
    pairs = {name: (values[name], values[rival]) for name, rival in of.items()}
    return Comparison(
        metric=metric,
        pairs=compare_paired(pairs, level),
        baseline=of,
        means={name: float(values[name].mean()) for name in names if name in compared},
        diverged={name: int(diverged[name]) for name in names if name in compared},
        seeds=final.sizes["seed"],
        level=level,
        lower_is_better=lower_is_better,
        label=data[metric].attrs.get("long_name", metric.replace("_", " ")),
    )
