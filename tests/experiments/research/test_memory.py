"""What the questions of memory and of the edge make of results, and the theory that the
latter compares with."""

import numpy as np
import pytest
import scipy.linalg
import xarray as xr

from experiments.problems import NoisyQuadratic, Rosenbrock
from experiments.research._bench import Bench
from experiments.research._families import COSINE
from experiments.research._heavy_ball import HeavyBall
from experiments.research._policies import (
    DIRECTION_LONG,
    FRESH,
    PLANE,
    POLICIES,
    scales,
    SIGNED,
)
from experiments.research._settings import SETTINGS
from experiments.research._tracked import Tracked
from experiments.research.questions import edges, memory
from strategies import GrowthLimited, LearningRate


VALUES, NOISE = np.array([0.2, 0.5, 1.0]), np.array([0.3, 0.1, 0.2])

FORMS = [
    HeavyBall(decay, weight, along)
    for decay in (0.0, 0.5, 0.9)
    for weight in (1.0, 1 - decay)
    for along in ("direction", "fresh")
]


def at_rest(theory, alpha):
    """Slope, curvature and loss of heavy ball, from the covariances of its recursion."""
    slope = curvature = loss = 0.0
    step = alpha / theory.weight
    for value, noise in zip(VALUES, NOISE):
        # Of (y, m), with m+ = decay m + weight (value y + xi), y+ = y - step m+.
        gain = np.array([-alpha, theory.weight])
        move = np.array([[1 - alpha * value, -step * theory.decay], [0, theory.decay]])
        move[1, 0] = theory.weight * value
        now = scipy.linalg.solve_discrete_lyapunov(move, noise * np.outer(gain, gain))
        loss += value * now[0, 0] / 2
        if theory.along == "fresh":
            power = value**2 * now[0, 0] + noise
            slope, curvature = slope + power, curvature + value * power
        else:
            # <g, m+> with g = value y + xi.
            mixed = theory.decay * value * now[0, 1]
            slope += mixed + theory.weight * (value**2 * now[0, 0] + noise)
            curvature += value * (move[1] @ now @ move[1] + noise * theory.weight**2)
    return slope, curvature, loss


class TestHeavyBall:
    @pytest.mark.parametrize("theory", FORMS)
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
    def test_the_fixed_point_against_covariances(self, theory, share):
        ell = share * theory.edge
        alpha = theory.rate(ell, VALUES, NOISE)
        slope, curvature, loss = at_rest(theory, alpha)
        np.testing.assert_allclose(2 * ell * slope / curvature, alpha / theory.weight)
        np.testing.assert_allclose(theory.floor(ell, VALUES, NOISE), loss)

    def test_the_papers_table(self):
        """With one eigenvalue, in units of its variance over twice the eigenvalue."""
        value, noise, beta, ell = np.array([0.5]), np.array([3.0]), 0.9, 0.6

        def floor(weight, along):
            return HeavyBall(beta, weight, along).floor(ell, value, noise) / (3 / (2 * 0.5))

        along = (1 + beta) * ell / (1 - ell)
        normalised = (1 + beta) * ell / (1 + beta - (1 - beta) * ell)
        classical = (1 + beta) * ell / ((1 - beta) * (1 + beta - ell))
        np.testing.assert_allclose(floor(1 - beta, "direction"), along)
        np.testing.assert_allclose(floor(1.0, "direction"), along)
        np.testing.assert_allclose(floor(1 - beta, "fresh"), normalised)
        np.testing.assert_allclose(floor(1.0, "fresh"), classical)

    def test_the_floor_along_the_direction(self):
        """The closed form of `eq:floor`, and its bound."""
        beta, ell = 0.5, 0.7
        theory = HeavyBall(beta, 1 - beta, "direction")
        alpha, floor = (of(ell, VALUES, NOISE) for of in (theory.rate, theory.floor))
        power = NOISE.sum()
        closed = (1 - ell * beta) / (4 * (1 - beta) * (1 - ell)) * alpha * power
        np.testing.assert_allclose(floor, closed)
        mean = VALUES @ NOISE / power
        assert floor < (1 + beta) * ell / (1 - ell) * power / (2 * mean)

    def test_edges(self):
        found = [
            HeavyBall(0.9, w, a).edge for w in (1.0, 0.1) for a in ("direction", "fresh")
        ]
        np.testing.assert_allclose(found, [1, 1.9, 1, 19])


class TestEdges:
    def test_they_are_measured(self, tmp_path, monkeypatch):
        """Around the edge of plain descent with one eigenvalue, which is exact."""
        monkeypatch.setattr(edges, "CASES", edges.CASES[:1])
        monkeypatch.setattr(edges, "_BOUND", 10.0)
        monkeypatch.setattr(edges, "_SHARES", (0.0, 0.0, 0.5, *[0.0] * 3, 4.0))
        problem = Tracked(NoisyQuadratic(3, 1.0, noise=0.1))
        bench = Bench("quadratic", SETTINGS["quadratic"], problem, tmp_path, quick=True)
        data = edges.ask(bench)
        np.testing.assert_allclose(data.eigenvalues, 1)
        np.testing.assert_allclose(data.noise, 0.01, rtol=1e-6)
        for bounded in (data.bounded, data.bounded_still):
            np.testing.assert_array_equal(bounded.squeeze(), [True, False])
        assert np.isfinite(data.loss).squeeze().values.tolist() == [True, False]

    def results(self, edge):
        """Of all cases as the theory has it, but for the place of the edge."""
        shares = np.array([0.5, 0.9, 1.1, 1.3])
        loss = [
            [
                case.theory.floor(share * case.theory.edge, VALUES, NOISE)
                if share < edge
                else np.nan
                for share in np.minimum(shares, 0.95)
            ]
            for case in edges.CASES
        ]
        bounded = np.tile(shares < edge, (len(edges.CASES), 1))[..., None]
        loss = np.where(bounded, np.array(loss)[..., None], np.nan)
        dims = ("strategy", "share", "seed")
        return xr.Dataset(
            {
                "loss": (dims, 1.1 * loss),
                "bounded": (dims, bounded),
                "bounded_still": (dims, bounded),
                "ascent": (dims[:2], np.zeros(bounded.shape[:2])),
                "eigenvalues": ("mode", VALUES),
                "noise": ("mode", NOISE),
            },
            {"strategy": [case.name for case in edges.CASES], "share": shares, "seed": [0]},
            {"steps": "7", "label": "quadratic"},
        )

    def test_theory_and_measurement(self):
        found = edges.conclude({"quadratic": self.results(1.0)})
        assert found.numbers["EdgesLongError"] == found.numbers["EdgesShortWorst"]
        assert found.numbers["EdgesLongError"] == r"10\,\%"
        ends = [found.numbers[f"EdgesLong{end}"] for end in ("Lower", "Upper")]
        assert ends == ["0.900", "1.10"]
        assert "19.0 & 17.1 to 20.9" in found.tables["edges"]
        assert set(found.figures) == {"edges"}

    def test_another_edge_is_seen(self):
        numbers = edges.conclude({"quadratic": self.results(1.2)}).numbers
        assert [numbers[f"EdgesLong{e}"] for e in ("Lower", "Upper")] == ["1.10", "1.30"]

    def test_an_edge_between_seeds(self):
        """Where some seeds are bounded it is neither one thing nor the other."""
        seeds = [[True, True], [True, False], [False, True], [False, False]]
        bounded = xr.DataArray(seeds, dims=("ell", "seed"))
        assert edges._edge(np.array([1.0, 2.0, 3.0, 4.0]), bounded) == (1.0, 4.0)


ELLS = 2.0 ** np.arange(-4, 4)

WHICH = ("direction", "policy", "schedule")


def results(best, tuned=1.0):
    """Losses that are parabolas in the logarithm of ell, of the same depth but for one
    policy's; from 10 at the start."""
    asked = memory._ASKED
    middle = np.array([best.get(policy, 1.0) for _, policy, _ in asked])
    away = np.log2(ELLS) - np.log2(middle)[:, None]
    depth = np.array([0.8 if policy == SIGNED else 1.0 for _, policy, _ in asked])
    loss = (depth[:, None] + 0.1 * away**2)[..., None] + [-0.1, 0.1]
    dims = ("strategy", "ell", "seed")
    coords = {name: ("strategy", list(of)) for name, of in zip(WHICH, zip(*asked))}
    return xr.Dataset(
        {
            "train_loss": (dims, loss),
            "start": (dims, np.full_like(loss, 10.0)),
            "gradient_equivalents": (dims, np.full_like(loss, 160.0)),
            "ascent": (dims[:2], np.full(away.shape, 0.25)),
            "tuned": ("strategy", np.full(len(asked), tuned)),
        },
        {"ell": ELLS, "seed": [0, 1], **coords},
        {"metric": "train_loss", "steps": "100", "label": "MLP, somewhere"},
    )


class TestMemory:
    def test_one_value_for_all_directions(self):
        """A policy of the same scale as plain descent's loses nothing; another does."""
        found = memory.conclude({"a": results({DIRECTION_LONG: 4.0}), "b": results({})})
        numbers = found.numbers
        assert numbers["MemorySettings"] == "2"
        assert numbers["MemoryLeast"] == numbers["MemorySteady"]
        assert numbers["MemoryLeast"] == "direction, signed, 0.99"
        assert numbers["MemoryLeastCommon"] == "1"
        assert numbers["MemoryDirectionLongHighest"] == "4"
        assert numbers["MemoryDirectionLongAscentAdam"] == r"25\,\%"
        assert numbers["MemoryFreshShortCostAdam"] == "1.60"
        rows = found.tables["memory-common"].splitlines()
        assert any(r.startswith("direction, 0.99 & 1 to 4 & 4.0 &") for r in rows)
        assert numbers["MemoryDirectionLongConstantHighest"] == "4"
        assert set(found.figures) == {"memory"}
        assert len(rows) == 7 + 6

    def test_what_is_lost_is_counted_from_the_lowest_loss(self):
        """Which a raw learning rate may have reached."""
        for tuned, lost in ((0.8, 0.2 / 9.2), (0.1, 0.9 / 9.9), (5.0, 0.2 / 9.2)):
            tries = memory.tries({"a": results({}, tuned)}, "Adam", COSINE)
            np.testing.assert_allclose(tries[FRESH]["a"].lost.min(), lost)
            np.testing.assert_allclose(tries[FRESH]["a"].relative, 1 / tuned)
            least = min(tuned, 0.8)
            share = (tuned - least) / (10 - least)
            np.testing.assert_allclose(tries[FRESH]["a"].tuned_lost, share, atol=1e-12)

    def test_few_values(self):
        """A quick run has few of everything."""
        few = results({}).isel(ell=slice(2, None, 4), seed=[0])
        found = memory.conclude({"a": few})
        assert r"\rlap{*}" in found.tables["memory-best"]

    def test_the_best_raw_rate_is_kept(self, monkeypatch, tmp_path):
        loss = np.array([[[3.0, 5.0], [1.0, 2.0]], [[1.0, 9.0], [2.0, 4.0]]])
        dims = ("strategy", "learning_rate", "seed")
        tried = xr.Dataset(
            {"train_loss": (dims, loss)}, {"strategy": ["constant", "cosine"]}
        )
        monkeypatch.setattr(Bench, "rates", lambda self, name, which, values: tried)
        monkeypatch.setattr(Bench, "outcomes", lambda self, data: data)
        bench = Bench("mlp", SETTINGS["mlp"], Rosenbrock(), tmp_path, quick=True)
        found = memory._tuned(bench)
        assert found["Adam", "constant"] == 1.5 and found["SGD", "cosine"] == 3.0

    def test_far_values_where_the_edge_is_far(self, tmp_path, monkeypatch):
        def sweep(self, study, families):
            assert study == "scales"  # which other questions share
            return xr.Dataset(
                {"last": ("strategy", [f.values["ell"][-1] for f in families.values()])},
                {"strategy": list(families)},
            )

        monkeypatch.setattr(Bench, "sweep", sweep)
        bench = Bench("mlp", SETTINGS["mlp"], Rosenbrock(), tmp_path, quick=True)
        policies = (("SGD", FRESH), ("Momentum", FRESH), ("Momentum", DIRECTION_LONG))
        data = scales(bench, [(*which, COSINE) for which in policies])
        assert data["last"].values.tolist() == [8.0, 32.0, 8.0]
        assert data.policy.values.tolist() == [FRESH, FRESH, DIRECTION_LONG]

    def test_in_the_plane_one_half_is_the_minimiser(self):
        rule = POLICIES[PLANE]("Adam", None)(ell=0.5).line_search
        assert isinstance(rule, GrowthLimited) and isinstance(rule.inner, LearningRate)
        assert rule.inner.learning_rate == 1.0
