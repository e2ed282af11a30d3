"""Problems that are solved in a moment: linear and small networks, analytic functions,
an optimal control."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import curvopt
from experiments.data import Images
from experiments.problems import (
    LogisticRegression,
    MLPClassifier,
    NoisyQuadratic,
    Pendulum,
    PROBLEMS,
    Rosenbrock,
)
from strategies import Backtracking, CurvatureRescaling, LBFGS


@pytest.fixture(scope="module")
def tiny():
    """Four classes of images, of 3 x 2 pixels."""
    rng = np.random.default_rng(0)
    images = lambda n: rng.integers(0, 256, (n, 3, 2), np.uint8)
    labels = lambda n: (np.arange(n) % 4).astype(np.uint8)
    return Images("tiny", images(40), labels(40), images(12), labels(12))


@eqx.filter_jit
def _init(problem, key):
    return problem.init(key)


@eqx.filter_jit
def _loss(problem, params, data):
    return problem.loss(params, (data, None, jr.key(3)))


@eqx.filter_jit
def _evaluate(problem, params):
    return problem.evaluate(params, None)


def _solved(problem, steps):
    solver = curvopt.LineSearchMinimiser(LBFGS(), Backtracking(CurvatureRescaling()))
    return curvopt.train(
        problem, solver, jr.key(0), steps=steps, evaluations=1, progress=False
    )


def _gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


CLASSIFIERS = {
    "logistic": (LogisticRegression, lambda x: x),
    "gelu": (lambda images, **more: MLPClassifier(images, 5, 1, **more), _gelu),
    "relu": (
        lambda images, **more: MLPClassifier(images, 5, 1, activation=jax.nn.relu, **more),
        lambda x: np.maximum(x, 0),
    ),
}


@pytest.mark.parametrize(
    "case",
    ["gelu", *(pytest.param(n, marks=pytest.mark.slow) for n in ("logistic", "relu"))],
)
def test_classifiers_by_hand(case, tiny):
    make, activation = CLASSIFIERS[case]
    problem = make(tiny, batch_size=8)
    assert problem.steps_per_epoch == 5
    params, _ = _init(problem, jr.key(0))
    others, _ = _init(problem, jr.key(1))
    assert not np.array_equal(*(jax.tree.leaves(p)[0] for p in (params, others)))
    # Far from zero, where an activation hardly shows.
    params = jax.tree.map(lambda p: 3 * p, params)
    matrices = [np.asarray(p, float) for p in jax.tree.leaves(params)]

    def by_hand(images, labels):
        pixels = tiny.train_images.astype(float)
        z = ((images - pixels.mean()) / pixels.std()).reshape(len(images), -1)
        for k in range(0, len(matrices), 2):
            z = (activation(z) if k else z) @ matrices[k].T + matrices[k + 1]
        losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]
        return {"loss": losses.mean(), "accuracy": (z.argmax(axis=1) == labels).mean()}

    expected = {
        f"{part}_{name}": value
        for part, batch in {
            "train": (tiny.train_images, tiny.train_labels),
            "test": (tiny.test_images, tiny.test_labels),
        }.items()
        for name, value in by_hand(*batch).items()
    }
    assert _evaluate(problem, params) == pytest.approx(expected, rel=1e-4)

    data = problem.batch(jr.key(2), jnp.array(3))
    loss, (_, metrics) = _loss(problem, params, data)
    found = {"loss": loss, **metrics}
    assert found == pytest.approx(by_hand(*map(np.asarray, data)), rel=1e-4)


def test_gauss_newton_sees_the_output(tiny):
    """It is the Hessian itself where the model is linear, and else it is not."""

    def curvatures(problem):
        params, _ = _init(problem, jr.key(0))
        args = problem.batch(jr.key(1), jnp.array(0)), None, jr.key(2)
        u = jax.tree.map(
            lambda p: jnp.sin(1.0 + jnp.arange(p.size)).reshape(p.shape), params
        )

        @eqx.filter_jit
        def along(method):
            model = curvopt.quadratic_model(problem.loss, params, args, method, True)
            return model.curvature(u)

        return along(curvopt.AdjointCurvature()), along(curvopt.GaussNewtonCurvature())

    exact, gauss_newton = curvatures(LogisticRegression(tiny, batch_size=8))
    np.testing.assert_allclose(gauss_newton, exact, rtol=1e-5)
    exact, gauss_newton = curvatures(MLPClassifier(tiny, 5, 1, batch_size=8))
    assert gauss_newton > 0 and abs(gauss_newton - exact) > 0.01 * gauss_newton


def test_named_variants(monkeypatch):
    images = Images(
        "one", *2 * (np.zeros((200, 12, 12), np.uint8), np.zeros(200, np.uint8))
    )
    monkeypatch.setattr("experiments.problems.load_subset", lambda: images)
    made: Any = lambda name: PROBLEMS[f"fashion-subset-{name}"](None)
    assert "<function gelu>" in repr(made("mlp"))
    assert "relu" in repr(made("mlp-relu")) and "gelu" not in repr(made("mlp-relu"))
    assert "AvgPool2d" in repr(made("lenet")) and "MaxPool2d" in repr(made("lenet-relu"))


ANALYTIC = {
    "quadratic": NoisyQuadratic,
    "rosenbrock": Rosenbrock,
    "pendulum": Pendulum,
}


@pytest.mark.parametrize("name", ANALYTIC)
def test_analytic_problems(name):
    """Seeds differ in the start alone, and the loss of a step is what is evaluated."""
    problem = PROBLEMS[name](None)
    assert type(problem) is ANALYTIC[name] and problem.steps_per_epoch == 1
    params, model_state = _init(problem, jr.key(0))
    assert model_state is None and params.dtype == jnp.float32
    assert not np.array_equal(params, _init(problem, jr.key(1))[0])
    data = problem.batch(jr.key(2), jnp.array(0))
    loss, (state, metrics) = _loss(problem, params, data)
    assert state is None and metrics == {}
    assert loss == pytest.approx(_evaluate(problem, params)["train_loss"])


def test_quadratic():
    problem = NoisyQuadratic(5, 81.0)
    np.testing.assert_allclose(problem.eigenvalues, [1 / 81, 1 / 27, 1 / 9, 1 / 3, 1])
    y = jnp.array([3.0, 0.0, 0.0, 0.0, 4.0])
    metrics = _evaluate(problem, y)
    assert metrics == pytest.approx({"train_loss": 9 / 162 + 8, "distance": 5})
    starts = jax.vmap(lambda key: problem.init(key)[0])(jr.split(jr.key(0), 4000))
    losses = jax.vmap(lambda y: _evaluate(problem, y)["train_loss"])(starts)
    assert losses.mean() == pytest.approx(1, rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, steps", [(lambda: NoisyQuadratic(5, 81.0), 20), (Rosenbrock, 60)]
)
def test_they_are_solved(make, steps):
    assert _solved(make(), steps).history.distance[-1] < 1e-3


@pytest.mark.parametrize("white", [False, True])
def test_noise(white):
    problem = NoisyQuadratic(3, 100.0, noise=0.5, white=white)
    counts = jnp.arange(20_000)
    noise = np.asarray(jax.vmap(lambda k: problem.batch(jr.key(0), k))(counts))
    variances = 0.25 * np.array([1, 1, 1] if white else [0.01, 0.1, 1])
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    scales = np.sqrt(np.outer(variances, variances))
    np.testing.assert_allclose(np.cov(noise.T) / scales, np.eye(3), atol=0.04)

    y = jnp.array([1.0, 2.0, 3.0])
    loss = lambda y: problem.loss(y, (jnp.asarray(noise[7]), None, jr.key(0)))[0]
    expected = problem.eigenvalues * y + noise[7]
    np.testing.assert_allclose(jax.grad(loss)(y), expected, rtol=1e-5)
    with_noise = loss(y) - _evaluate(problem, y)["train_loss"]
    assert with_noise == pytest.approx(float(noise[7] @ y), rel=1e-4)
    assert np.array_equal(problem.batch(jr.key(0), jnp.array(7)), noise[7])
    assert not np.array_equal(problem.batch(jr.key(1), jnp.array(7)), noise[7])


def test_rosenbrock():
    problem = Rosenbrock(5, perturbation=0.0)
    start, _ = problem.init(jr.key(0))
    np.testing.assert_allclose(start, [-1.2, 1, -1.2, 1, -1.2])
    y = [float(x) for x in start]
    by_hand = sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(y))
    distance = math.dist(y, [1] * 5)
    metrics = _evaluate(problem, start)
    assert metrics == pytest.approx({"train_loss": by_hand, "distance": distance})


def test_pendulum_by_hand():
    problem = Pendulum(4, horizon=2.0, limit=0.3, penalty=7.0)
    params, _ = problem.init(jr.key(0))
    y, h = np.asarray(params, float), 0.5
    rates = np.stack([y[:, 1], 0.3 * np.tanh(y[:, 2] / 0.3) - np.sin(y[:, 0])], axis=1)
    defects = np.stack(
        [y[k + 1, :2] - y[k, :2] - h / 2 * (rates[k] + rates[k + 1]) for k in range(4)]
    )
    effort = sum(h / 4 * (y[k, 2] ** 2 + y[k + 1, 2] ** 2) for k in range(4))
    missed = np.hypot(y[-1, 0] - np.pi, y[-1, 1])
    squares = (defects**2).sum() / h + (y[0, :2] ** 2).sum() + missed**2
    expected = {
        "train_loss": effort + 7 / 2 * squares,
        "effort": effort,
        "largest_defect": np.abs(defects).max(),
        "distance_to_upright": missed,
    }
    assert _evaluate(problem, params) == pytest.approx(expected, rel=1e-5)

    guess, _ = Pendulum(4, horizon=2.0, perturbation=0.0).init(jr.key(0))
    np.testing.assert_allclose(guess[:, 0], np.pi * np.arange(5) / 4, rtol=1e-6)
    np.testing.assert_allclose(guess[:, 1:], [[np.pi / 2, 0]] * 5, rtol=1e-6)


def test_blocks_of_the_hessian(x64):
    n = 6
    problem = Pendulum(n)
    params, _ = problem.init(jr.key(0))
    loss = lambda y: problem.loss(y, (None, None, jr.key(0)))[0]
    dense = jax.jit(jax.hessian(loss))(params)
    diagonal, above = eqx.filter_jit(problem.hessian_blocks)(params)
    assert diagonal.shape == (n + 1, 3, 3) and above.shape == (n, 3, 3)
    k = np.arange(n)
    found = np.zeros((n + 1, 3, n + 1, 3))
    found[np.arange(n + 1), :, np.arange(n + 1)] = diagonal
    found[k, :, k + 1] = above
    found[k + 1, :, k] = np.swapaxes(above, 1, 2)
    np.testing.assert_allclose(found, dense, rtol=1e-12, atol=1e-9)


@pytest.mark.slow
def test_the_pendulum_swings_up():
    """Not in the unknowns alone: with the controls that are found, in the simulation."""
    problem = Pendulum()
    result = _solved(problem, 1500)
    last = {
        name: float(result.history[name][-1])
        for name in ("largest_defect", "distance_to_upright", "effort")
    }
    assert last["largest_defect"] < 1e-3 and last["distance_to_upright"] < 5e-3
    angles, _, controls = np.asarray(result.params, float).T
    # The motor is too weak to lift it at once.
    assert angles.min() < -0.5

    def rate(x, u):
        return np.array([x[1], 0.5 * np.tanh(u / 0.5) - np.sin(x[0])])

    x, h = np.zeros(2), 10 / 50 / 10
    u = np.interp(np.arange(0, 10 + h / 4, h / 2), np.linspace(0, 10, 51), controls)
    for k in range(0, len(u) - 1, 2):
        a = rate(x, u[k])
        b = rate(x + h / 2 * a, u[k + 1])
        c = rate(x + h / 2 * b, u[k + 1])
        d = rate(x + h * c, u[k + 2])
        x = x + h / 6 * (a + 2 * b + 2 * c + d)
    assert abs(x[0] - np.pi) < 0.3


_no_function: Any = "relu"
BAD = {
    "activation": (
        lambda: MLPClassifier(_images(), batch_size=2, activation=_no_function),
        "activation must be a function, such as jax.nn.relu .* it is 'relu'",
    ),
    "batch": (
        lambda: LogisticRegression(_images(), batch_size=5),
        "batch_size must be at most .* it is 5",
    ),
    "dimension": (lambda: NoisyQuadratic(0), "dimension .* it is 0"),
    "condition": (lambda: NoisyQuadratic(condition=0.5), "condition .* it is 0.5"),
    "noise": (lambda: NoisyQuadratic(noise=-1.0), "noise .* it is -1"),
    "one unknown": (lambda: Rosenbrock(1), "dimension must be at least 2, but it is 1"),
    "perturbation": (lambda: Rosenbrock(perturbation=-1.0), "perturbation .* it is -1"),
    "intervals": (lambda: Pendulum(0), "intervals .* it is 0"),
    "horizon": (lambda: Pendulum(horizon=0.0), "horizon must be above 0, but it is 0"),
    "limit": (lambda: Pendulum(limit=-1.0), "limit must be above 0, but it is -1"),
    "penalty": (lambda: Pendulum(penalty=0.0), "penalty must be above 0, but it is 0"),
    "guess": (lambda: Pendulum(perturbation=-1.0), "perturbation .* it is -1"),
}


def _images():
    return Images("four", *2 * (np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.uint8)))


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case, unchecked):
    make, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        make()
