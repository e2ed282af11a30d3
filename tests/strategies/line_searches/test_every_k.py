import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import curvopt
from strategies import CurvatureRescaling, EveryK, LearningRate, SGD, StepTuned


CALLS: list[int] = []


class Counting(curvopt.AbstractLineSearch):
    """A rescaling that says, at run time, when it asks for the curvature."""

    def init(self, y):
        return jnp.zeros((), jnp.int32)

    def step(self, line, count, state):
        curvature = line.curvature()
        jax.debug.callback(lambda c, _: CALLS.append(int(c)), count, curvature)
        info = curvopt.StepInfo(curvature=curvature, curvatures=1)
        return -line.slope / curvature, info, state + 1


SCALES = jnp.array([1.0, 4.0, 10.0])


def loss(y: Array, _) -> tuple[Array, None]:
    return 0.5 * jnp.sum(SCALES * y**2) + 0.1 * jnp.sum(y**4), None


def run(solver, y, steps):
    def body(carry, count):
        y, strategy = carry
        y, strategy, record, _ = solver.update(loss, y, None, count, strategy)
        return (y, strategy), record

    start = (y, solver.init_strategy(y, jax.random.key(0)))
    return jax.lax.scan(body, start, jnp.arange(steps))[1]


@pytest.mark.parametrize("lanes", [None, 3])
def test_the_sweep_is_skipped_at_run_time(lanes):
    """Not only its result: a branch, under vmap too, because the lanes share the count."""
    CALLS.clear()
    solver = curvopt.LineSearchMinimiser(SGD(), EveryK(Counting(), 4))
    one = lambda y: run(solver, y, 10)
    if lanes is None:
        record = jax.jit(one)(jnp.ones(3))
    else:
        record = jax.jit(jax.vmap(one))(jnp.ones((lanes, 3)))
    jax.effects_barrier()
    assert sorted(CALLS) == sorted([0, 4, 8] * (lanes or 1))
    asked = np.arange(10) % 4 == 0
    np.testing.assert_array_equal(
        np.broadcast_to(asked, record.info.curvatures.shape), record.info.curvatures == 1
    )
    assert np.isnan(np.asarray(record.info.curvature)[..., ~asked]).all()
    steps = np.asarray(record.step_size)
    np.testing.assert_array_equal(steps[..., 1:4], np.repeat(steps[..., :1], 3, axis=-1))


def test_every_step_is_the_inner_rule(dtype):
    y = jnp.ones(3, dtype)
    alone = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(average=0.5))
    every = curvopt.LineSearchMinimiser(SGD(), EveryK(CurvatureRescaling(average=0.5), 1))
    a, b = run(alone, y, 5), run(every, y, 5)
    np.testing.assert_allclose(a.step_size, b.step_size, rtol=1e-6)


def test_a_rule_of_two_steps_is_refused():
    """It would see every second half-step only, and never adapt."""
    with pytest.raises(ValueError, match="inner must look at single steps, but StepTuned"):
        EveryK(StepTuned(0.1), 2)


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_k_is_a_count(k, unchecked):
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        EveryK(LearningRate(0.1), k)


@pytest.mark.parametrize(
    "inner, remedy", [(LearningRate, r"call it, LearningRate\("), (0.1, "but it is 0.1")]
)
def test_inner_is_a_line_search(inner, remedy, unchecked):
    with pytest.raises(ValueError, match=remedy):
        EveryK(inner, 2)
