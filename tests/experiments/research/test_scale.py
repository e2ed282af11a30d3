"""The best value of a number and one for all problems, and what the questions of scale and
of regimes conclude from results whose answers are known."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from experiments._names import UsageError
from experiments.research import Research, research
from experiments.research._choice import (
    at_edge,
    best_value,
    Common,
    common_value,
    decades,
    good_values,
    shortfall,
)
from experiments.research._latex import between, fraction, plain
from experiments.research._settings import SETTINGS
from experiments.research.questions.regimes import REGIMES, regimes
from experiments.research.questions.scale import ALL, RAW, RESCALED, SCALE, tried


pytestmark = pytest.mark.host

ELLS = [0.25, 0.5, 1.0, 2.0, 4.0]


def lost(values, ell=ELLS):
    return xr.DataArray(values, {"ell": ell[: len(values)]}, "ell")


def test_shortfall_is_a_share_of_the_way_down():
    loss = xr.DataArray(
        [[0.4, 0.6], [0.9, 1.1], [3.0, 3.0], [np.nan, np.nan]],
        {"ell": ELLS[:4]},
        ("ell", "seed"),
    )
    start = xr.DataArray([2.0, 3.0], dims="seed")
    np.testing.assert_allclose(
        shortfall(loss, start, "ell"), [0, 0.25, 1.25, np.nan], rtol=1e-6
    )


def test_shortfall_where_nothing_is_won():
    loss = xr.DataArray([[2.0], [2.0], [3.0]], {"ell": ELLS[:3]}, ("ell", "seed"))
    found = shortfall(loss, xr.DataArray([2.0], dims="seed"), "ell")
    assert found.values[:2].tolist() == [0, 0] and found.values[2] > 1e6
    assert good_values(found, "ell", 0.05) == (0.25, 0.5)


@pytest.mark.parametrize(
    "values, best, good, edge",
    [
        ([0.3, 0.04, 0, 0.05, 0.2], 1.0, (0.5, 2.0), 0),
        # What is good beyond a bad one is of no use.
        ([0.01, 0.3, 0, 0.3, 0.01], 1.0, (1.0, 1.0), 0),
        ([0, 0.01, 0.5, 0.6, 0.7], 0.25, (0.25, 0.5), -1),
        ([0.3, 0.2, 0.1, 0.01, 0], 4.0, (2.0, 4.0), 1),
        # Values that were not tried are no values.
        ([np.nan, 0.01, 0.02, 0, np.nan], 2.0, (0.5, 2.0), 1),
        ([np.nan, 0, 0.02, 0.2, np.nan], 0.5, (0.5, 1.0), -1),
    ],
)
def test_best_and_good_values(values, best, good, edge):
    assert best_value(lost(values), "ell") == best
    assert good_values(lost(values), "ell", 0.05) == good
    assert at_edge(lost(values), "ell") == edge


def test_one_value_for_all():
    losts = {"a": lost([0.5, 0.0, 0.1, 0.9, 7.0]), "b": lost([0.9, 0.4, 0.2, 0.0, 0.0])}
    found = common_value(losts, "ell")
    assert found == Common(1.0, {"a": 0.1, "b": 0.2})
    assert (found.mean, found.worst) == (pytest.approx(0.15), 0.2)


def test_one_value_for_all_counts_no_loss_as_more_than_everything():
    # Without a limit 1/4 would be chosen: 1.5 on average, against 2 and more.
    losts = {"a": lost([1.0, 0.0, 0.0]), "b": lost([2.0, 4.0, 5.0])}
    found = common_value(losts, "ell")
    assert found == Common(0.5, {"a": 0.0, "b": 1.0})


def test_one_value_for_all_was_tried_on_all():
    losts = {"a": lost([0.0, 0.3, 0.6]), "b": lost([np.nan, 0.5, 0.0])}
    assert common_value(losts, "ell").value == 1.0
    losts = {"a": lost([0.0, np.nan]), "b": lost([np.nan, 0.0])}
    found = common_value(losts, "ell")
    assert np.isnan(found.value) and found.worst == 1.0


def test_decades():
    assert decades([0.01, 10.0, 1.0]) == pytest.approx(3)


RATES = [1e-3, 1e-2, 1e-1, 1.0]


def scale_results(label, rate, ell, above=1.0):
    """One parabola for all directions and schedules: its lowest loss is 1 at the learning
    rate, and `above` times that at the rescaled one; at 2 decades more, or factors of 16,
    nothing is won. RMSProp and Adam were not tried at 1."""
    axes = {"direction": ["Adam", "Momentum", "RMSProp", "SGD"]}
    axes |= {"schedule": ["constant", "cosine"], "seed": [0, 1]}
    ones = xr.DataArray(1.0, axes, ("direction", "schedule", "seed"))
    rates = xr.DataArray(RATES, {"learning_rate": RATES}, "learning_rate")
    ells = xr.DataArray(ELLS, {"ell": ELLS}, "ell")
    raw = ones * (1 + (np.log10(rates / rate) / 2) ** 2)
    raw = raw.where(raw.direction.isin(["SGD", "Momentum"]) | (rates < 1))
    rescaled = ones * above * (1 + (np.log2(ells / ell) / 4) ** 2)
    data = {"raw_train_loss": raw, "raw_start": 0 * raw + 2}
    data |= {"rescaled_train_loss": rescaled, "rescaled_start": 0 * rescaled + 2 * above}
    return xr.Dataset(data, attrs={"label": label, "metric": "train_loss", "steps": "100"})


def test_what_scale_concludes():
    found = SCALE.conclude(
        {
            "mlp": scale_results("MLP", 1e-3, 1.0),
            "gru": scale_results("GRU", 1e-1, 1.0, above=1.21),
        }
    )
    numbers = found.numbers
    assert numbers["ScaleSettings"] == "2" and numbers["ScaleSteps"] == "100"
    # 0.01 is one decade from both: a quarter of the way. So is no value for one of them.
    for direction in ("SGD", "Adam"):
        assert numbers[f"ScaleRawSpread{direction}"] == "2.0"
        assert numbers[f"ScaleRawCommonWorst{direction}"] == r"25\,\%"
        assert numbers[f"ScaleRawCommonLossMost{direction}"] == r"\ensuremath{+}25\,\%"
        assert numbers[f"ScaleRescaledSpread{direction}"] == "0"
        assert numbers[f"ScaleRescaledCommonMean{direction}Constant"] == r"0\,\%"
        assert numbers[f"ScaleRescaledLossMean{direction}"] == r"\ensuremath{+}10\,\%"
        assert numbers[f"ScaleRescaledLossMost{direction}"] == r"\ensuremath{+}21\,\%"
    # The lowest rate is best on one problem; the highest on the other, but for two
    # directions only.
    assert numbers["ScaleRawEdgesAll"] == "6" and numbers["ScaleRescaledEdgesAll"] == "0"
    rows = found.tables["scale"].splitlines()
    assert r"one $\ell$ & 1 & 1 & 1 & 1 & 1 \\" in rows
    assert rows[4] == r"best rate" + " & 0.001 to 0.1" * 5 + r" \\"
    assert r"\midrule one rate" + " & 0.01" * 5 + r" \\" in rows
    assert [text.get_text() for text in found.figures["scale"].axes[0].get_yticklabels()]


def test_directions_are_compared_under_one_schedule():
    data = scale_results("MLP", 1e-2, 1.0)
    cosine = data.raw_train_loss.copy()
    cosine.loc[{"direction": "Adam", "schedule": "cosine", "learning_rate": 0.1}] = 0.5
    results = {"mlp": data.assign(raw_train_loss=cosine)}
    assert tried(results, RAW, "cosine")["Adam"]["mlp"].best == 0.1
    assert tried(results, RAW, "constant")["Adam"]["mlp"].best == 0.01
    assert len(tried(results, RESCALED, "cosine")[ALL]) == 4


def regimes_results(label, *, accuracy=True):
    r"""With averages the loss is lowest at 1, early at 1/2, on test data at 2; the distance
    grows with $\ell$ and one run fails at 4. Without averages one fails from 1 on."""
    names = ["fresh, 0.9", "no averages"]
    strategies = [f"{d}, {p}, constant" for d in ("SGD", "Adam") for p in names]
    axes = {"strategy": strategies, "ell": ELLS, "seed": [0, 1], "window": range(40)}
    at = {name: xr.DataArray(values, {name: values}, name) for name, values in axes.items()}
    ell, edge = at["ell"], xr.where(at["strategy"].str.contains("fresh"), 4.0, 1.0)
    fails = (ell >= edge) & (at["seed"] == 1)
    loss = lambda best: 1 + 0.1 * np.log2(ell / best) ** 2
    window = at["window"]
    early = xr.where(window < 20, loss(0.5), loss(1.0))
    data = {
        "train_loss": loss(1.0).where(~fails, 2.5),
        "test_loss": loss(2.0) + 0 * fails,
        "start": 0 * fails + 2.5,
        "distance": (10 * ell).where(~fails, 0.0),
        # What is early must not be seen.
        "sharpness": xr.where(window < 30, 100.0, 3.0 * ell) + 0 * edge,
        "loss": early + 0 * edge,
    }
    if accuracy:
        data["test_accuracy"] = 1 - loss(0.5) / 10 + 0 * fails
    attributes = {"label": label, "metric": "train_loss", "steps": "100"}
    return xr.Dataset(data, attrs=attributes)


def test_regimes_of_one_setting():
    found = regimes(regimes_results("MLP"), "SGD", "fresh, 0.9")
    assert found.edge == 4.0 and found.widest == 2.0
    assert found.distance.values[-1] != found.distance.values[-1]
    np.testing.assert_allclose(found.measured, [1.5, 1.5, 1.5, 1.5, np.nan], rtol=1e-6)
    assert best_value(found.error, "ell") == 0.5
    found = regimes(regimes_results("MLP", accuracy=False), "Adam", "no averages")
    assert found.edge == 1.0 and best_value(found.error, "ell") == 2.0


def test_what_was_not_tried_is_no_edge():
    # Guards: where another policy was tried farther, the first value beyond was an edge.
    data = regimes_results("MLP")
    far = data.strategy.str.contains("fresh") | (data.ell < 1.0)
    found = regimes(data.where(far), "SGD", "no averages")
    assert found.edge == np.inf and found.ended.ell.values.tolist() == [0.25, 0.5]
    numbers = REGIMES.conclude({"mlp": data.where(far)}).numbers
    assert numbers["RegimesEdgesSGDBare"] == "0"
    assert numbers["RegimesEdgesSGDAverages"] == "1"
    assert numbers["RegimesTried"] == "1/4 to 1/2"
    assert numbers["RegimesTriedFarthest"] == "4"


def test_what_regimes_concludes():
    results = {
        "mlp": regimes_results("MLP"),
        "autoencoder": regimes_results("autoencoder", accuracy=False),
    }
    found = REGIMES.conclude(results)
    numbers = found.numbers
    assert numbers["RegimesEarlySGDAverages"] == "1/2"
    assert numbers["RegimesBestAdamAverages"] == "1"
    assert numbers["RegimesTestSGDAverages"] == "1/2 to 2"
    assert numbers["RegimesFirstSGDBare"] == "1"
    assert numbers["RegimesEdgesSGDBare"] == "2"
    # A tenth, of the way of 1.5.
    assert numbers["RegimesHalfLostMeanSGDAverages"] == r"6.7\,\%"
    assert numbers["RegimesOneLostWorstSGDAverages"] == r"0\,\%"
    assert numbers["RegimesHalfMeasuredAdamBare"] == "1.5"
    assert numbers["RegimesOneMeasuredAdamBare"] == "--"
    assert numbers["RegimesGrownSGDAverages"] == "2.0"
    assert numbers["RegimesSharpestSGDAverages"] == "6.0"
    rows = found.tables["regimes"].splitlines()
    assert rows.count(r"\quad MLP & 1/2 & 1 & 1/2 & 2 & 4 & 6.7\,\% & 0\,\% & 6.0 \\") == 2
    assert set(found.figures) == {"regimes-sgd", "regimes-adam"}


def test_regimes_without_an_edge_and_without_a_half():
    fine = regimes_results("MLP").sel(ell=[0.25, 2.0], seed=[0])
    numbers = REGIMES.conclude({"mlp": fine}).numbers
    assert numbers["RegimesFirstSGDAverages"] == "none"
    assert numbers["RegimesEdgesSGDAverages"] == "0"
    assert numbers["RegimesHalfLostMeanSGDAverages"].startswith("--")


def test_who_is_asked_what():
    width = SETTINGS["mlp-width-256"]
    assert SCALE.asked_of("mlp-width-256", width)
    assert not REGIMES.asked_of("mlp-width-256", width)
    assert REGIMES.asked_of("mlp", SETTINGS["mlp"])
    only = dataclasses.replace(REGIMES, settings=("gru",))
    assert not only.asked_of("mlp", SETTINGS["mlp"])
    assert all(setting.core or setting.questions for setting in SETTINGS.values())


def test_what_nobody_asks_is_said_before_anything_is_read():
    config = Research(questions=("regimes",), settings=("mlp-width-16",))
    with pytest.raises(UsageError, match="none of regimes is asked of mlp-width-16"):
        research(config)


def test_how_values_are_named():
    assert [fraction(x) for x in (1 / 16, 0.5, 4.0, np.nan)] == ["1/16", "1/2", "4", "--"]
    assert between("1/2", "1") == "1/2 to 1" and between("1", "1") == "1"
    assert [plain(x) for x in (0.994, 0.996, 9.96)] == ["0.99", "1.0", "10"]
