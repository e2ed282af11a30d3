import numpy as np
import pytest

import curvopt
from strategies import LearningRate, Momentum, SGD


pytestmark = pytest.mark.host


def sgd(rate):
    return curvopt.LineSearchMinimiser(SGD(), LearningRate(rate))


def momentum(rate):
    return curvopt.LineSearchMinimiser(Momentum(0.9), LearningRate(rate))


RATES = {"rate": [1e-4, 1e-2, 0.1, 1e9]}


def tune(problem, families, grid=RATES, **options):
    options = {"metric": "train_loss", "seeds": [7, 8], "reported_seeds": 3} | options
    return curvopt.tune(problem, families, grid, steps=25, progress=False, **options)


def test_the_best_of_families_and_values(regression):
    tuning = tune(regression, {"sgd": sgd, "momentum": momentum})
    final = curvopt.final_metric(tuning.runs, "train_loss").mean("seed")
    best = final.where(final == final.min(), drop=True)
    assert tuning.family == best.strategy.item()
    assert tuning.values == {"rate": best.rate.item()}
    assert tuning.score == final.min()
    assert tuning.at_edge == ()
    # Its solver is what was run.
    again = curvopt.run_study(
        regression, {"s": tuning.solver}, seeds=[7, 8], steps=25, progress=False
    )
    chosen = tuning.runs.sel(strategy=tuning.family, rate=tuning.values["rate"])
    np.testing.assert_allclose(again.loss.isel(strategy=0), chosen.loss, rtol=1e-4)
    # All runs are paid for; those that diverged until then.
    assert tuning.cost == pytest.approx(tuning.runs.gradient_equivalents.max("step").sum())
    assert (tuning.runs.diverged_at.sel(rate=1e9) >= 0).all()


def test_the_edge_of_the_grid(regression):
    tuning = tune(regression, {"sgd": sgd}, {"rate": [1e-4, 1e-3]})
    assert tuning.at_edge == ("rate",) and tuning.values == {"rate": 1e-3}


def test_the_highest_is_best_where_that_is_so(regression):
    tuning = tune(regression, {"sgd": sgd}, lower_is_better=False)
    assert tuning.values["rate"] in (1e-4, 1e9)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seeds": [0, 7, 2]}, r"must not overlap, but \[0, 2\] are in both"),
        ({"metric": "accuracy"}, "no metric 'accuracy'; there are: train_loss"),
        ({"grid": {}}, "at least one name with values"),
    ],
)
def test_bad_input(regression, options, message):
    with pytest.raises(ValueError, match=message):
        tune(regression, {"sgd": sgd}, **options)
