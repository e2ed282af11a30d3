import itertools

import numpy as np
import pytest
import scipy.stats

from curvopt import statistics


def test_sign_flip_test_against_all_flips_by_hand():
    d = np.array([0.3, -0.1, 0.5, 0.2, 0.4])
    flips = np.array(list(itertools.product([1, -1], repeat=5)))
    means = (flips * d).mean(axis=1)
    expected = (np.abs(means) >= abs(d.mean()) - 1e-12).mean()
    assert statistics.sign_flip_test(d) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 5, 8, 12])
def test_sign_flip_test_cannot_go_below_its_floor(n):
    d = np.linspace(1, 2, n)
    assert statistics.sign_flip_test(d) == pytest.approx(2 / 2**n)


def test_sign_flip_test_of_nothing():
    assert statistics.sign_flip_test(np.zeros(6)) == 1.0
    assert statistics.sign_flip_test([0.3]) == 1.0


def test_holm_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    # Sorted: .005 x 4, .01 x 3, .03 x 2, .04 x 1 made no smaller than .06.
    np.testing.assert_allclose(statistics.holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.holm([0.9, 0.8]), [1.0, 1.0])


def test_bca_interval_is_scipy_s():
    x = np.random.default_rng(1).exponential(size=20)
    low, high = statistics.bca_interval(x)
    direct = scipy.stats.bootstrap((x,), np.mean, method="BCa", rng=3).confidence_interval
    np.testing.assert_allclose([low, high], [direct.low, direct.high], rtol=0.05)
    assert (low, high) == statistics.bca_interval(x)
    narrow = statistics.bca_interval(x, 0.5)
    assert low < narrow[0] < x.mean() < narrow[1] < high


def test_degenerate_intervals():
    assert statistics.bca_interval([0.2, 0.2, 0.2]) == (0.2, 0.2)
    rounded = [0.3 - 0.1, 0.2, 1.2 - 1.0]
    low, high = statistics.bca_interval(rounded)
    assert low == min(rounded) and high == max(rounded)
    assert statistics.bca_interval([0.2]) == (-np.inf, np.inf)


@pytest.mark.parametrize("m, n", [(1, 8), (6, 8), (9, 9), (36, 11), (100, 12)])
def test_seeds_needed(m, n):
    assert statistics.seeds_needed(m) == n
    assert m * 2 / 2**n < 0.05


def test_interquartile_mean():
    assert statistics.interquartile_mean([0, 1, 2, 100]) == 1.5


def test_time_to_target():
    curves = [[3.0, 2.0, 1.0, 2.0], [3.0, np.nan, 2.5, 2.2], [3.0, 0.5, np.inf, 0.1]]
    np.testing.assert_array_equal(statistics.time_to_target(curves, 1.0), [2, np.inf, 1])
    np.testing.assert_array_equal(
        statistics.time_to_target(curves, 2.0, [0, 10, 20, 30]), [10, np.inf, 10]
    )


def test_compare_paired_claims_what_both_tests_see():
    rng = np.random.default_rng(0)
    base = rng.normal(1, 0.1, 8)
    family = {
        "better": (base - 0.05 + rng.normal(0, 0.005, 8), base),
        "same": (base + rng.normal(0, 0.02, 8), base),
        "identical": (base, base),
        "worse": (base + 0.2, base),
    }
    out = statistics.compare_paired(family)
    assert {name for name, c in out.items() if c.holds} == {"better", "worse"}
    assert out["better"].mean_difference < 0 < out["worse"].mean_difference
    assert out["better"].low < out["better"].mean_difference < out["better"].high < 0
    assert (out["identical"].low, out["identical"].high) == (0, 0)
    assert out["identical"].p_value == 1
    for c in out.values():
        assert c.family == 4 and c.seeds == 8 and c.p_adjusted >= c.p_value


def test_too_few_seeds_claim_nothing():
    (c,) = statistics.compare_paired({"a": ([1.0, 1.1, 1.2], [2.0, 2.1, 2.3])}).values()
    assert not c.enough_seeds and not c.holds


class TestBadInput:
    def test_values_that_are_not_finite(self):
        with pytest.raises(ValueError, match="1 of its 2 values are not.*final_metric"):
            statistics.bca_interval([1.0, np.inf])
        with pytest.raises(ValueError, match="must be finite"):
            statistics.compare_paired({"a": ([1.0, np.nan], [1.0, 1.0])})

    def test_pairs_of_different_length(self):
        with pytest.raises(ValueError, match="they have 2 and 3 values"):
            statistics.compare_paired({"a": ([1.0, 2.0], [1.0, 2.0, 3.0])})

    def test_p_values_outside_their_range(self):
        with pytest.raises(ValueError, match="between 0 and 1"):
            statistics.holm([0.1, 1.2])
