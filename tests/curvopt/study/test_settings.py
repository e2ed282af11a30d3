"""What people turn on in jax, with studies, `tune` and `train`."""

import contextlib

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from strategies import Backtracking, CurvatureRescaling, LearningRate, SGD


def sgd(learning_rate):
    return curvopt.LineSearchMinimiser(SGD(), LearningRate(learning_rate))


GUARDED = curvopt.LineSearchMinimiser(SGD(), Backtracking(CurvatureRescaling()))


def study(problem, folder=None, seeds=2):
    strategies = {"SGD": curvopt.Family(sgd, learning_rate=[0.1, 0.3]), "own": GUARDED}
    asked = curvopt.Study(problem, strategies, seeds=seeds, steps=3, evaluations=1)
    return asked.run(folder, progress=False)


@contextlib.contextmanager
def configured(**settings):
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


SETTINGS = {
    # Each raises by itself.
    "checks": dict(jax_debug_nans=True, jax_debug_key_reuse=True),
    "strict": dict(jax_numpy_dtype_promotion="strict", jax_numpy_rank_promotion="raise"),
    "rbg": dict(jax_default_prng_impl="rbg"),
}


@pytest.mark.parametrize(
    "setting",
    ["checks", *(pytest.param(k, marks=pytest.mark.slow) for k in ("strict", "rbg"))],
)
@pytest.mark.slow
def test_all_works(setting, regression, tmp_path):
    expected = study(regression, seeds=3)
    with configured(**SETTINGS[setting]):
        study(regression, tmp_path)
        data = study(regression, tmp_path, seeds=3)
        tuning = curvopt.tune(
            regression,
            {"SGD": sgd},
            {"learning_rate": [0.1, 0.3]},
            metric="train_loss",
            seeds=2,
            reported_seeds=[7],
            steps=3,
            progress=False,
        )
        trained = curvopt.train(regression, GUARDED, jr.key(0), steps=3, progress=False)
    # The same numbers: of 2 seeds and 1 more, as of 3 at once, but for the width.
    np.testing.assert_allclose(data.loss, expected.loss, rtol=1e-4)
    assert np.isfinite(trained.history.loss).all()
    assert tuning.values["learning_rate"] in (0.1, 0.3)


@pytest.mark.slow
def test_strict_promotion_in_float64(x64, stateful):
    with configured(jax_numpy_dtype_promotion="strict"):
        assert np.isfinite(study(stateful).loss).all()


def test_what_users_call_under_strict_promotion(x64):
    a = [jnp.array([3.0], jnp.float64), jnp.array([4.0], jnp.float32)]
    with jax.numpy_dtype_promotion("strict"):
        assert curvopt.tree_norm(a) == 5 and curvopt.tree_norm(a).dtype == jnp.float64
        assert curvopt.safe_divide(a[0], a[1]) == 0.75
        assert [x.dtype for x in curvopt.tree_zeros(a)] == [x.dtype for x in a]


def test_what_is_not_compiled_is_refused(regression):
    with jax.disable_jit(), pytest.raises(ValueError, match="jax_disable_jit is on.*Turn"):
        curvopt.train(regression, GUARDED, jr.key(0), steps=3, progress=False)
