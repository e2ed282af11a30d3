"""Lines on which the exact step is known, and rules led along them."""

import equinox as eqx
import jax.numpy as jnp

import curvopt
from curvopt import Line


MATRIX = jnp.diag(jnp.array([1.0, 4.0]))
Y = jnp.array([2.0, -1.0])


def quadratic(y):
    return 0.5 * y @ MATRIX @ y


def line_of(fn=quadratic, y=Y, direction=None, fresh=None):
    model = curvopt.quadratic_model(lambda y, _: fn(y), y)
    direction = -model.grad if direction is None else direction
    return Line(y, direction, direction if fresh is None else fresh, model)


@eqx.filter_jit
def steps_of(rule, fn, points, directions=None):
    """The step sizes and infos of a rule that is led over given points."""
    state = rule.init(points[0])
    out = []
    for k, y in enumerate(points):
        direction = None if directions is None else directions[k]
        tau, info, state = rule.step(line_of(fn, y, direction), jnp.array(k), state)
        out.append((tau, info))
    return out


def exact(y=Y):
    """The exact step along the negative gradient."""
    g = MATRIX @ y
    return (g @ g) / (g @ MATRIX @ g)
