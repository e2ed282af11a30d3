import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curvopt
from curvopt import Line


def make_line(y, direction, fresh=None, fn=lambda y: jnp.sum(y**3)):
    model = curvopt.quadratic_model(lambda y, _: fn(y), y)
    return Line(y, direction, direction if fresh is None else fresh, model)


def test_a_line_is_the_loss_along_the_direction(dtype):
    y, u = jnp.array([1.0, 2.0], dtype), jnp.array([-1.0, 0.5], dtype)
    line = make_line(y, u)
    phi = lambda t: jnp.sum((y + t * u) ** 3)
    t = jnp.array(0.3, dtype)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5)
    close(line.value, phi(0.0))
    close(line.slope, jax.grad(phi)(0.0))
    close(line.curvature(), jax.grad(jax.grad(phi))(0.0))
    close(line.at(t), phi(t))
    close(line.slope_at(t), jax.grad(phi)(t))
    close(line.grad_at(t), 3 * (y + t * u) ** 2)
    close(line.grad, 3 * y**2)
    close(line.point(t), y + t * u)
    assert line.at(t).dtype == line.slope.dtype == dtype


def test_a_trial_has_the_gradient_where_it_is_wanted(dtype):
    y, u = jnp.array([1.0, 2.0], dtype), jnp.array([-1.0, 0.5], dtype)
    line = make_line(y, u)
    at = lambda t, least: line.trial(jnp.array(t), lambda value: value > least)
    wanted, unwanted = at(0.3, 0.0), at(0.3, 100.0)
    assert wanted.value == unwanted.value == line.at(jnp.array(0.3, dtype))
    np.testing.assert_array_equal(wanted.grad, line.grad_at(jnp.array(0.3, dtype)))
    np.testing.assert_allclose(wanted.slope, wanted.grad @ u, rtol=1e-6)
    assert np.isnan(unwanted.slope) and not unwanted.grad.any()
    assert jax.tree.map(jnp.shape, line.start) == jax.tree.map(jnp.shape, wanted)
    assert line.start.slope == line.slope and line.start.step_size == 0
    assert {x.dtype for x in jax.tree.leaves((line.start, wanted))} == {jnp.dtype(dtype)}


def test_the_size_of_a_rounding_error(dtype):
    line = make_line(jnp.array([-10.0], dtype), jnp.ones(1, dtype))
    assert line.rounding == 1000 * jnp.finfo(dtype).eps


def test_the_fresh_line():
    line = make_line(jnp.ones(2), jnp.array([-1.0, 0.0]), jnp.array([0.0, -2.0]))
    assert line.slope == -3 and line.fresh.slope == -6
    assert line.fresh.fresh.slope == -6


def test_the_line_along_another_vector():
    line = make_line(jnp.array([1.0]), jnp.array([-1.0])).along(jnp.array([2.0]))
    assert line.slope == line.fresh.slope == 6
    assert line.curvature() == 24


def test_points_are_computed_in_float32_and_cast_back():
    """In bfloat16 the sum itself would be rounded at each operation."""
    y = {"a": jnp.array(1.0, jnp.bfloat16), "b": jnp.array(1.0, jnp.float32)}
    u = {"a": jnp.array(3.0, jnp.float32), "b": jnp.array(3.0, jnp.bfloat16)}
    line = make_line(y, u, fn=lambda y: y["a"].astype(jnp.float32) * y["b"])
    point = line.point(jnp.array(1 / 3 + 1e-3))
    assert point["a"].dtype == jnp.bfloat16 and point["b"].dtype == jnp.float32
    assert float(point["a"]) == 2.0 and float(point["b"]) == pytest.approx(2.003)
    assert line.curvature() == 2 * 3 * 3
