"""The average of the parameters, evaluated beside them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from strategies import BacktrackingArmijo, LearningRate, Momentum, SGD


SOLVER = curvopt.LineSearchMinimiser(Momentum(), LearningRate(0.2))


# The weights of the points, from the latest to the first, up to a factor.
AVERAGES = {
    "decay": (dict(decay=0.6), lambda n: 0.6 ** np.arange(n)),
    "uniform": (dict(window=1.0), np.ones),
    "a window of half of the steps": (dict(window=0.5), lambda n: np.arange(n, 0.0, -1)),
}


@pytest.mark.parametrize("average", AVERAGES)
def test_it_is_the_weighted_mean_of_all_points(regression, average):
    steps, points = 5, []
    options, weighted = AVERAGES[average]
    problem = curvopt.AveragedParameters(regression, **options)
    result = curvopt.train(
        problem,
        SOLVER,
        jr.key(3),
        steps=steps,
        evaluations=steps,
        progress=False,
        on_evaluation=lambda e: points.append(e.params()),
    )
    for n in range(1, steps + 2):
        weights = weighted(n)[::-1]
        mean = jax.tree.map(
            lambda *xs, w=weights: sum(a * x for a, x in zip(w, xs)) / w.sum(), *points[:n]
        )
        np.testing.assert_allclose(
            result.history.averaged_train_loss[n - 1],
            regression.evaluate(mean, None)["train_loss"],
            rtol=1e-4,
        )
    own = problem.average(result.params, result.model_state)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrapped", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_steps_do_not_see_it(regression, wrapped):
    """Neither its value nor its derivative; in lanes and around micro-batches too."""
    solver = curvopt.LineSearchMinimiser(SGD(), BacktrackingArmijo())
    plain = curvopt.MicroBatched(regression, 2) if wrapped else regression
    options = {"seeds": 2, "steps": 6, "evaluations": 3, "progress": False}
    study = lambda problem: curvopt.run_study(problem, {"a": solver}, **options)
    bare, both = study(plain), study(curvopt.AveragedParameters(plain, decay=0.5))
    np.testing.assert_allclose(both.loss, bare.loss, rtol=1e-5)
    np.testing.assert_allclose(both.train_loss, bare.train_loss, rtol=1e-5)
    start, *later = np.moveaxis(both.averaged_train_loss.values, -1, 0)
    np.testing.assert_array_equal(start, both.train_loss.isel(evaluation_step=0))
    assert not np.isclose(later, both.train_loss.values[..., 1:].T).any()


@pytest.mark.slow
def test_a_model_with_a_state(stateful):
    """Batch norm's state is passed on; an `equinox.nn.State` is used only once."""
    problem = curvopt.AveragedParameters(stateful, decay=0.5)
    run = lambda p: curvopt.train(p, SOLVER, jr.key(0), steps=3, progress=False)
    plain, both = run(stateful), run(problem)
    before = jax.tree.leaves(plain.model_state)
    after = jax.tree.leaves(both.model_state.model_state)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert (both.history.averaged_size != both.history.size).any()


class _Half(curvopt.AbstractProblem):
    def init(self, key):
        return {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2)}, None

    def batch(self, key, count):
        return jr.normal(jr.fold_in(key, count), (2,))

    def loss(self, params, args):
        wide = params["a"].astype(jnp.float32) - args[0]
        return jnp.sum(wide**2) + jnp.sum(params["b"] ** 2), (None, {})

    def evaluate(self, params, model_state):
        return {"size": curvopt.tree_norm(params)}

    @property
    def steps_per_epoch(self):
        return 1


def test_half_precision():
    """Guards against an average in bfloat16, which stands still at a decay near one."""
    problem = curvopt.AveragedParameters(_Half(), decay=0.999)
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))
    result = curvopt.train(problem, solver, jr.key(0), steps=4, progress=False)
    state = result.model_state
    assert {x.dtype for x in jax.tree.leaves(state.average)} == {jnp.dtype("float32")}
    average = problem.average(result.params, state)
    assert jax.tree.map(lambda x: x.dtype, average) == jax.tree.map(
        lambda x: x.dtype, result.params
    )


def test_bad_arguments(regression, unchecked):
    with pytest.raises(ValueError, match="decay must be at least 0 and at most 1"):
        curvopt.AveragedParameters(regression, decay=1.1)
    with pytest.raises(ValueError, match="a window or a decay, but not both: they are 0.5"):
        curvopt.AveragedParameters(regression, window=0.5, decay=0.5)
    with pytest.raises(ValueError, match="problem must be an instance of curvopt"):
        curvopt.AveragedParameters(SGD())
