import jax
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

import curvopt


@pytest.mark.parametrize(
    "size, batch_size", [(1, 1), (2, 1), (10, 3), (64, 8), (1000, 128)]
)
def test_an_epoch_draws_without_replacement(size, batch_size):
    steps = size // batch_size

    def draw(count):
        return curvopt.minibatch_indices(jr.key(1), count, size=size, batch_size=batch_size)

    batches = np.asarray(jax.jit(jax.vmap(draw))(np.arange(3 * steps)))
    for drawn in batches.reshape(3, -1):
        assert drawn.min() >= 0 and drawn.max() < size
        assert len(np.unique(drawn)) == steps * batch_size


def test_epochs_and_keys_shuffle_anew():
    draw = lambda seed, count: np.asarray(
        curvopt.minibatch_indices(jr.key(seed), count, size=500, batch_size=500)
    )
    assert (draw(0, 0) == draw(0, 0)).all()
    assert (draw(0, 0) != draw(0, 1)).mean() > 0.95
    assert (draw(0, 0) != draw(1, 0)).mean() > 0.95


@pytest.mark.parametrize("size", [6, 37])
def test_every_example_is_as_likely_at_every_position(size):
    """A chi-squared test of the table (position, example) over 4,000 keys."""
    keys = jr.split(jr.key(0), 4000)
    draw = lambda key: curvopt.minibatch_indices(key, 0, size=size, batch_size=size)
    orders = np.asarray(jax.jit(jax.vmap(draw))(keys))
    table = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    expected = len(keys) / size
    statistic = ((table - expected) ** 2 / expected).sum()
    # Rows and columns both sum to the number of keys.
    assert scipy.stats.chi2.sf(statistic, (size - 1) ** 2) > 1e-4
    # Pairs: neighbours of an epoch's order are independent of each other.
    pairs = np.bincount(orders[:, 0] * size + orders[:, 1], minlength=size**2)
    pairs = pairs.reshape(size, size)[~np.eye(size, dtype=bool)]
    expected = len(keys) / (size * (size - 1))
    statistic = ((pairs - expected) ** 2 / expected).sum()
    assert scipy.stats.chi2.sf(statistic, pairs.size - 1) > 1e-4


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="it is 11 and there are 10"):
        curvopt.minibatch_indices(jr.key(0), 0, size=10, batch_size=11)


@pytest.mark.parametrize("size, batch_size", [(0, 1), (5, 0), (5, -1)])
def test_counts_below_one(size, batch_size):
    with pytest.raises(ValueError, match="at least 1"):
        curvopt.minibatch_indices(jr.key(0), 0, size=size, batch_size=batch_size)
