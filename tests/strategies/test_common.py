"""Every direction with every line search, through the same checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt
from strategies import (
    Adam,
    BacktrackingArmijo,
    CDAT,
    CurvatureRescaling,
    EveryK,
    LearningRate,
    Momentum,
    RMSProp,
    SGD,
)


DIRECTIONS = {
    "SGD": SGD(),
    "Momentum": Momentum(),
    "Momentum, classical": Momentum(dampening=0),
    "Momentum, Nesterov": Momentum(0.5, nesterov=True),
    "RMSProp": RMSProp(),
    "Adam": Adam(),
}
LINE_SEARCHES = {
    "LearningRate": LearningRate(0.1),
    "LearningRate, scheduled": LearningRate(0.1, lambda count: 0.99**count),
    "CurvatureRescaling": CurvatureRescaling(),
    "CurvatureRescaling, fresh": CurvatureRescaling(
        0.25, average=0.9, along="fresh", growth=1.5, first=0.1
    ),
    "CDAT": CDAT(1.0),
    "EveryK": EveryK(CurvatureRescaling(0.25, average=0.5), 3),
    "BacktrackingArmijo": BacktrackingArmijo(),
}
STEPS = 40


def parameters(dtype):
    """Three starts; a leaf in half precision beside the others."""
    start = lambda k: {
        "a": jnp.array([1.0, -2.0, 0.5], dtype) * (k + 1),
        "b": jnp.full((2, 2), 0.5 + k, jnp.bfloat16),
    }
    return jax.tree.map(lambda *xs: jnp.stack(xs), *(start(k) for k in range(3)))


def quadratic(y, scales):
    a, b = y["a"], y["b"].astype(jnp.float32)
    return 0.5 * jnp.sum(scales * a**2) + jnp.sum((b - 0.25) ** 2), jnp.sum(a)


@pytest.mark.parametrize("rule", LINE_SEARCHES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_pair(direction, rule, dtype):
    solver = curvopt.LineSearchMinimiser(DIRECTIONS[direction], LINE_SEARCHES[rule])
    traces = 0

    def run(y, scales):
        nonlocal traces
        traces += 1
        strategy = solver.init_strategy(y, jax.random.key(0))

        def body(carry, count):
            y, strategy = carry
            y, strategy, *row = solver.update(quadratic, y, scales, count, strategy)
            return (y, strategy), tuple(row)

        (y, _), (record, aux) = jax.lax.scan(body, (y, strategy), jnp.arange(STEPS))
        return y, record, aux

    starts, scales = parameters(dtype), jnp.array([1.0, 4.0, 10.0], dtype)
    jitted = jax.jit(run)
    one = lambda k: jitted(jax.tree.map(lambda x: x[k], starts), scales)
    looped = [one(k) for k in range(3)]
    again = one(0)
    one_trace = traces
    vmapped = jax.jit(jax.vmap(run, in_axes=(0, None)))(starts, scales)

    # Nothing is traced twice, and the same input gives the same output, bit for bit.
    assert one_trace == 1
    for a, b in zip(jax.tree.leaves(looped[0]), jax.tree.leaves(again)):
        np.testing.assert_array_equal(a, b)

    y, record, aux = jax.tree.map(lambda *xs: jnp.stack(xs), *looped)
    # Dtypes are kept: a strong float64 number promotes no parameter.
    assert y["a"].dtype == dtype and y["b"].dtype == jnp.bfloat16
    assert record.loss.dtype == record.step_size.dtype == dtype
    # Finite and non-negative steps, finite losses.
    assert np.isfinite(record.loss).all() and np.isfinite(record.step_size).all()
    assert (record.step_size >= 0).all() and (record.step_size > 0).mean() > 0.5
    # What was measured is recorded, and only that.
    asked = record.info.curvatures > 0
    np.testing.assert_array_equal(np.isfinite(record.info.curvature), asked)
    # Auxiliary output is that of the point where the step began.
    np.testing.assert_allclose(aux[:, 0], starts["a"].sum(axis=1), rtol=1e-5)
    # Progress: the problem is convex, and every pair is set up to descend.
    assert (record.loss[:, -1] < 0.5 * record.loss[:, 0]).all()

    # vmapped equals looped, seed by seed: step sizes of the first half of the run, for
    # in the end rounding decides, and half precision rounds coarsely.
    got, expected = vmapped[1].step_size, record.step_size
    np.testing.assert_allclose(got[:, :10], expected[:, :10], rtol=2e-2)
    np.testing.assert_allclose(
        vmapped[1].loss[:, :10], record.loss[:, :10], rtol=2e-2, atol=1e-4
    )
