"""What is drawn, not how it looks."""

import io
import itertools
import subprocess
import sys

import matplotlib.colors
import numpy as np
import pytest
import xarray as xr

from curvopt import plots, statistics


pytestmark = pytest.mark.host


STEPS, EVALUATIONS = 100, np.arange(5) * 25


@pytest.fixture
def data():
    """Three seeds of each of four strategies. One seed of the second diverges half-way, and
    the fourth diverges at once."""
    rng = np.random.default_rng(0)
    shape = (4, 3, STEPS)
    loss = np.exp(-np.arange(STEPS) / 30) * rng.uniform(0.9, 1.1, shape)
    loss[1, 2, 50:] = np.nan
    loss[3, :, 1:] = np.nan
    measured = np.where(np.arange(4)[:, None, None] % 2 == 0, loss, np.nan)
    accuracy = rng.uniform(0.8, 0.9, size=(4, 3, 5))
    accuracy[3, :, 1:] = 0.1  # that of a network whose outputs are nan
    dims = ("strategy", "seed", "step")
    return xr.Dataset(
        {
            "loss": (dims, loss),
            "step_size": (dims, np.full(shape, 0.3)),
            "gradient_norm": (dims, np.full(shape, np.nan)),
            "slope": (dims, -2 * measured),
            "curvature": (dims, 10 * measured),
            "gradient_equivalents": (dims, np.ones(shape).cumsum(-1) * 1.5),
            "test_accuracy": (("strategy", "seed", "evaluation_step"), accuracy),
            "seconds": ("strategy", [30.0, 60.0, 30.0, 30.0]),
        },
        coords={
            "strategy": ["A, x", "A, y", "B, x", "B, y"],
            "direction": ("strategy", ["A", "A", "B", "B"]),
            "line_search": ("strategy", ["x", "y", "x", "y"]),
            "step": np.arange(STEPS),
            "evaluation_step": EVALUATIONS,
        },
    )


def flat(data):
    return data.drop_vars(["direction", "line_search"])


def lines(ax):
    """The labelled ones."""
    return {
        str(line.get_label()): line
        for line in ax.get_lines()
        if not str(line.get_label()).startswith("_")
    }


def crosses(ax):
    return [line for line in ax.get_lines() if line.get_marker() == "x"]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def beyond(ax):
    return [line for line in ax.get_lines() if line.get_gid() == "beyond"]


def note(figure):
    """What is explained below, on one line."""
    return " ".join(figure.get_supxlabel().split())


def shown_ticks(ax):
    """The labels of ticks on the first axis; Matplotlib keeps some that are out of view."""
    low, high = ax.get_xlim()
    ticks = ax.xaxis.get_major_ticks()
    return [
        tick.label1
        for tick in ticks
        if low <= tick.get_loc() <= high and tick.label1.get_visible()
    ]


def by_title(figure):
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


class TestLearningCurves:
    def test_clocks_by_directions(self, data):
        figure = plots.learning_curves(data, window=10)
        assert len(figure.axes) == 6
        assert [ax.get_title() for ax in figure.axes] == ["A", "B", "", "", "", ""]
        assert [ax.get_xlabel() for ax in figure.axes[::2]] == [
            "steps",
            "gradient-equivalents",
            "seconds a run",
        ]
        assert legend(figure) == ["x", "y"]

    def test_mean_over_seeds_of_the_running_mean(self, data):
        line = lines(plots.learning_curves(data, window=10).axes[0])["x"]
        loss = data.loss.sel(strategy="A, x")
        np.testing.assert_allclose(line.get_xdata(), np.arange(9, STEPS))
        np.testing.assert_allclose(line.get_ydata()[0], loss[:, :10].mean())
        np.testing.assert_allclose(line.get_ydata()[-1], loss[:, -10:].mean())

    def test_the_other_clocks(self, data):
        figure = plots.learning_curves(data, window=1)
        cost, seconds = lines(figure.axes[2])["x"], figure.axes[4]
        np.testing.assert_allclose(cost.get_xdata(), 1.5 * np.arange(1, STEPS + 1))
        # 30 seconds of three seeds are 10 of one.
        np.testing.assert_allclose(lines(seconds)["x"].get_xdata()[[0, -1]], [0.1, 10.0])
        np.testing.assert_allclose(lines(seconds)["y"].get_xdata()[-1], 20.0)

    def test_clocks_are_those_there_are(self, data):
        assert len(plots.learning_curves(data.drop_vars("seconds")).axes) == 4
        assert len(plots.learning_curves(data, clocks=["seconds"]).axes) == 2
        with pytest.raises(ValueError, match="'seconds' is among them"):
            plots.learning_curves(data.drop_vars("seconds"), clocks=["seconds"])

    def test_a_seed_that_diverged_is_no_part_of_the_mean_and_ends_in_a_cross(self, data):
        figure = plots.learning_curves(data, window=10)
        ax = figure.axes[0]
        line = lines(ax)["y"]
        survivors = data.loss.sel(strategy="A, y")[:2]
        assert line.get_xdata()[-1] == STEPS - 1
        np.testing.assert_allclose(line.get_ydata()[0], survivors[:, :10].mean())
        (cross,) = crosses(ax)
        np.testing.assert_array_equal(cross.get_xdata(), [49])
        assert cross.get_color() == line.get_color()

    def test_what_diverged_is_named(self, data):
        note = plots.learning_curves(data).get_supxlabel()
        assert "Diverged (×, thin lines): A, y (1 of 3 runs); B, y (all runs)." in note
        figure = plots.learning_curves(data.sel(strategy=["A, x", "B, x"]), window=1)
        assert "iverged" not in figure.get_supxlabel()

    def test_a_loss_that_blows_up_does_not_set_the_scale(self, data):
        data.loss[1, 2, 40:50] = 1e20
        figure = plots.learning_curves(data, window=1)
        top = figure.axes[0].get_ylim()[1]
        assert top < 2
        (cross,) = crosses(figure.axes[0])
        assert cross.get_ydata()[0] == pytest.approx(top)
        np.testing.assert_array_equal(cross.get_xdata(), [40])

    def test_losses_below_zero_have_a_linear_axis(self, data):
        assert plots.learning_curves(data).axes[0].get_yscale() == "log"
        below = data.assign(loss=data.loss - 1)
        assert plots.learning_curves(below).axes[0].get_yscale() == "linear"

    def test_a_spike_does_not_spoil_the_running_mean_after_it(self, data):
        data.loss[0, 0, 40] = 1e20
        line = lines(plots.learning_curves(data, window=10).axes[0])["x"]
        assert line.get_ydata()[-1] == pytest.approx(data.loss[0, :, -10:].values.mean())

    def test_a_line_that_leaves_its_panel_is_marked(self, data):
        for start in (30, 70):
            data.loss[0, 0, start : start + 5] = 1e3
        figure = plots.learning_curves(data, window=1)
        ax, other = figure.axes[:2]
        (marks,) = beyond(ax)
        assert marks.get_color() == lines(ax)["x"].get_color()
        assert marks.get_marker() == "^" and not beyond(other)
        assert {start for start in (30, 70) if (abs(marks.get_xdata() - start) < 5).any()}
        assert "▲, ▼: continues beyond" in note(figure)
        assert "▲" not in note(plots.learning_curves(data.isel(strategy=[2])))

    def test_long_runs_make_no_long_paths(self):
        long = xr.Dataset(
            {"loss": (("strategy", "seed", "step"), np.ones((1, 1, 20_000)))},
            coords={"strategy": ["s"], "seed": [0], "step": np.arange(20_000)},
        )
        line = lines(plots.learning_curves(long).axes[0])["s"]
        assert len(line.get_xdata()) <= 500 and line.get_xdata()[-1] == 19_999

    def test_a_window_longer_than_the_run(self, data):
        assert len(lines(plots.learning_curves(data, window=999).axes[0])["x"].get_xdata())
        assert len(lines(plots.line_traces(data, window=999).axes[0])["x"].get_xdata()) == 1

    def test_a_grid_is_refused(self, data):
        with pytest.raises(ValueError, match=r"data.sel\(rate=...\)"):
            plots.learning_curves(data.expand_dims(rate=[1.0, 2.0]))


class TestLineTraces:
    def test_only_what_was_measured(self, data):
        figure = plots.line_traces(data)
        assert len(figure.axes) == 8  # no norm of the gradient
        assert [ax.get_ylabel().split("$")[0] for ax in figure.axes[::2]] == [
            "step size ",
            "",
            "slope ",
            "curvature ",
        ]
        slope = figure.axes[4]
        assert list(lines(figure.axes[0])) == ["x", "y"] and list(lines(slope)) == ["x"]

    def test_medians_of_windows(self, data):
        line = lines(plots.line_traces(data, window=20).axes[4])["x"]
        slope = abs(data.slope.sel(strategy="A, x").values).reshape(3, 5, 20)
        np.testing.assert_allclose(line.get_ydata(), np.median(slope, -1).mean(0))
        np.testing.assert_allclose(line.get_xdata(), [10, 30, 50, 70, 90])

    def test_the_rate_is_computed_and_the_edge_is_marked(self, data):
        figure = plots.line_traces(data)
        ax = figure.axes[2]
        # tau |curvature| / (-2 slope) = 0.3 * 10 / (2 * 2)
        np.testing.assert_allclose(lines(ax)["x"].get_ydata(), 0.75)
        marks = [line for line in ax.get_lines() if len(line.get_xdata()) == 2]
        assert sorted(line.get_ydata()[0] for line in marks) == [0.5, 1.0]
        assert legend(figure)[2:] == [
            r"edge of stability, $\ell = 1$",
            r"convergence, $\ell = 1/2$",
        ]

    def test_no_rate_where_the_line_ascends(self, data):
        data.slope[0, :, :50] *= -1
        line = lines(plots.line_traces(data, window=10).axes[2])["x"]
        np.testing.assert_allclose(line.get_xdata(), [55, 65, 75, 85, 95])

    def test_every_few_steps(self, data):
        """Where a rule measures now and then, what it measured is shown."""
        rare = data.assign(slope=data.slope.where(data.step % 10 == 0))
        line = lines(plots.line_traces(rare, window=20).axes[4])["x"]
        assert len(line.get_xdata()) == 5 and np.isfinite(line.get_ydata()).all()

    def test_the_gradients_norm(self, data):
        figure = plots.line_traces(data.assign(gradient_norm=abs(data.loss) + 1))
        assert len(figure.axes) == 10 and "gradient norm" in figure.axes[8].get_ylabel()

    def test_runs_that_diverged_do_not_set_the_scale(self, data):
        data.step_size[3, :, 0] = 1e30
        assert plots.line_traces(data, window=1).axes[0].get_ylim()[1] < 1

    def test_spikes_and_steps_of_zero_are_marked(self, data):
        data.step_size[0, :, 30] = 50.0
        data.step_size[0, :, 60] = 0.0
        figure = plots.line_traces(data, window=1)
        marks = {x.get_marker(): x.get_xdata() for x in beyond(figure.axes[0])}
        np.testing.assert_array_equal(marks["^"], [30.5])
        np.testing.assert_array_equal(marks["v"], [60.5])

    def test_symbols_are_explained_and_the_marked_rates_are_in_view(self, data):
        figure = plots.line_traces(data)
        assert "φ(t) is the loss at y + t u" in note(figure)
        low, high = figure.axes[2].get_ylim()
        assert low < 0.5 and 1.0 < high

    def test_nothing_measured(self, data):
        silent = data.assign(slope=data.slope * np.nan, curvature=data.curvature * np.nan)
        figure = plots.line_traces(silent)
        assert len(figure.axes) == 2 and legend(figure) == ["x", "y"]


def test_metric_curves(data):
    figure = plots.metric_curves(data, "test_accuracy")
    ax = by_title(figure)["B"]
    expected = data.test_accuracy.sel(strategy="B, x").mean("seed").values[1:]
    np.testing.assert_allclose(lines(ax)["x"].get_ydata(), expected)
    # The accuracy of a network that diverged is none.
    assert len(lines(ax)["y"].get_xdata()) == 0
    assert by_title(figure)["A"].get_ylim()[0] > 0.7
    (cross,) = crosses(by_title(figure)["A"])
    np.testing.assert_array_equal(cross.get_xdata(), [25])
    assert "B, y (all runs)" in figure.get_supxlabel()


def test_metric_of_a_run_that_blows_up_does_not_set_the_scale(data):
    data.test_accuracy[1, 2, 1] = -1e30
    ax = plots.metric_curves(data, "test_accuracy").axes[0]
    assert 0 < ax.get_ylim()[0] < ax.get_ylim()[1] < 1.2


def grid(knob, values, final, strategies=("s",)):
    """Metric `m` from 2 at the start to `final`, of shape `(strategy, value, seed)`."""
    final = np.asarray(final, dtype=float)
    runs = np.stack([np.full(final.shape, 2.0), final], axis=-1)
    return xr.Dataset(
        {"m": (("strategy", knob, "seed", "evaluation_step"), runs)},
        coords={"strategy": list(strategies), knob: np.asarray(values)},
    )


class TestSensitivity:
    VALUES = (0.1, 1.0, 10.0)
    FINAL = ([[1.0], [0.5], [np.nan]],)

    def test_final_values(self):
        figure = plots.sensitivity(grid("value", self.VALUES, self.FINAL), "m")
        ax = figure.axes[0]
        np.testing.assert_array_equal(lines(ax)["s"].get_xdata(), self.VALUES)
        np.testing.assert_array_equal(lines(ax)["s"].get_ydata(), [1.0, 0.5, 2.0])
        (cross,) = crosses(ax)
        np.testing.assert_array_equal(cross.get_xydata(), [[10.0, 2.0]])
        (ring,) = [x for x in ax.get_lines() if x.get_markerfacecolor() == "none"]
        np.testing.assert_array_equal(ring.get_xydata(), [[1.0, 0.5]])
        assert legend(figure) == ["s", "best", "a run diverged"]
        assert ax.get_ylabel() == "final m"

    def test_the_knob_is_the_dimension(self):
        for dim in ("learning_rate", "value"):
            figure = plots.sensitivity(grid(dim, self.VALUES, self.FINAL), "m")
            assert figure.axes[-1].get_xlabel() == "learning rate"
        named = plots.sensitivity(grid("a", self.VALUES, self.FINAL), "m", knob="b")
        assert named.axes[-1].get_xlabel() == "b"

    def test_one_knob_only(self):
        both = grid("a", self.VALUES, self.FINAL).expand_dims(b=[1, 2])
        with pytest.raises(ValueError, match="it has b, a"):
            plots.sensitivity(both, "m")
        with pytest.raises(ValueError, match="it has none"):
            plots.sensitivity(grid("a", self.VALUES, self.FINAL).isel(a=0), "m")
        with pytest.raises(ValueError, match="above 0"):
            plots.sensitivity(grid("a", (0.0, 1.0, 2.0), self.FINAL), "m")

    def test_raw_against_rescaled(self):
        raw = grid("tau", np.geomspace(1e-4, 1, 5), np.ones((2, 5, 3)), "AB")
        rescaled = grid("ell", [0.1, 1.0, 10.0], np.ones((2, 3, 3)), "AB")
        figure = plots.sensitivity(
            {"raw": raw, "rescaled": rescaled}, "m", knob={"rescaled": "rate"}
        )
        figure.draw_without_rendering()
        left, right = figure.axes[:2]
        assert [left.get_title(), right.get_title()] == ["raw", "rescaled"]
        assert [ax.get_xlabel() for ax in figure.axes[2:]] == ["tau", "rate"]
        assert left.get_ylim() == right.get_ylim() and left.get_shared_y_axes().joined(
            left, right
        )
        # A decade is as long on the left as on the right, so that basins compare.
        lengths = [
            ax.get_position().width / np.log10(ax.get_xlim()[1] / ax.get_xlim()[0])
            for ax in (left, right)
        ]
        assert lengths[0] == pytest.approx(lengths[1], rel=0.02)
        assert lines(left)["B"].get_color() == lines(right)["B"].get_color()

    def test_basins(self):
        """Within a tenth of 1: to a tenth of a decade above, where the line crosses 1.1."""
        final = [[[1.05], [1.0], [2.0]]]
        figure = plots.sensitivity(grid("a", self.VALUES, final), "m")
        bar = figure.axes[1].get_lines()[0]
        np.testing.assert_allclose(bar.get_xdata(), [0.1, 10**0.1])
        without = plots.sensitivity(grid("a", self.VALUES, final), "m", tolerance=None)
        assert len(without.axes) == 1

    def test_higher_is_better(self):
        figure = plots.sensitivity(
            grid("a", self.VALUES, [[[0.1], [0.8], [0.7]]]), "m", lower_is_better=False
        )
        (ring,) = [x for x in figure.axes[0].get_lines() if x.get_markersize() == 8]
        np.testing.assert_array_equal(ring.get_xydata(), [[1.0, 0.8]])
        # 0.72 is at 4/5 of the way from 0.8 to 0.7.
        high = figure.axes[1].get_lines()[0].get_xdata()[1]
        assert high == pytest.approx(10**0.8)

    def test_values_that_a_strategy_did_not_try(self):
        one = grid("a", [0.1, 1.0], [[[1.0], [0.5]]], ["A"])
        other = grid("a", [0.3, 3.0], [[[1.0], [0.5]]], ["B"])
        both = xr.concat([one, other], dim="strategy", join="outer")
        ax = plots.sensitivity(both, "m").axes[0]
        np.testing.assert_array_equal(lines(ax)["B"].get_xdata(), [0.3, 3.0])

    def test_points_that_leave_the_panel_are_marked(self):
        figure = plots.sensitivity(grid("a", self.VALUES, [[[1.0], [0.5], [1e9]]]), "m")
        (marks,) = beyond(figure.axes[0])
        np.testing.assert_array_equal(marks.get_xdata(), [10.0])
        assert "▲" in note(figure) and "Bars: where the mean is within 10 %" in note(figure)

    def test_seeds_and_strategies_that_were_not_run(self):
        """A study may have nan where there was no run."""
        one = grid("a", [0.1, 1.0], [[[1.0, 2.0], [0.5, 0.6]]], ["A"])
        other = grid("a", [0.1, 1.0], [[[1.0], [0.5]]], ["B"])
        both = xr.concat(
            [one.assign_coords(seed=[0, 1]), other.assign_coords(seed=[7])],
            dim="strategy",
            join="outer",
        )
        ax = plots.sensitivity(both, "m").axes[0]
        np.testing.assert_array_equal(lines(ax)["A"].get_ydata(), [1.5, 0.55])
        np.testing.assert_array_equal(lines(ax)["B"].get_ydata(), [1.0, 0.5])
        none = both.assign(m=both.m.where(both.strategy == "A"))
        assert legend(plots.sensitivity(none, "m")) == ["A", "best"]
        with pytest.raises(
            ValueError, match="'m' of 'A', 'B' is finite at no value of 'a'"
        ):
            plots.sensitivity(none.where(False), "m")

    def test_all_ended_above_their_start(self):
        final = np.full((1, 3, 1), 100.0)
        low, high = plots.sensitivity(grid("a", self.VALUES, final), "m").axes[0].get_ylim()
        assert low < 100 < high


class TestPerformanceProfile:
    COSTS = np.array([[1.0, 2.0, 6.0, np.inf], [2.0, 1.0, 2.0, np.inf]])

    def test_steps(self):
        figure = plots.performance_profile(self.COSTS, ["A", "B"], dashed=[False, True])
        drawn = lines(figure.axes[0])
        for k, label in enumerate("AB"):
            x, y = drawn[label].get_xdata(), drawn[label].get_ydata()
            np.testing.assert_array_equal(
                y, statistics.performance_profile(self.COSTS, x)[k]
            )
            assert x[0] == 1 and drawn[label].get_drawstyle() == "steps-post"
            np.testing.assert_array_equal(x[:-1], [1, 2, 3])
        assert drawn["A"].get_linestyle() == "-" and drawn["B"].get_linestyle() != "-"
        np.testing.assert_allclose(drawn["A"].get_ydata()[[0, -1]], [0.25, 0.75])

    def test_many_problems_have_round_factors(self):
        costs = np.geomspace(1, 1e4, 12).reshape(2, 6)
        figure = plots.performance_profile(costs, ["A", "B"])
        figure.draw_without_rendering()
        ticks = figure.axes[0].get_xticks()
        assert len(ticks) < 12 and set(np.log2(ticks) % 1) == {0.0}

    def test_nothing_is_solved(self):
        figure = plots.performance_profile(np.full((2, 3), np.inf), ["A", "B"])
        assert not lines(figure.axes[0])["A"].get_ydata().any()

    def test_huge_factors(self):
        figure = plots.performance_profile([[1e-200, 1.0], [1e200, 2.0]], ["A", "B"])
        figure.draw_without_rendering()
        assert lines(figure.axes[0])["B"].get_ydata()[-1] == 1

    def test_a_label_for_each(self):
        with pytest.raises(ValueError, match="labels must be one for each.*'AB'"):
            plots.performance_profile(self.COSTS, "AB")
        with pytest.raises(ValueError, match="labels must be distinct.*repeat: A"):
            plots.performance_profile(self.COSTS, ["A", "A"])
        with pytest.raises(ValueError, match="labels must be one for each of 2 solvers"):
            plots.performance_profile(self.COSTS, ["A"])
        with pytest.raises(ValueError, match="dashed must be one for each"):
            plots.performance_profile(self.COSTS, ["A", "B"], dashed=[True])


class TestCriticalDifferences:
    NAMES, RANKS = ("c", "a", "b", "d"), (3.0, 1.2, 1.8, 4.0)

    @pytest.mark.parametrize("width", ["column", "page", 2.0])
    def test_diagram(self, width):
        figure = plots.critical_differences(
            self.NAMES, self.RANKS, 1.5, [("a", "b"), ("b", "c", "d")], width=width
        )
        (ax,) = figure.axes
        assert ax.get_xlim() == (1, 4)
        find = lambda gid: [x.get_xdata() for x in ax.get_lines() if x.get_gid() == gid]
        np.testing.assert_array_equal(np.ravel(find("rank")), sorted(self.RANKS))
        np.testing.assert_array_equal(find("group"), [[1.2, 1.8], [1.8, 4.0]])
        np.testing.assert_array_equal(find("distance"), [[1.0, 2.5]])
        texts = " ".join(text.get_text() for text in ax.texts)
        assert "a  1.20" in texts and "critical difference 1.50" in texts

    def test_names_are_whole_and_apart(self):
        names = [f"a long name of method {k}" for k in range(8)]
        figure = plots.critical_differences(names, range(1, 9), 2.0, [], width="column")
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))

    def test_of_statistics(self):
        rng = np.random.default_rng(0)
        scores = {name: rng.normal(size=20) + k for k, name in enumerate("abc")}
        found = statistics.critical_difference(scores)
        ranks = found.average_ranks
        plots.critical_differences(
            list(ranks), list(ranks.values()), found.critical_difference, found.groups
        )

    def test_refusals(self):
        with pytest.raises(ValueError, match="one finite rank for each"):
            plots.critical_differences(["a", "b"], [1.0], 1.0, [])
        with pytest.raises(ValueError, match="'c' is not among the names"):
            plots.critical_differences(["a", "b"], [1.0, 2.0], 1.0, [("a", "c")])


NAMES = ("_plain", "costs $\\frac$", "a | b\nc ", "![x](y) <b>&amp;</b> %_{")


@pytest.mark.parametrize(
    "scale",
    [
        1e290,
        *(pytest.param(x, marks=pytest.mark.slow) for x in (1e-290, 1e-200, 1e200)),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_any_scale(data, scale):
    """Figures of what is tiny or huge are drawn, with ticks that say so."""
    scaled = data.assign(
        {name: data[name] * scale for name in ("loss", "step_size", "test_accuracy")}
    )
    values = grid("a", [0.1, 1.0, 10.0], np.random.default_rng(0).random((2, 3, 9)), "AB")
    for figure in (
        plots.learning_curves(scaled, window=2),
        plots.line_traces(scaled),
        plots.metric_curves(scaled, "test_accuracy"),
        plots.sensitivity(values * scale, "m"),
        plots.sensitivity(values * scale, "m", lower_is_better=False),
    ):
        figure.draw_without_rendering()
    ticks = [text.get_text() for text in plotted_ticks(plots.learning_curves(scaled))]
    assert any(f"10^{{{round(np.log10(scale))}}}" in tick for tick in ticks)


def plotted_ticks(figure):
    figure.draw_without_rendering()
    return figure.axes[0].get_yticklabels()


class TestNames:
    """Names are text, whatever is in them."""

    SHOWN = ("_plain", "costs $\\frac$", repr(NAMES[2]), NAMES[3])

    @pytest.fixture
    def named(self, data):
        strange = flat(data).assign_coords(strategy=list(NAMES))
        return strange.rename(test_accuracy="$ac_{cu", step="step")

    def test_legends_titles_and_axes(self, named):
        figures = [
            plots.learning_curves(named),
            plots.line_traces(named),
            plots.metric_curves(named, "$ac_{cu"),
            plots.sensitivity(
                grid("$k_{", [1.0, 2.0], np.ones((4, 2, 3)), NAMES).rename(m="$m"), "$m"
            ),
            plots.performance_profile(np.ones((4, 3)), NAMES),
        ]
        for figure in figures:
            figure.draw_without_rendering()
            assert legend(figure)[:4] == list(self.SHOWN)
        assert figures[2].axes[0].get_ylabel() == "$ac {cu"
        assert figures[3].axes[0].get_ylabel() == "final $m"
        assert figures[3].axes[1].get_xlabel() == "$k {"
        assert "costs $\\frac$ (1 of 3 runs)" in note(figures[0])

    def test_panels(self, named):
        by_direction = named.assign_coords(
            direction=("strategy", ["_$d", "_$d", "e\nf", "e\nf"]),
            line_search=("strategy", ["_$r", "s", "_$r", "s"]),
        )
        figure = plots.learning_curves(by_direction)
        figure.draw_without_rendering()
        assert list(by_title(figure)) == ["_$d", r"'e\nf'"] and legend(figure) == [
            "_$r",
            "s",
        ]
        grids = {name: grid("a", [1.0, 2.0], np.ones((1, 2, 3))) for name in NAMES}
        figure = plots.sensitivity(grids, "m", knob=r"rate $\tau$ or $\frac$")
        figure.draw_without_rendering()
        assert tuple(by_title(figure)) == self.SHOWN

    def test_critical_differences(self):
        figure = plots.critical_differences(NAMES, [1.0, 2.0, 3.0, 4.0], 1.5, [NAMES[:2]])
        figure.draw_without_rendering()
        texts = [text.get_text() for text in figure.axes[0].texts]
        assert texts[0] == "_plain  1.00" and texts[3] == f"4.00  {NAMES[3]}"
        assert "A bar joins methods" in note(figure) and "1 is the best" in note(figure)

    def test_mathematics_of_ones_own(self):
        figure = plots.sensitivity(
            grid("a", [1.0, 2.0], np.ones((1, 2, 3))), "m", knob=r"rate $\tau$"
        )
        assert figure.axes[-1].xaxis.label.get_parse_math()


class TestLabels:
    """What counts is what things are called, not where they are."""

    @pytest.fixture
    def study(self, data):
        return flat(data).assign_coords(seed=[3, 5, 9])

    def figures(self, data):
        return (
            plots.learning_curves(data, window=3),
            plots.line_traces(data, window=3),
            plots.metric_curves(data, "test_accuracy"),
        )

    def assert_same(self, ours, theirs):
        for mine, other in zip(self.figures(ours), self.figures(theirs), strict=True):
            assert note(mine) == note(other) and legend(mine) == legend(other)
            for a, b in zip(mine.axes, other.axes, strict=True):
                assert a.get_ylim() == pytest.approx(b.get_ylim())
                for x, y in zip(a.get_lines(), b.get_lines(), strict=True):
                    np.testing.assert_allclose(x.get_xydata(), y.get_xydata())

    @pytest.mark.parametrize(
        "dims",
        [
            ("step", "evaluation_step", "seed", "strategy"),
            ("seed", "step", "strategy", "evaluation_step"),
        ],
    )
    def test_transposed(self, study, dims):
        self.assert_same(study.transpose(*dims), study)
        values = grid("a", [1.0, 2.0], np.random.default_rng(0).random((2, 2, 3)), "AB")
        mine = plots.sensitivity(values.transpose("evaluation_step", "seed", "a", ...), "m")
        other = plots.sensitivity(values, "m")
        for x, y in zip(mine.axes[0].get_lines(), other.axes[0].get_lines()):
            np.testing.assert_allclose(x.get_xydata(), y.get_xydata())

    def test_time_that_runs_backwards(self, study):
        self.assert_same(study.isel(step=slice(None, None, -1)), study)

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_concatenated(self, study):
        by_seed = [study.isel(seed=[k]) for k in range(3)]
        self.assert_same(xr.concat(by_seed, "seed"), study)
        single = [
            study.assign_coords(direction="A", line_search="x").isel(strategy=k)
            for k in (0, 2)
        ]
        assert list(by_title(plots.line_traces(xr.concat(single, "strategy")))) == ["A"]
        by_strategy = [study.isel(strategy=[0, 1]), study.isel(strategy=[2, 3])]
        self.assert_same(xr.concat(by_strategy, "strategy"), study)

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_seeds_that_only_some_strategies_have(self, study):
        """Runs that there are not have not diverged, and share no time."""
        healthy = study.isel(strategy=[0, 2])
        parts = healthy.isel(strategy=[0], seed=[0, 1]), healthy.isel(strategy=[1])
        joined = xr.concat(parts, "strategy", join="outer")
        figure = plots.learning_curves(joined, window=1)
        assert "iverged" not in note(figure)
        line = lines(figure.axes[2])["A, x"]
        assert line.get_xdata()[-1] == pytest.approx(30 / 2)
        assert "iverged" not in note(plots.metric_curves(joined, "test_accuracy"))

    def test_a_run_that_is_there_twice_is_not_two(self, study):
        twice = study.isel(seed=[0, 1, 1])
        values = grid("a", [1.0, 2.0], np.ones((2, 2, 3)), "AA")
        for draw in (
            plots.learning_curves,
            plots.line_traces,
            lambda data: plots.metric_curves(data, "test_accuracy"),
        ):
            with pytest.raises(
                ValueError, match="labels of 'seed' in data.*these repeat: 5"
            ):
                draw(twice)
        with pytest.raises(ValueError, match="'strategy' in grids must be distinct"):
            plots.sensitivity(values, "m")

    def test_colours_are_of_strategies(self, study):
        """Alone, or beside others, in any figure of the study."""
        recorded = study.assign_attrs(
            strategies='{"A, x": "", "A, y": "", "B, x": "", "B, y": ""}'
        )
        whole = lines(plots.learning_curves(recorded).axes[0])
        part = recorded.sel(strategy=["B, x", "A, y"])
        for figure in self.figures(part):
            drawn = lines(figure.axes[0])
            for name in set(drawn) & set(whole):
                assert drawn[name].get_color() == whole[name].get_color()
                assert drawn[name].get_marker() == whole[name].get_marker()
        odd = study.assign_attrs(strategies="three")
        assert len(legend(plots.learning_curves(odd))) == 4


DRAW = {
    "learning_curves": plots.learning_curves,
    "line_traces": plots.line_traces,
    "metric_curves": lambda data: plots.metric_curves(data, "test_accuracy"),
    "sensitivity": lambda data: plots.sensitivity(data, "m"),
}


@pytest.mark.usefixtures("unchecked")
class TestBadInput:
    @pytest.mark.parametrize("name", DRAW)
    @pytest.mark.parametrize("wrong", [None, 3, "results.nc", [1.0]])
    def test_no_dataset(self, name, wrong):
        with pytest.raises(ValueError, match="must be the dataset of a study"):
            DRAW[name](wrong)

    @pytest.mark.parametrize("dim", ["seed", "strategy"])
    def test_dimensions_that_were_dropped(self, data, dim):
        grids = grid("a", [1.0, 2.0], np.ones((1, 2, 3)))
        for name, draw in DRAW.items():
            one = (grids if name == "sensitivity" else data).isel({dim: 0})
            with pytest.raises(ValueError, match=rf"data.sel\({dim}=\[...\]\)"):
                draw(one)

    def test_no_metric_and_no_grid(self, data):
        with pytest.raises(ValueError, match="no metric 'loss'; there are: test_accuracy"):
            plots.metric_curves(data, "loss")
        with pytest.raises(ValueError, match="no metric None; there are: test_accuracy"):
            plots.metric_curves(data, None)
        with pytest.raises(ValueError, match="grids is empty"):
            plots.sensitivity({}, "m")
        with pytest.raises(ValueError, match=r"grids\['a'\] must be the dataset"):
            plots.sensitivity({"a": None}, "m")
        values = grid("a", [1.0, 2.0], np.ones((1, 2, 3)))
        with pytest.raises(ValueError, match="no metric 'n'; there are: m"):
            plots.sensitivity(values, "n")
        with pytest.raises(ValueError, match="tolerance must be"):
            plots.sensitivity(values, "m", tolerance=-1.0)

    def test_of_what_is_no_study(self):
        with pytest.raises(
            ValueError, match="dashed must be one for each of 1 solvers.*True"
        ):
            plots.performance_profile([[1.0]], ["a"], dashed=True)
        with pytest.raises(ValueError, match="names must be a sequence, but it is None"):
            plots.critical_differences(None, [1.0, 2.0], 1.0, [])
        with pytest.raises(ValueError, match="groups must be a sequence, but it is None"):
            plots.critical_differences(["a", "b"], [1.0, 2.0], 1.0, None)

    def test_datasets_of_nothing(self, data):
        for dim in ("seed", "strategy", "step", "evaluation_step"):
            with pytest.raises(ValueError, match=f"has no runs: .* '{dim}' is empty"):
                plots.learning_curves(data.isel({dim: []}))
        for draw in list(DRAW.values())[:3]:
            draw(data.where(False)).draw_without_rendering()
        one = plots.metric_curves(data.isel(evaluation_step=[0]), "test_accuracy")
        assert len(lines(one.axes[0])["x"].get_xdata()) == 1
        assert "left out" not in note(one)

    def test_clocks_and_windows(self, data):
        for clocks in ("step", [], 3):
            with pytest.raises(ValueError, match="clocks must be of 'step'"):
                plots.learning_curves(data, clocks=clocks)
        for window in (0, 2.5, "x"):
            with pytest.raises(ValueError, match="window must be an integer"):
                plots.learning_curves(data, window=window)
        with pytest.raises(ValueError, match="no variable 'slope'"):
            plots.line_traces(data.drop_vars("slope"))
        for width in (None, "wide"):
            with pytest.raises(ValueError, match="width must be one of"):
                plots.learning_curves(data, width=width)


@pytest.mark.slow
def test_plots_are_loaded_when_they_are_asked_for():
    code = (
        "import sys, curvopt; assert 'matplotlib' not in sys.modules; "
        "assert 'plots' in dir(curvopt); curvopt.plots.learning_curves; "
        "assert 'matplotlib' in sys.modules and not hasattr(curvopt, 'no_such_name')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class TestStyle:
    def test_more_strategies_than_colours_differ_in_greyscale(self):
        names = [f"s{k}" for k in range(20)]
        many = xr.Dataset(
            {"loss": (("strategy", "seed", "step"), np.ones((20, 1, 10)))},
            coords={"strategy": names, "seed": [0], "step": np.arange(10)},
        )
        drawn = lines(plots.learning_curves(many).axes[0]).values()
        looks = {(x.get_marker(), x.get_linestyle(), str(x._dash_pattern)) for x in drawn}
        assert len(looks) == 20
        assert len({(x.get_marker(), x.get_color()) for x in drawn}) == 20
        assert {matplotlib.colors.to_hex(x.get_color()).upper() for x in drawn} == set(
            plots.COLOURS
        )

    @pytest.mark.parametrize("width, expected", [("column", 3.3), ("page", 6.8), (5, 5.0)])
    def test_widths(self, data, width, expected):
        for figure in (
            plots.learning_curves(data, width=width),
            plots.line_traces(flat(data), width=width),
            plots.sensitivity(grid("a", [1.0, 2.0], [[[1.0], [2.0]]]), "m", width=width),
        ):
            assert figure.get_figwidth() == expected
            sizes = [text.get_fontsize() for text in figure.findobj(_is_text)]
            assert min(sizes) >= 7

    def test_unknown_width(self, data):
        for wrong in (0, -1.0):
            with pytest.raises(ValueError, match="width must be one of 'column', 'page'"):
                plots.learning_curves(data, width=wrong)

    def test_nothing_is_cut_off(self, data):
        """All text is on the page, in narrow figures too."""
        for figure in (
            plots.learning_curves(data, width="column"),
            plots.line_traces(data),
            plots.line_traces(flat(data), width="column"),
            plots.metric_curves(data, "test_accuracy", width="column"),
        ):
            figure.draw_without_rendering()
            page = figure.bbox.padded(1)
            for text in (*figure.legends[0].get_texts(), *figure.texts):
                box = text.get_window_extent()
                assert page.x0 <= box.x0 and box.x1 <= page.x1
                assert page.y0 <= box.y0 and box.y1 <= page.y1

    def test_labels_of_narrow_panels_do_not_overlap(self, data):
        three = data.sel(strategy=["A, x"] * 3).assign_coords(
            strategy=list("abc"), direction=("strategy", list("ABC"))
        )
        for figure in (
            plots.learning_curves(three, width="column"),
            plots.line_traces(three.assign(gradient_norm=three.loss), width="column"),
        ):
            figure.draw_without_rendering()
            boxes = [
                text.get_window_extent()
                for ax in figure.axes
                for text in (ax.xaxis.label, ax.yaxis.label, *shown_ticks(ax))
                if text.get_text()
            ]
            assert len(boxes) > 12
            assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))

    def test_one_panel_without_labels(self, data):
        figure = plots.learning_curves(flat(data))
        assert len(figure.axes) == 3 and legend(figure) == list(data.strategy.values)

    def test_directions_are_rows_where_there_are_too_many(self, data):
        many = data.sel(strategy=["A, x"] * 6).assign_coords(
            strategy=list("abcdef"), direction=("strategy", list("ABCDEF"))
        )
        figure = plots.learning_curves(many)
        figure.draw_without_rendering()
        places = {(round(ax.get_position().x0, 2)) for ax in figure.axes}
        assert len(figure.axes) == 18 and len(places) == 3

    @pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
    def test_every_figure_can_be_saved(self, data, suffix):
        file = io.BytesIO()
        plots.learning_curves(data, clocks=["step"]).savefig(file, format=suffix)
        assert len(file.getvalue()) > 5000


def _is_text(artist):
    return hasattr(artist, "get_fontsize") and bool(getattr(artist, "get_text", str)())
