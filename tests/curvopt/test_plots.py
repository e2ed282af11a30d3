"""What is drawn, not how it looks."""

import numpy as np
import pytest
import xarray as xr

from curvopt import plots


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    shape = (4, 3, 100)
    loss = np.exp(-np.arange(100) / 30) * rng.uniform(0.9, 1.1, shape)
    loss[1, 2, 50:] = np.nan  # a seed that diverged
    loss[3] = np.inf  # a strategy that did from the start
    measured = np.where(np.arange(4)[:, None, None] % 2 == 1, loss, np.nan)
    dims = ("strategy", "seed", "step")
    return xr.Dataset(
        {
            "loss": (dims, loss),
            "step_size": (dims, np.abs(loss)),
            "slope": (dims, -measured),
            "curvature": (dims, measured),
            "gradient_equivalents": (dims, np.ones(shape).cumsum(-1) * 1.5),
            "test_accuracy": (
                ("strategy", "seed", "evaluation_step"),
                rng.uniform(size=(4, 3, 5)),
            ),
        },
        coords={
            "strategy": ["A, x", "A, y", "B, x", "B, y"],
            "direction": ("strategy", ["A", "A", "B", "B"]),
            "line_search": ("strategy", ["x", "y", "x", "y"]),
            "step": np.arange(100),
            "evaluation_step": np.arange(5) * 25,
        },
    )


def test_learning_curves(data):
    figure = plots.learning_curves(data, window=10)
    assert len(figure.axes) == 4
    assert [ax.get_title() for ax in figure.axes[:2]] == ["A", "B"]
    line = figure.axes[0].get_lines()[0]
    first_window = data.loss.sel(strategy="A, x").isel(step=slice(0, 10)).mean()
    np.testing.assert_allclose(line.get_ydata()[0], first_window)
    np.testing.assert_allclose(line.get_xdata()[0], 9)
    below = figure.axes[2].get_lines()[0]
    np.testing.assert_allclose(below.get_xdata()[-1], 150)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["x", "y", "y (diverged)"]


def test_a_seed_that_diverged_leaves_the_band_not_the_figure(data):
    figure = plots.learning_curves(data, window=10)
    line = figure.axes[0].get_lines()[1]
    assert np.isfinite(line.get_ydata()).all() and line.get_xdata()[-1] == 99


def test_line_traces_show_what_was_measured(data):
    figure = plots.line_traces(data)
    assert len(figure.axes) == 6
    step_size, slope = figure.axes[0], figure.axes[2]
    assert len(step_size.get_lines()) == 2 and len(slope.get_lines()) == 1


def test_metric_curves(data):
    figure = plots.metric_curves(data, "test_accuracy")
    expected = data.test_accuracy.sel(strategy="B, x").mean("seed").values[1:]
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_ydata(), expected)


def test_sensitivity():
    grid = xr.Dataset(
        {
            "m": (
                ("strategy", "value", "seed", "evaluation_step"),
                [[[[2.0, 1.0]], [[2.0, 0.5]], [[2.0, np.nan]]]],
            )
        },
        coords={"strategy": ["s"], "value": [0.1, 1.0, 10.0]},
    )
    line = plots.sensitivity(grid, "m").axes[0].get_lines()[0]
    np.testing.assert_array_equal(line.get_ydata(), [1.0, 0.5, 2.0])


def test_one_panel_without_labels(data):
    figure = plots.learning_curves(data.drop_vars(["direction", "line_search"]))
    assert len(figure.axes) == 2


def test_every_figure_can_be_saved(data, tmp_path):
    for k, figure in enumerate((plots.learning_curves(data), plots.line_traces(data))):
        for suffix in ("png", "pdf", "svg"):
            path = tmp_path / f"{k}.{suffix}"
            figure.savefig(path)
            assert path.stat().st_size > 5000
