"""What is concluded of guards, batches, cheapening and cost, from results with known
answers."""

import numpy as np
import pytest
import xarray as xr

from experiments.cost import GRADIENT, VARIANTS
from experiments.research.questions.batch import AVERAGES, BATCH
from experiments.research.questions.cheapening import CHEAPENING, VARIANTS as CHEAPER
from experiments.research.questions.cost import ADJOINT, COST, FORWARD, products
from experiments.research.questions.guards import CURES, GUARDS


pytestmark = pytest.mark.host


def outcomes(offsets, seeds=10, cost=None):
    """Runs whose final loss is 0.3, plus what a strategy is worse by, with a little noise
    that differs from seed to seed."""
    noise = np.random.default_rng(0).normal(size=(len(offsets), seeds))
    loss = 0.3 + np.array(list(offsets.values()))[:, None] + 1e-4 * noise
    of = ("strategy", "seed")
    return xr.Dataset(
        {
            "train_loss": (of, loss),
            "start": (of, np.full(loss.shape, 2.3)),
            "diverged": (of, np.zeros(loss.shape, bool)),
            "gradient_equivalents": (of, 100 * np.ones(loss.shape)),
        },
        coords={"strategy": list(offsets), "seed": range(seeds)},
        attrs={"label": "MLP, Fashion-MNIST", "metric": "train_loss", "steps": "100"},
    )


@pytest.fixture(scope="module")
def guards():
    # Of one cure all runs end above their start.
    worse = {"backtracking": 0.05, "Gauss-Newton": -0.05, "negative as zero": 5.0}
    data = outcomes(
        {f"{d}, {c}": worse.get(c, 0.0) for d in ("SGD", "Adam") for c in CURES}
    )
    rows = data.sizes["strategy"]
    curvature = np.tile([1e-6, -1.0, 2.0, 3.0], (rows, 1))
    data["first_curvature"] = ("strategy", "step"), curvature
    data["first_step_size"] = ("strategy", "step"), np.tile([9.0, 1, 2, 3], (rows, 1))
    data["first_loss"] = ("strategy", "step"), np.tile([2.0, 8, 3, 2], (rows, 1))
    data["negative"] = ("strategy", "seed"), np.full((rows, 10), 0.25)
    return GUARDS.conclude({"mlp": data})


class TestGuards:
    def test_cures_against_limited_growth(self, guards):
        rows = guards.tables["guards"].splitlines()
        row = lambda cure: [r.split(" & ")[1] for r in rows if rf"\quad {cure} &" in r]
        assert row("Gauss-Newton") == [r"\textbf{0.250}"] * 2
        assert row("backtracking") == ["0.350$^{-}$"] * 2
        assert row("a restart") == ["0.300"] * 2
        assert guards.numbers["GuardsLimitedGrowthGaussNewtonBetter"] == "0"
        assert guards.numbers["GuardsGaussNewtonSGDLost"] == r"0\,\%"
        assert guards.tables["guards"].count("2.30$^{-}$ (10)") == 2
        # 0.1 of the 2.05 from the start to the best.
        assert guards.numbers["GuardsBacktrackingAdamLost"] == r"4.9\,\%"

    def test_the_first_steps(self, guards):
        assert guards.numbers["GuardsNegativeMlpSGD"] == r"25\,\%"
        # One of the first, 4.5 times the median of what follows, and the loss times 4.
        assert guards.tables["guards-signs"].count(r"& 25\,\% & 1 & 4.5 & 4.0 \\") == 2


class TestCheapening:
    def test_the_cheapest_that_is_nowhere_worse(self):
        costs = dict(zip(CHEAPER, (1.16, 1.04, 1.13, 1.03, 1.05, 1.6)))
        worse = {"every 20th step": 0.03, "a sixteenth of the batch": 0.01}
        names = {f"{d}, {c}": c for d in ("SGD", "Adam") for c in ("rescaled", *CHEAPER)}
        data = outcomes({name: worse.get(c, 0.0) for name, c in names.items()})
        spent = np.array([100 * costs.get(c, 1.6) for c in names.values()])
        data["gradient_equivalents"] = data.gradient_equivalents * 0 + xr.DataArray(
            spent, dims="strategy"
        )
        data["diverged"].loc[{"strategy": "SGD, products in bfloat16", "seed": 0}] = True
        found = CHEAPENING.conclude({"mlp": data})
        assert found.numbers["CheapeningFifthQuarterFailedSGD"] == "0"
        assert found.tables["cheapening"].count("(1)") == 1
        assert found.numbers["CheapeningBest"] == "every 5th step, a quarter"
        assert found.numbers["CheapeningBestCost"] == "1.05"
        assert found.numbers["CheapeningWithin"] == "1"
        assert found.numbers["CheapeningSixteenthWorse"] == "2"
        assert r"$\mathbf{+10.0}$" in found.tables["cheapening"]


class TestBatch:
    def test_the_best_values_and_greedy_against_on_edge(self):
        """The loss is least at ell = 1/4 with batches of 16 and at 1 with all images; 0.9
        is the best average, and 0.1 the best rate."""
        sizes, ells, rates = [16, 100], [0.25, 0.5, 1.0, 2.0], [0.01, 0.1, 1.0]
        best = xr.DataArray([0.25, 1.0], {"batch_size": sizes})
        average = xr.DataArray([0.02, 0.0, 0.01], {"average": [str(a) for a in AVERAGES]})
        ell, rate = (
            xr.DataArray(ells, {"ell": ells}),
            xr.DataArray(rates, {"learning_rate": rates}),
        )
        seed = xr.DataArray([0.0, 0.001], {"seed": [0, 1]})
        loss = 0.3 + 0.2 * np.log2(ell / best) ** 2 + average + seed
        raw = 0.4 + np.log10(rate / 0.1) ** 2 + seed + 0 * best
        data = xr.Dataset(
            {
                "train_loss": loss.transpose("batch_size", "average", "ell", "seed"),
                "start": xr.full_like(loss, 2.3),
                "raw_train_loss": raw,
                "raw_start": xr.full_like(raw, 2.3),
            },
            attrs={"metric": "train_loss", "images": 100, "run_steps": 9},
        )
        found = BATCH.conclude({"mlp": data})
        numbers = found.numbers
        assert (numbers["BatchSmallestEll"], numbers["BatchLargestEll"]) == ("0.25", "1")
        # Averages of 0.9 end lowest, at the value that is best for all of them.
        assert (
            r"100 & 0.520 & 0.321 & 0.321 (1) & 0.300 & 0.300 (1)" in found.tables["batch"]
        )
        assert numbers["BatchLargestRate"] == "0.1"
        # With all images greedy loses from both seeds, and on edge wins from both.
        assert numbers["BatchGreedyLosesBare"] == numbers["BatchEdgeWinsBare"] == "2"
        assert (numbers["BatchGreedyShort"], numbers["BatchEdgeShort"]) == (
            "0.500",
            "0.300",
        )


class TestCost:
    @pytest.mark.parametrize("depth", [1, 3, 50])
    def test_products_of_equal_layers(self, depth):
        count = products((64,) * (depth + 1))
        gradient = 3 * depth - 1
        np.testing.assert_allclose(count[ADJOINT], 1 + (2 * depth - 1) / gradient)
        np.testing.assert_allclose(count[FORWARD], 1 + (3 * depth - 2) / gradient)

    def test_the_larger_batch_beside_counts_and_rivals(self):
        variants = [GRADIENT, *VARIANTS]
        ratio = {"adjoint": 1.65, "forward": 2.0, "jvp-grad": 3.0, "jet": np.nan}
        # Cheap, but other numbers: no rivals.
        ratio |= {"part": 1.1, "two-losses": 1.2, "gauss-newton": 1.3}
        large = np.array([ratio.get(name, 3.5) for name in variants])
        of = np.stack([9 * large, large])
        names = ("time_median", "flops_ratio", "temporary_ratio", "total_ratio")
        data = xr.Dataset(
            {name: (("case", "variant"), of) for name in (*names, "relative_error")},
            coords={
                "variant": variants,
                "label": ("variant", [GRADIENT, *(v.label for v in VARIANTS.values())]),
                "workload": ("case", ["deep-mlp"] * 2),
                "title": ("case", ["deep MLP"] * 2),
                "batch_size": ("case", [64, 256]),
            },
        )
        data["products_adjoint"] = "case", [1.5, 1.5]
        data["products_forward"] = "case", [np.nan, np.nan]
        found = COST.conclude(data)
        assert found.numbers["CostFlopsAdjointMedian"] == "1.65"
        assert found.numbers["CostMemoryAdjointOnDeepMlp"] == "1.65"
        assert found.numbers["CostCountOffAdjoint"] == r"10.0\,\%"
        assert found.numbers["CostCounted"] == "1"
        assert found.numbers["CostTimeWins"] == "1"
        assert r"1.65 & 3.00 & jvp(grad)" in found.tables["cost-rivals"]
