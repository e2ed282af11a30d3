import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from experiments.data import load_subset
from experiments.problems import MLPClassifier
from strategies import Adam, LearningRate


def test_the_classifier():
    problem = MLPClassifier(load_subset(), width=16, depth=1, batch_size=64)
    params, model_state = problem.init(jr.key(0))
    assert model_state is None
    images, labels = problem.batch(jr.key(1), jnp.array(3))
    assert images.shape == (64, 28, 28) and labels.shape == (64,)
    loss, (_, metrics) = problem.loss(params, ((images, labels), None, jr.key(0)))
    # An untrained classifier of ten classes knows nothing.
    np.testing.assert_allclose(loss, np.log(10), atol=0.5)
    assert 0 <= metrics["accuracy"] <= 1
    evaluated = problem.evaluate(params, None)
    assert set(evaluated) == {
        f"{a}_{b}" for a in ("train", "test") for b in ("loss", "accuracy")
    }
    assert problem.steps_per_epoch == 187


def test_it_learns_what_is_known_to_be_learnable():
    """A linear classifier reaches about 84 % on the full set; a small network on a part
    of it should come near within two epochs."""
    problem = MLPClassifier(load_subset(), width=32, depth=1)
    solver = curvopt.LineSearchMinimiser(Adam(), LearningRate(3e-3))
    result = curvopt.train(
        problem, solver, jr.key(0), steps=180, evaluations=1, progress=False
    )
    assert result.history.test_accuracy[-1] > 0.78
    assert jax.tree.all(jax.tree.map(lambda p: jnp.isfinite(p).all(), result.params))


def test_batch_larger_than_the_data():
    with pytest.raises(ValueError, match="it is 12001 and fashion-mnist-subset has 12000"):
        MLPClassifier(load_subset(), batch_size=12_001)
