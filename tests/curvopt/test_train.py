import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from strategies import (
    BacktrackingArmijo,
    Clipped,
    CurvatureRescaling,
    HyperplaneSearch,
    LearningRate,
    Momentum,
    SGD,
    StepTuned,
)


RESCALED = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(0.5, average=0.9))


def test_training_makes_progress_and_keeps_its_history(regression):
    result = curvopt.train(
        regression, RESCALED, jr.key(1), steps=60, evaluations=3, progress=False
    )
    history = result.history
    assert history.sizes == {"step": 60, "evaluation_step": 4}
    np.testing.assert_array_equal(history.evaluation_step, [0, 20, 40, 60])
    losses = history.train_loss.values
    assert losses[-1] < 0.5 * losses[0]
    final = regression.evaluate(result.params, result.model_state)["train_loss"]
    np.testing.assert_allclose(losses[-1], final, rtol=1e-6)
    assert (history.evaluated_curvatures == 1).all()
    assert np.isfinite(history.step_size).all()
    # A value-and-gradient and a curvature at every step.
    costs = curvopt.cost.EvaluationCosts(regression, RESCALED.curvature)
    each = costs.of_direction(SGD()) + costs["curvature"]
    np.testing.assert_allclose(history.gradient_equivalents[-1], 60 * each, rtol=1e-6)
    assert 1.2 < each < 2.5


def test_a_plain_loop_gives_the_same(regression):
    """Against a loop that anyone can read: optax-like SGD on the same batches."""
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))
    result = curvopt.train(
        regression, solver, jr.key(3), steps=9, evaluations=1, progress=False
    )
    init_key, batch_key, _, _ = jr.split(jr.key(3), 4)
    params, _ = regression.init(init_key)
    for k in range(9):
        data = regression.batch(batch_key, k)
        loss = lambda p, data=data: regression.loss(p, (data, None, jr.key(0)))[0]
        value, grad = jax.value_and_grad(loss)(params)
        np.testing.assert_allclose(result.history.loss[k], value, rtol=1e-5)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grad)
    for a, b in zip(jax.tree.leaves(result.params), jax.tree.leaves(params)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_two_steps_on_a_batch(regression):
    """What StepTuned asks for, within wrappers too: pairs of steps see the same data."""
    solver = curvopt.LineSearchMinimiser(SGD(), Clipped(StepTuned(0.1)))
    result = curvopt.train(regression, solver, jr.key(0), steps=6, progress=False)
    seen = result.history.batch_seen.values.reshape(3, 2)
    np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
    assert len(np.unique(seen)) == 3
    other = curvopt.train(regression, RESCALED, jr.key(0), steps=3, progress=False)
    np.testing.assert_array_equal(other.history.batch_seen, seen[:, 0])


def test_a_curvature_that_the_direction_asks_for_is_paid(regression):
    """A plane's matrix is part of the cost in gradients."""
    plane = HyperplaneSearch((SGD(), Momentum()))
    costs = curvopt.cost.EvaluationCosts(regression, curvopt.AdjointCurvature())
    both = costs.of_direction(plane)
    assert both > costs.of_direction(SGD()) + costs["curvature"]
    solver = curvopt.LineSearchMinimiser(plane, LearningRate(0.5))
    history = curvopt.train(regression, solver, jr.key(0), steps=4, progress=False).history
    np.testing.assert_allclose(history.gradient_equivalents[-1], 4 * both)


def test_chunks_do_not_change_the_numbers(regression):
    runs = [
        curvopt.train(
            regression,
            RESCALED,
            jr.key(1),
            steps=11,
            execution=curvopt.Execution(chunk=c),
            evaluations=1,
            progress=False,
        ).history.loss.values
        for c in (1, 4, 50)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])


@pytest.mark.parametrize("rule", [BacktrackingArmijo(), CurvatureRescaling()])
def test_batch_norm_and_dropout(rule, stateful):
    """The state moves once a step, however many trials the search makes; the
    randomness is new at each step, and the same within it."""
    solver = curvopt.LineSearchMinimiser(SGD(), rule)
    result = curvopt.train(
        stateful, solver, jr.key(0), steps=5, evaluations=1, progress=False
    )
    noise = result.history.batch_noise.values
    assert len(np.unique(noise)) == 5
    assert np.isfinite(result.history.loss).all()

    # By hand: the parameters that training visited, and the state kept from each.
    init_key, _, loss_key, _ = jr.split(jr.key(0), 4)
    params, state = stateful.init(init_key)
    strategy = solver.init_strategy(params, jr.key(0))
    for k in range(5):
        args = (stateful.batch(None, k), state, jr.fold_in(loss_key, k))
        fresh = jax.tree.map(lambda x: x, args)
        _, (expected, _) = stateful.loss(params, fresh)
        params, strategy, record, (state, _) = eqx.filter_jit(solver.update)(
            stateful.loss, params, args, jnp.array(k), strategy
        )
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.history.loss[k], record.loss, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(result.model_state), jax.tree.leaves(state)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_dropout_is_the_same_in_every_evaluation_of_a_step(stateful):
    """With fresh dropout in each trial the loss at t = 0 would differ from the value."""
    seen = []

    class Probe(curvopt.AbstractLineSearch):
        def init(self, y):
            del y

        def step(self, line, count, state):
            del count
            jax.debug.callback(
                lambda *a: seen.append(a), line.value, line.at(jnp.zeros(()))
            )
            return jnp.array(0.01), curvopt.StepInfo(losses=1), state

    solver = curvopt.LineSearchMinimiser(SGD(), Probe())
    curvopt.train(stateful, solver, jr.key(0), steps=4, evaluations=1, progress=False)
    jax.effects_barrier()
    assert len(seen) == 4
    for value, again in seen:
        np.testing.assert_allclose(value, again, rtol=1e-6)


@pytest.mark.parametrize("name", ["steps", "evaluations"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_one(regression, name, value):
    counts = {"steps": 2, "evaluations": 1} | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        curvopt.train(regression, RESCALED, jr.key(0), progress=False, **counts)


@pytest.mark.parametrize("key", [0, np.array([0, 1], np.uint32), jr.split(jr.key(0))])
def test_what_is_no_key(regression, key, unchecked):
    with pytest.raises(ValueError, match="key must be one typed random key"):
        curvopt.train(regression, RESCALED, key, steps=1, progress=False)
