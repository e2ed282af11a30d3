"""Strategies against their baselines, from a dataset to sentences."""

import xml.etree.ElementTree

import numpy as np
import pytest
import xarray as xr

import curvopt
from curvopt import statistics
from strategies import LearningRate, SGD


pytestmark = pytest.mark.host


SEEDS = 9
START = 2.3


def study(seeds=SEEDS, **ends):
    """What `run_study` returns, as far as `compare` reads it: a start, and these ends."""
    ends = {name: np.broadcast_to(end, (seeds,)) for name, end in ends.items()}
    curves = np.stack([np.stack([np.full(seeds, START), e], -1) for e in ends.values()])
    dims = ("strategy", "seed", "evaluation_step")
    return xr.Dataset(
        {
            "train_loss": (dims, curves),
            "test_accuracy": (dims, 1 - curves / 4),
            "loss": (("strategy", "seed", "step"), np.zeros((len(ends), seeds, 3))),
        },
        coords={"strategy": list(ends), "seed": np.arange(seeds) + 100},
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    base = rng.normal(0.2, 0.02, SEEDS)
    noise = lambda: rng.normal(0, 0.002, SEEDS)
    return study(
        tuned=base,
        better=base - 0.05 + noise(),
        worse=base + 0.05 + noise(),
        alike=base + 10 * noise(),
    )


def test_it_is_the_paired_comparison_of_final_metrics(data):
    ours = curvopt.compare(data, "train_loss", baseline="tuned")
    ends = data.train_loss.isel(evaluation_step=-1)
    expected = statistics.compare_paired(
        {
            name: (ends.sel(strategy=name).values, ends.sel(strategy="tuned").values)
            for name in ("better", "worse", "alike")
        }
    )
    assert ours.pairs == expected
    assert ours.baseline == dict.fromkeys(expected, "tuned")
    assert ours.diverged == dict.fromkeys(data.strategy.values, 0)
    relative = ours.relative_difference("better")
    assert relative == expected["better"].mean_difference / ours.means["tuned"]
    assert relative == pytest.approx(-0.25, abs=0.02)


def test_sentences(data):
    ours = curvopt.compare(data, "train_loss", baseline="tuned")
    better, worse, alike = ours.sentences()
    assert better.startswith(
        "better ends at a lower train loss (better) than tuned: the difference holds (2"
    )
    assert " % lower: difference -0.0" in better and "95 % interval [-0.0" in better
    assert worse.startswith(
        "worse ends at a higher train loss (worse) than tuned: the difference holds (2"
    )
    assert alike.startswith("alike against tuned: no difference can be claimed (")
    assert str(ours).splitlines() == [
        "Final train loss, paired over 9 seeds: 3 comparisons at level 0.05.",
        *ours.sentences(),
    ]
    assert ours.sentences(markdown=True)[0] == better.replace("better", "**better**", 1)


def test_higher_may_be_better(data):
    ours = curvopt.compare(
        data, "test_accuracy", baseline="tuned", level=0.1, lower_is_better=False
    )
    better, worse, _ = ours.sentences()
    assert "ends at a higher test accuracy (better) than" in better
    assert "ends at a lower test accuracy (worse) than" in worse
    assert "90 % interval" in better
    losses = curvopt.compare(data, "test_accuracy", baseline="tuned", level=0.1)
    assert losses.pairs == ours.pairs
    assert "higher test accuracy (worse)" in losses.sentences()[0]


def test_the_metrics_long_name(data):
    data.train_loss.attrs["long_name"] = "training loss"
    ours = curvopt.compare(data, "train_loss", baseline="tuned")
    assert "lower training loss" in ours.sentences()[0]


def test_a_baseline_for_each(data):
    of = {"better": "tuned", "worse": "alike"}
    ours = curvopt.compare(data, "train_loss", baseline=of)
    assert ours.baseline == of and list(ours.pairs) == list(of)
    assert all(pair.family == 2 for pair in ours.pairs.values())
    assert "than alike: the difference holds" in ours.sentences()[1]
    assert ours.dataset().baseline.values.tolist() == ["tuned", "alike"]


def test_dataset(data, tmp_path):
    ours = curvopt.compare(data, "train_loss", baseline="tuned")
    table = ours.dataset()
    assert set(table.sizes) == {"strategy"}
    assert table.holds.values.tolist() == [True, True, False]
    for name, pair in ours.pairs.items():
        row = table.sel(strategy=name)
        for field in ("mean_difference", "low", "high", "p_value", "p_adjusted"):
            assert float(row[field]) == getattr(pair, field)
        assert float(row.relative_difference) == ours.relative_difference(name)
    assert table.attrs["metric"] == "train_loss"
    assert all("definition" in variable.attrs for variable in table.values())
    table.to_netcdf(tmp_path / "comparison.nc")
    with xr.open_dataset(tmp_path / "comparison.nc") as back:
        xr.testing.assert_identical(back.load(), table)


def test_runs_that_diverged_count_as_their_start():
    ends = np.full(SEEDS, 0.1)
    ends[[1, 4]] = np.nan, np.inf
    data = study(tuned=np.linspace(0.2, 0.3, SEEDS), wild=ends)
    ours = curvopt.compare(data, "train_loss", baseline="tuned")
    expected = (np.array([0.1] * 7 + [START] * 2)).mean() - 0.25
    assert ours.pairs["wild"].mean_difference == pytest.approx(expected)
    assert ours.diverged == {"tuned": 0, "wild": 2}
    assert ours.sentences()[0].endswith("; diverged: 2 of its 9 runs, 0 of the baseline's.")
    other = curvopt.compare(data, "train_loss", baseline="wild")
    assert other.sentences()[0].endswith(
        "; diverged: 0 of its 9 runs, 2 of the baseline's."
    )
    table = other.dataset()
    assert (int(table.diverged[0]), int(table.baseline_diverged[0])) == (0, 2)


def test_a_study(poisoned):
    """As a user meets it; from some of the seeds the loss is nan from the start."""
    solvers = {
        name: curvopt.LineSearchMinimiser(SGD(), LearningRate(rate))
        for name, rate in (("slow", 1e-3), ("fast", 1e-1))
    }
    data = curvopt.run_study(poisoned, solvers, seeds=8, steps=4, progress=False)
    ours = curvopt.compare(data, "train_loss", baseline="slow")
    final = curvopt.final_metric(data, "train_loss")
    difference = final.sel(strategy="fast") - final.sel(strategy="slow")
    assert ours.pairs["fast"].mean_difference == pytest.approx(float(difference.mean()))
    lost = ~np.isfinite(data.train_loss.isel(evaluation_step=-1))
    counts = dict(zip(solvers, lost.sum("seed").values.tolist()))
    assert ours.diverged == counts and 0 < counts["slow"] < 8


class TestDegenerateCases:
    def test_too_few_seeds(self):
        data = study(seeds=3, a=0.1, b=0.2)
        (sentence,) = curvopt.compare(data, "train_loss", baseline="b").sentences()
        assert sentence.startswith(
            "a against b: nothing can be claimed from 3 seeds; 8 are needed for "
            "1 comparison ("
        )

    def test_one_seed(self):
        ours = curvopt.compare(study(seeds=1, a=0.1, b=0.2), "train_loss", baseline="b")
        assert "from 1 seed; 8 are needed" in str(ours) and "[-inf, +inf]" in str(ours)
        assert not ours.dataset().holds.any()

    def test_identical_pairs(self):
        ours = curvopt.compare(study(a=0.1, b=0.1), "train_loss", baseline="b")
        assert ours.sentences() == (
            "a against b: no difference can be claimed (difference +0, 95 % interval "
            "[+0, +0], adjusted p = 1).",
        )

    @pytest.mark.parametrize("mean", [0.0, -0.4])
    def test_no_fraction_of_a_mean_that_is_not_positive(self, mean):
        ours = curvopt.compare(study(a=-0.5, b=mean), "train_loss", baseline="b")
        assert ours.relative_difference("a") is None
        assert "the difference holds (difference -" in ours.sentences()[0]
        assert np.isnan(ours.dataset().relative_difference).all()

    def test_a_large_fraction(self):
        ours = curvopt.compare(study(a=2.0, b=0.04), "train_loss", baseline="b")
        assert "(4,900 % higher: difference +1.96," in str(ours)


class TestBadInput:
    def test_unknown_metric(self, data):
        for metric in ("accuracy", "loss"):
            message = f"no metric '{metric}'; there are: train_loss, test_accuracy"
            with pytest.raises(ValueError, match=message):
                curvopt.compare(data, metric, baseline="tuned")

    @pytest.mark.parametrize(
        "baseline", ["tuned!", {"tuned!": "better"}, {"better": "tuned!"}]
    )
    def test_unknown_strategy(self, data, baseline):
        valid = "'tuned!'.*valid are: 'tuned', 'better', 'worse', 'alike'"
        with pytest.raises(ValueError, match=valid):
            curvopt.compare(data, "train_loss", baseline=baseline)

    def test_only_the_baseline(self, data):
        with pytest.raises(ValueError, match="'tuned', the baseline, is the only strategy"):
            one = data.sel(strategy=["tuned"])
            curvopt.compare(one, "train_loss", baseline="tuned")
        with pytest.raises(ValueError, match="baseline is empty.*valid are: 'tuned'"):
            curvopt.compare(data, "train_loss", baseline={})

    def test_its_own_baseline(self, data):
        with pytest.raises(ValueError, match="'tuned' cannot be its own baseline"):
            curvopt.compare(data, "train_loss", baseline={"tuned": "tuned"})

    def test_dimensions_of_hyper_parameters(self, data):
        grid = data.expand_dims(value=[0.1, 1.0])
        message = r"but it has value too. Select first: `data.sel\(value=...\)`"
        with pytest.raises(ValueError, match=message):
            curvopt.compare(grid, "train_loss", baseline="tuned")
        one = curvopt.compare(grid.sel(value=0.1), "train_loss", baseline="tuned")
        assert one == curvopt.compare(data, "train_loss", baseline="tuned")

    @pytest.mark.parametrize("dim, value", [("strategy", "tuned"), ("seed", 100)])
    def test_dimensions_that_were_dropped(self, data, dim, value):
        with pytest.raises(ValueError, match=rf"`data.sel\({dim}=\[...\]\)`"):
            curvopt.compare(data.sel({dim: value}), "train_loss", baseline="tuned")

    def test_a_metric_that_is_not_finite_at_the_start(self, data):
        data = data.copy(deep=True)
        data.train_loss[dict(strategy=1, seed=2)] = np.nan
        with pytest.raises(ValueError, match=r"of 'better' is nan at seed 102.*drop_sel"):
            curvopt.compare(data, "train_loss", baseline="tuned")
        # A strategy that is not compared may be what it is.
        curvopt.compare(data, "train_loss", baseline={"worse": "tuned"})

    def test_level(self, data):
        with pytest.raises(ValueError, match="level must be above 0"):
            curvopt.compare(data, "train_loss", baseline="tuned", level=5.0)

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        "change, match",
        [
            (dict(data=None), "data must be the dataset of a study.*it is None"),
            (dict(data="results.nc"), "'results.nc'. Open a saved one with"),
            (dict(baseline=None), "baseline must be the name.*is None; valid are: 'tuned'"),
            (dict(baseline=["tuned"]), r"\{strategy: baseline\}.*but it is \['tuned'\]"),
            (dict(metric=None), "no metric None; there are: train_loss"),
            (dict(level="x"), "level must be above 0.*'x'"),
            (dict(lower_is_better="no"), "lower_is_better must be True or False"),
        ],
    )
    def test_arguments_of_another_kind(self, data, change, match):
        good = dict(data=data, metric="train_loss", baseline="tuned")
        options = good | change
        with pytest.raises(ValueError, match=match):
            curvopt.compare(options.pop("data"), options.pop("metric"), **options)

    @pytest.mark.usefixtures("unchecked")
    def test_one_variable(self, data):
        with pytest.raises(ValueError, match="is DataArray. Pass all of it"):
            curvopt.compare(data.train_loss, "train_loss", baseline="tuned")


class TestLabels:
    """What counts is what runs are called, whatever was done to the dataset before."""

    def test_a_run_that_is_there_twice_is_not_two(self, data):
        twice = xr.concat([data, data.isel(seed=[0, 1])], "seed", data_vars="all")
        message = "labels of 'seed' in data must be distinct, but these repeat: 100, 101"
        with pytest.raises(ValueError, match=message):
            curvopt.compare(twice, "train_loss", baseline="tuned")
        ours = curvopt.compare(
            twice.drop_duplicates("seed"), "train_loss", baseline="tuned"
        )
        assert ours == curvopt.compare(data, "train_loss", baseline="tuned")
        strategies = data.isel(strategy=[0, 1, 1])
        with pytest.raises(ValueError, match="these repeat: better"):
            curvopt.compare(strategies, "train_loss", baseline="tuned")

    def test_order_of_dimensions_seeds_and_time(self, data):
        expected = curvopt.compare(data, "train_loss", baseline="tuned")
        backwards = data.assign_coords(evaluation_step=[0, 3])
        backwards = backwards.isel(evaluation_step=[1, 0])
        for same in (data.transpose("evaluation_step", "seed", ...), backwards):
            assert curvopt.compare(same, "train_loss", baseline="tuned") == expected

    def test_studies_that_are_joined(self, data):
        """Other seeds are more seeds; of other strategies they are none to pair."""
        parts = data.isel(seed=slice(4)), data.isel(seed=slice(4, None))
        joined = xr.concat(parts, "seed", data_vars="all")
        expected = curvopt.compare(data, "train_loss", baseline="tuned")
        assert curvopt.compare(joined, "train_loss", baseline="tuned") == expected
        apart = xr.concat(
            [parts[0].isel(strategy=[0]), data.isel(strategy=[1, 2])],
            "strategy",
            join="outer",
            data_vars="all",
        )
        message = r"'tuned' was not run from seed 104.*sel\(seed=\[100, 101, 102, 103\]\)"
        with pytest.raises(ValueError, match=message):
            curvopt.compare(apart, "train_loss", baseline="tuned")


class TestNames:
    UGLY = "![x](y) | <b>_a_</b>"

    @pytest.fixture
    def ours(self, data):
        names = [self.UGLY, "two\nlines", "$x", "d"]
        named = data.assign_coords(strategy=names)
        named.train_loss.attrs["long_name"] = "loss | _total_"
        return curvopt.compare(named, "train_loss", baseline=self.UGLY)

    def test_sentences_have_one_line(self, ours):
        assert len(str(ours).splitlines()) == 4
        first = ours.sentences()[0]
        assert first.startswith(
            "'two\\nlines' ends at a lower loss | _total_ (better) than ![x]"
        )
        first = ours.sentences(markdown=True)[0]
        assert first.startswith(r"**'two\\nlines'** ends at a lower loss \| \_total\_")
        assert r"than !\[x\](y) \| \<b>\_a\_\</b>:" in first

    def test_tables_in_notebooks(self, ours):
        table = xml.etree.ElementTree.fromstring(ours._repr_html_())
        header, *rows = [[cell.text for cell in row] for row in table.iter("tr")]
        assert [row[0] for row in rows] == ["'two\\nlines'", "$x", "d"]
        assert [row[1] for row in rows] == [self.UGLY] * 3
        verdicts = [row[header.index("verdict")] for row in rows]
        assert verdicts == ["better", "worse", "no difference can be claimed"]
        pair = ours.pairs["$x"]
        assert rows[1][header.index("difference")] == f"{pair.mean_difference:+.4g}"
        lines = ours._repr_markdown_().splitlines()
        assert len(lines) == 2 + 2 + 3 and r"\$x" in lines[5]
        few = curvopt.compare(study(seeds=3, a=0.1, b=0.2), "train_loss", baseline="b")
        assert "too few seeds: 8 are needed" in few._repr_html_()
