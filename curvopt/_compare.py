"""Compares strategies with their baselines, and states which differences can be claimed."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from ._names import html_table, in_markdown, markdown_table, shown
from ._runs import as_study, check_dimensions, was_run
from ._study import ended_well, final_metric
from .statistics import compare_paired, PairedComparison, seeds_needed
from .statistics._samples import check_flag, check_fraction, mean


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


def _interval(pair: PairedComparison) -> str:
    return f"[{pair.low:+.4g}, {pair.high:+.4g}]"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A family of strategies, each against its baseline, over the same seeds.

    **Attributes:**

    - `metric`: the metric compared, at the end of the runs.
    - `pairs`: a [`curvopt.statistics.PairedComparison`][] for each strategy.
    - `baseline`: the baseline of each strategy.
    - `means`: the metric's mean over seeds, for each strategy and baseline; a run that
        diverged counts as its value at the start.
    - `diverged`: how many runs diverged, for each strategy and baseline.
    - `seeds`: how many seeds each was run from.
    - `level`: the significance level of the family.
    - `lower_is_better`: whether a lower metric is better.
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
        """The mean difference over the baseline's mean; `None` if that mean is not
        positive, where a fraction has no meaning, or if the fraction overflows."""
        reference = self.means[self.baseline[strategy]]
        if reference <= 0:
            return None
        fraction = self.pairs[strategy].mean_difference / reference
        return fraction if math.isfinite(fraction) else None

    def sentences(self, *, markdown: bool = False) -> tuple[str, ...]:
        """One sentence for each strategy, in the order of `pairs`: its metric is lower or
        higher than the baseline's, no difference can be claimed, or there are too few seeds
        (and how many are needed).

        **Arguments:**

        - `markdown`: whether to write Markdown, with the strategies in bold.
        """
        if markdown:
            return tuple(
                self._sentence(name, f"**{in_markdown(name)}**", in_markdown)
                for name in self.pairs
            )
        return tuple(self._sentence(name, shown(name), shown) for name in self.pairs)

    def _sentence(self, name: str, subject: str, text: Callable[[str], str]) -> str:
        pair, rival = self.pairs[name], text(self.baseline[name])
        facts = f"({self._facts(name)}){self._diverged(name)}."
        if not pair.enough_seeds:
            needed = seeds_needed(pair.family, pair.level)
            return (
                f"{subject} against {rival}: nothing can be claimed from "
                f"{_counted(pair.seeds, 'seed')}; {needed} are needed for "
                f"{_counted(pair.family, 'comparison')} {facts}"
            )
        if not pair.holds:
            return f"{subject} against {rival}: no difference can be claimed {facts}"
        lower = pair.mean_difference < 0
        return (
            f"{subject} ends at a {'lower' if lower else 'higher'} {text(self.label)} "
            f"({'better' if lower == self.lower_is_better else 'worse'}) than {rival}: the "
            f"difference holds {facts}"
        )

    @property
    def _confidence(self) -> str:
        return f"{100 * (1 - self.level):g} %"

    def _facts(self, name: str) -> str:
        pair, relative = self.pairs[name], self._relative(name)
        facts = (
            f"difference {pair.mean_difference:+.4g}, {self._confidence} interval "
            f"{_interval(pair)}, adjusted p = {pair.p_adjusted:.3g}"
        )
        return f"{relative}: {facts}" if relative else facts

    def _relative(self, name: str) -> str:
        relative = self.relative_difference(name)
        if not relative:
            return ""
        percent = 100 * abs(relative)
        size = f"{percent:,.0f}" if 100 <= percent < 1e9 else f"{percent:.3g}"
        return f"{size} % {'lower' if relative < 0 else 'higher'}"

    def _diverged(self, name: str) -> str:
        mine, rivals = self.diverged[name], self.diverged[self.baseline[name]]
        if not mine and not rivals:
            return ""
        return (
            f"; diverged: {mine} of its {_counted(self.seeds, 'run')}, {rivals} of the "
            "baseline's"
        )

    def _heading(self, text: Callable[[str], str]) -> str:
        return (
            f"Final {text(self.label)}, paired over {_counted(self.seeds, 'seed')}: "
            f"{_counted(len(self.pairs), 'comparison')} at level {self.level:g}."
        )

    def __str__(self) -> str:
        return "\n".join([self._heading(shown), *self.sentences()])

    def _rows(self) -> list[list[str]]:
        """The table that notebooks show: a header, and a row for each strategy."""
        rows = [
            [
                "strategy",
                "baseline",
                "verdict",
                "difference",
                f"{self._confidence} interval",
                "of the baseline",
                "adjusted p",
                "diverged",
                "its baseline's",
            ]
        ]
        for name, pair in self.pairs.items():
            rows.append(
                [
                    name,
                    self.baseline[name],
                    self._verdict(pair),
                    f"{pair.mean_difference:+.4g}",
                    _interval(pair),
                    self._relative(name) or "–",
                    f"{pair.p_adjusted:.3g}",
                    f"{self.diverged[name]} of {self.seeds}",
                    f"{self.diverged[self.baseline[name]]} of {self.seeds}",
                ]
            )
        return rows

    def _verdict(self, pair: PairedComparison) -> str:
        if not pair.enough_seeds:
            return f"too few seeds: {seeds_needed(pair.family, pair.level)} are needed"
        if not pair.holds:
            return "no difference can be claimed"
        return "better" if (pair.mean_difference < 0) == self.lower_is_better else "worse"

    def _repr_markdown_(self) -> str:
        return f"{self._heading(in_markdown)}\n\n{markdown_table(self._rows())}\n"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), self._heading(shown))

    def dataset(self) -> xr.Dataset:
        """The comparison as labelled arrays over the dimension `strategy`, with `baseline`
        as a coordinate and the definitions as attributes."""
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


def _baselines(names: list[str], baseline: str | Mapping[str, str]) -> dict[str, str]:
    """The baseline of each strategy to compare."""
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
    if not isinstance(baseline, Mapping):
        raise ValueError(
            "baseline must be the name of a strategy, or a baseline for each strategy, "
            f"`{{strategy: baseline}}`, but it is {baseline!r}; {valid}"
        )
    of = dict(baseline)
    if not of:
        raise ValueError(
            "there is nothing to compare: baseline is empty. Give each strategy to compare "
            f"its baseline, `{{strategy: baseline}}`; {valid}"
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


def _check_runs(data: xr.Dataset, names: list[str]) -> None:
    """Raise if one of a pair was not run, as in joined studies of different seeds."""
    ran = was_run(data).sel(strategy=names).transpose("strategy", "seed")
    for name, row in zip(names, ran.values):
        if not row.all():
            seeds = data.seed.values
            both = seeds[ran.values.all(axis=0)].tolist()
            remedy = (
                f"Select those: `data.sel(seed={both[:8]})`" if both else "There are none"
            )
            raise ValueError(
                f"{name!r} was not run from seed {seeds[~row][0]}: pairs need seeds from "
                f"which every compared strategy was run. {remedy}."
            )


def compare(
    data: xr.Dataset,
    metric: str,
    *,
    baseline: str | Mapping[str, str],
    level: float = 0.05,
    lower_is_better: bool = True,
) -> Comparison:
    """Compare strategies with their baselines by a final metric, paired by seed.

    ```python
    data = curvopt.run_study(problem, {"tuned": ..., "rescaled": ...}, seeds=8, steps=600)
    print(curvopt.compare(data, "train_loss", baseline="tuned"))
    ```

    All comparisons are one family. A difference is claimed if the BCa interval excludes
    zero, the p-value of the sign-flip test, adjusted by Holm, is below the level, and there
    are enough seeds. A run that diverged counts as its value at the start.

    **Arguments:**

    - `data`: a dataset of [`curvopt.run_study`][]; if it has dimensions of
        hyper-parameters, select one value of each first.
    - `metric`: one of the metrics of the problem's `evaluate`.
    - `baseline`: the strategy that all others are compared with; or a mapping from each
        strategy to compare to its baseline.
    - `level`: the significance level of the family; the intervals have confidence
        `1 - level`.
    - `lower_is_better`: whether a lower metric is better. It changes no number, only which
        of lower and higher is called better.

    **Returns:**

    A [`curvopt.Comparison`][].

    **Raises:**

    `ValueError` if there is no such metric or strategy (it names the valid ones), if there
    is no strategy but the baseline, if there are dimensions besides strategy and seed, if a
    seed or strategy repeats, or if a run's metric is not finite even at the start.
    """
    check_fraction("level", level)
    check_flag("lower_is_better", lower_is_better)
    data = as_study(data)
    final = final_metric(data, metric)
    check_dimensions(data, metric, "evaluation_step")
    names = list(map(str, data.strategy.values))
    of = _baselines(names, baseline)
    final = final.transpose("strategy", "seed")
    values = dict(zip(names, np.asarray(final.values, dtype=float)))
    well = ended_well(data, metric).transpose("strategy", "seed").values
    diverged = dict(zip(names, np.count_nonzero(~well, axis=1)))
    compared = {*of, *of.values()}
    _check_runs(data, [name for name in names if name in compared])
    for name in names:
        wrong = np.flatnonzero(~np.isfinite(values[name]))
        if name in compared and len(wrong):
            seed = final.seed.values[wrong[0]]
            raise ValueError(
                f"{metric!r} of {name!r} is {values[name][wrong[0]]} at seed {seed}, both "
                "at the end and at the start, so the run cannot count as its value at the "
                "start. Choose another metric, or leave out the seed for all strategies: "
                f"`data.drop_sel(seed={seed})`."
            )
    pairs = {name: (values[name], values[rival]) for name, rival in of.items()}
    return Comparison(
        metric=metric,
        pairs=compare_paired(pairs, level),
        baseline=of,
        means={name: mean(values[name]) for name in names if name in compared},
        diverged={name: int(diverged[name]) for name in names if name in compared},
        seeds=final.sizes["seed"],
        level=level,
        lower_is_better=lower_is_better,
        label=str(data[metric].attrs.get("long_name") or metric.replace("_", " ")),
    )
