"""Test functions of the literature, each from its standard start.

MGH: Moré, Garbow & Hillstrom, Testing unconstrained optimization software, ACM Trans.
Math. Softw. 7(1), 1981, cited with the number of the function. They are sums of squares
without a half; values at the starts and minima are tested.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.nn as jnn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Scalar

from ..problems import rosenbrock
from ._problem import Problem


def extended_rosenbrock(y: Float[Array, " n"], args: None) -> Scalar:
    """Independent pairs of Rosenbrock's function, MGH 21."""
    del args
    a, b = y[::2], y[1::2]
    return jnp.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2)


def beale(y: Float[Array, " 2"], args: None) -> Scalar:
    """MGH 5."""
    del args
    a, b = y
    return jnp.sum((jnp.array([1.5, 2.25, 2.625]) - a * (1 - b ** jnp.arange(1, 4))) ** 2)


def himmelblau(y: Float[Array, " 2"], args: None) -> Scalar:
    """Four minima of the same value: Himmelblau, Applied Nonlinear Programming, 1972."""
    del args
    a, b = y
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def booth(y: Float[Array, " 2"], args: None) -> Scalar:
    """A quadratic of condition 9: Jamil & Yang, arXiv 1308.4008, function 17."""
    del args
    a, b = y
    return (a + 2 * b - 7) ** 2 + (2 * a + b - 5) ** 2


def bowl(y: Float[Array, " n"], args: Float[Array, "n n"]) -> Scalar:
    """A quadratic with a given Hessian."""
    return y @ (args @ y) / 2


def powell_singular(y: Float[Array, " 4"], args: None) -> Scalar:
    """A function whose Hessian is singular at the minimum, MGH 13."""
    del args
    a, b, c, d = y
    return (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4


def wood(y: Float[Array, " 4"], args: None) -> Scalar:
    """A function with a saddle point on the way, MGH 14."""
    del args
    a, b, c, d = y
    valleys = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return valleys + 10 * (b + d - 2) ** 2 + (b - d) ** 2 / 10


def helical_valley(y: Float[Array, " 3"], args: None) -> Scalar:
    """A valley along a helix, MGH 7."""
    del args
    a, b, c = y
    turn = jnp.arctan2(b, a) / (2 * jnp.pi)
    return 100 * ((c - 10 * turn) ** 2 + (jnp.sqrt(a**2 + b**2) - 1) ** 2) + c**2


def box(y: Float[Array, " 3"], args: None) -> Scalar:
    """Box's three-dimensional function with 10 residuals, MGH 12."""
    del args
    a, b, c = y
    t = jnp.arange(1, 11) / 10
    residuals = jnp.exp(-t * a) - jnp.exp(-t * b) - c * (jnp.exp(-t) - jnp.exp(-10 * t))
    return jnp.sum(residuals**2)


def brown_dennis(y: Float[Array, " 4"], args: None) -> Scalar:
    """A function with 20 large residuals, MGH 16."""
    del args
    a, b, c, d = y
    t = jnp.arange(1, 21) / 5
    first, second = a + t * b - jnp.exp(t), c + d * jnp.sin(t) - jnp.cos(t)
    return jnp.sum((first**2 + second**2) ** 2)


def penalty(y: Float[Array, " n"], args: None) -> Scalar:
    """The first penalty function, MGH 23: badly scaled."""
    del args
    return 1e-5 * jnp.sum((y - 1) ** 2) + (jnp.sum(y**2) - 0.25) ** 2


_Data = tuple[Float[Array, " m"], Float[Array, " m"]]


def kowalik_osborne(y: Float[Array, " 4"], args: _Data) -> Scalar:
    """A rational fit, MGH 15."""
    a, b, c, d = y
    u, measured = args
    return jnp.sum((measured - a * (u**2 + u * b) / (u**2 + u * c + d)) ** 2)


def osborne(y: Float[Array, " 5"], args: _Data) -> Scalar:
    """A sum of two exponentials, MGH 17: Osborne's first function."""
    a, b, c, d, e = y
    t, measured = args
    return jnp.sum((measured - (a + b * jnp.exp(-t * d) + c * jnp.exp(-t * e))) ** 2)


def tanh_regression(y: PyTree[Array], args: _Data) -> Scalar:
    """Half the mean squared error of a network with one hidden tanh layer, plus 1e-3 of
    half the squared norm."""
    inner, offset, outer = y
    x, measured = args
    fitted = jnp.tanh(x[:, None] * inner + offset) @ outer
    squares = sum(jnp.sum(leaf**2) for leaf in y)
    return jnp.mean((fitted - measured) ** 2) / 2 + 1e-3 * squares / 2


def logistic_regression(y: Float[Array, " n"], args: tuple[Array, Array]) -> Scalar:
    """The logistic loss of two classes, plus 1e-3 of half the squared norm."""
    x, signs = args
    return jnp.mean(jnn.softplus(-signs * (x @ y))) + 1e-3 * (y @ y) / 2


def _hessian(condition: float, n: int) -> Array:
    """A matrix with eigenvalues from 1 to the condition number, evenly spaced in the
    logarithm, and random eigenvectors."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    return jnp.asarray((q * np.geomspace(1, condition, n)) @ q.T)


def _kowalik_osborne_data() -> _Data:
    u = "4 2 1 .5 .25 .167 .125 .1 .0833 .0714 .0625"
    y = ".1957 .1947 .1735 .16 .0844 .0627 .0456 .0342 .0323 .0235 .0246"
    return _numbers(u), _numbers(y)


def _osborne_data() -> _Data:
    y = """.844 .908 .932 .936 .925 .908 .881 .85 .818 .784 .751 .718 .685 .658 .628 .603
    .58 .558 .538 .522 .506 .49 .478 .467 .457 .448 .438 .431 .424 .42 .414 .411 .406"""
    return jnp.arange(33) * 10.0, _numbers(y)


def _numbers(text: str) -> Array:
    return jnp.array([float(word) for word in text.split()])


def _tanh_start() -> tuple[PyTree[Array], _Data]:
    rng, hidden = np.random.default_rng(0), 4
    x = np.linspace(-2, 2, 100)
    measured = np.sin(2 * x) + 0.1 * rng.normal(size=100)
    y0 = rng.normal(size=hidden), rng.normal(size=hidden), rng.normal(size=hidden)
    return jax.tree.map(jnp.asarray, (y0, (x, measured)))


def _logistic_start() -> tuple[Array, tuple[Array, Array]]:
    rng, unknowns = np.random.default_rng(0), 20
    x = rng.normal(size=(200, unknowns)) * np.geomspace(0.1, 10, unknowns)
    signs = np.sign(x @ rng.normal(size=unknowns) + 5 * rng.normal(size=200))
    return jnp.zeros(unknowns), (jnp.asarray(x), jnp.asarray(signs))


def _at(
    *y0: int | float, args: Callable[[], Any] = lambda: None, repeat: int = 1
) -> Callable:
    return lambda: (jnp.tile(jnp.array(y0, float), repeat), args())


CLASSIC = {
    problem.name: problem
    for problem in (
        Problem("rosenbrock", rosenbrock, _at(-1.2, 1), 0.0),
        Problem("rosenbrock-10", rosenbrock, _at(-1.2, 1, repeat=5), 0.0),
        Problem("rosenbrock-100", extended_rosenbrock, _at(-1.2, 1, repeat=50), 0.0),
        Problem("beale", beale, _at(1, 1), 0.0),
        Problem("himmelblau", himmelblau, _at(1, 1), 0.0),
        Problem("booth", booth, _at(0, 0), 0.0),
        Problem("bowl", bowl, _at(1, repeat=50, args=lambda: _hessian(1e1, 50)), 0.0),
        Problem("steep-bowl", bowl, _at(1, repeat=50, args=lambda: _hessian(1e4, 50)), 0.0),
        Problem("powell-singular", powell_singular, _at(3, -1, 0, 1), 0.0),
        Problem("wood", wood, _at(-3, -1, -3, -1), 0.0),
        Problem("helical-valley", helical_valley, _at(-1, 0, 0), 0.0),
        Problem("box", box, _at(0, 10, 20), 0.0),
        Problem("brown-dennis", brown_dennis, _at(25, 5, -5, -1), 85822.2016),
        Problem("penalty", penalty, _at(*range(1, 11)), 7.08765e-5),
        Problem(
            "kowalik-osborne",
            kowalik_osborne,
            _at(0.25, 0.39, 0.415, 0.39, args=_kowalik_osborne_data),
            3.07505e-4,
        ),
        Problem(
            "osborne",
            osborne,
            _at(0.5, 1.5, -1, 0.01, 0.02, args=_osborne_data),
            5.46489e-5,
        ),
        Problem("tanh-regression", tanh_regression, _tanh_start),
        Problem("logistic-regression", logistic_regression, _logistic_start),
    )
}
