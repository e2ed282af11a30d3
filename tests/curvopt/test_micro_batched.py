"""A large batch in micro-batches is the large batch."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import curvopt
from strategies import Adam, BacktrackingArmijo, CurvatureRescaling, HyperplaneSearch, SGD


def supervised(width=5, depth=2, batch_size=24, activation=jnp.tanh):
    x = jr.normal(jr.key(0), (batch_size, 3), jnp.result_type(float))
    network = lambda key: eqx.nn.MLP(3, 4, width, depth, activation, key=key)
    return curvopt.SupervisedProblem(
        curvopt.EquinoxModel(network),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        train=(x, jr.randint(jr.key(1), (batch_size,), 0, 4)),
        batch_size=batch_size,
        metrics={"accuracy": lambda z, labels: z.argmax(-1) == labels},
        penalty=lambda y: 1e-2 * optax.tree.norm(y, squared=True),
    )


METHODS = {
    "adjoint": curvopt.AdjointCurvature(),
    "forward": curvopt.ForwardCurvature(),
    "Gauss-Newton": curvopt.GaussNewtonCurvature(),
    "two products": curvopt.AdjointCurvature(products="two"),
    "hvp": curvopt.HvpCurvature(),
    "finite difference": curvopt.FiniteDifferenceCurvature(),
}
SLOW = ("forward", "two products", "hvp", "finite difference")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in METHODS]
)
def test_the_large_batch(name, x64):
    """Value, gradient and metrics, and the curvature against the dense Hessian (that of
    the large batch for Gauss-Newton, which is another one)."""
    problem, method = supervised(depth=1), METHODS[name]
    y, state = eqx.filter_jit(problem.init)(jr.key(2))
    args = eqx.filter_jit(problem.batch)(jr.key(3), jnp.array(0)), state, jr.key(4)
    flat, unravel = jax.flatten_util.ravel_pytree(y)
    u = jr.normal(jr.key(5), flat.shape, jnp.float64)

    def measured(loss):
        model = curvopt.quadratic_model(loss, y, args, method, has_aux=True)
        return model.value, model.grad, model.aux, model.curvature(unravel(u))

    @jax.jit
    def reference():
        (value, aux), grad = jax.value_and_grad(problem.loss, has_aux=True)(y, args)
        hessian = jax.hessian(lambda v: problem.loss(unravel(v), args)[0])(flat)
        return value, grad, aux, u @ hessian @ u

    exact = name != "Gauss-Newton"
    large = reference() if exact else jax.jit(lambda: measured(problem.loss))()
    parts = jax.jit(lambda: measured(curvopt.MicroBatched(problem, 4).loss))()
    rtol = 1e-5 if name == "finite difference" else 1e-10
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol), parts, large
    )


def test_state_and_randomness(stateful):
    """Batch norm and dropout: the state goes through the micro-batches in order, each has
    randomness of its own, and no derivative goes through the state."""
    problem, key = curvopt.MicroBatched(stateful, 4), jr.key(1)
    y, state = problem.init(jr.key(0))
    x, z = problem.batch(key, jnp.array(0))

    @jax.jit
    def by_hand(y):
        own, losses, noise = state, [], []
        for k in range(4):
            args = (x[k::4], z[k::4]), own, jr.fold_in(key, k)
            loss, (own, metrics) = stateful.loss(y, args)
            own = jax.tree.map(lambda x: x, jax.lax.stop_gradient(own))
            losses.append(loss)
            noise.append(metrics["noise"])
        return jnp.mean(jnp.stack(losses)), (own, jnp.mean(jnp.stack(noise)))

    @jax.jit
    def measured(y):
        model = curvopt.quadratic_model(problem.loss, y, ((x, z), state, key), has_aux=True)
        return model.value, model.grad, model.aux

    (loss, (after, noise)), own = jax.value_and_grad(by_hand, has_aux=True)(y)
    value, grad, (new_state, metrics) = measured(y)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["noise"], noise, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    before = jax.tree.leaves(state)
    for a, b in zip(jax.tree.leaves(new_state), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    changed = [not np.array_equal(a, b) for a, b in zip(before, jax.tree.leaves(after))]
    assert any(changed)


class _Sum(curvopt.AbstractProblem):
    """A loss whose gradient is one, on as many examples."""

    size: int = eqx.field(static=True)

    def init(self, key):
        return jnp.zeros((), jnp.bfloat16), None

    def batch(self, key, count):
        return jnp.ones(self.size, jnp.bfloat16)

    def loss(self, params, args):
        return jnp.mean(args[0].astype(jnp.float32)) * params, (None, {})

    def evaluate(self, params, model_state):
        return {"train_loss": params}

    @property
    def steps_per_epoch(self):
        return 1


def test_gradients_in_half_precision_add_up():
    """Guards against a sum in bfloat16, which ends at 256 equal terms."""
    problem = curvopt.MicroBatched(_Sum(1024), 1024)
    args = problem.batch(jr.key(0), jnp.array(0)), None, jr.key(0)
    grad = jax.grad(lambda y: problem.loss(y, args)[0])(jnp.zeros((), jnp.bfloat16))
    assert grad.dtype == jnp.bfloat16 and grad == 1


@pytest.mark.slow
def test_memory():
    """A loop that kept its activations would need as much as the batch at once."""
    problem = supervised(width=16, depth=6, batch_size=4096)
    y, state = problem.init(jr.key(2))
    args = problem.batch(jr.key(3), jnp.array(0)), state, jr.key(4)

    def curvature(loss, y, args):
        model = curvopt.quadratic_model(loss, y, args, has_aux=True)
        return model.value, model.grad, model.curvature(model.grad)

    analysed = lambda p: curvopt.cost.compile_and_analyse(curvature, p.loss, y, args)
    large, small = analysed(problem), analysed(curvopt.MicroBatched(problem, 16))
    assert small.temporary_bytes < large.temporary_bytes / 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "direction, line_search",
    [
        (Adam(), CurvatureRescaling(0.5, average=0.9, along="fresh")),
        (HyperplaneSearch((SGD(),)), BacktrackingArmijo()),
    ],
)
def test_in_a_study(regression, direction, line_search):
    """The same course as with the batch at once, in lanes, whatever the rule evaluates."""
    solver = curvopt.LineSearchMinimiser(direction, line_search)
    options = {"seeds": 2, "steps": 6, "evaluations": 2, "progress": False}
    execution = curvopt.Execution(lanes_at_once=2, workers=1)
    run = lambda p: curvopt.run_study(p, {"a": solver}, execution=execution, **options)
    large, small = run(regression), run(curvopt.MicroBatched(regression, 2))
    np.testing.assert_allclose(small.train_loss, large.train_loss, rtol=1e-3)
    np.testing.assert_allclose(small.loss, large.loss, rtol=1e-3)
    # A metric is a mean: half of the sum that the whole batch has.
    np.testing.assert_allclose(2 * small.batch_seen, large.batch_seen, rtol=1e-3)


@pytest.mark.slow
def test_data_from_the_host():
    """Around a problem whose batches come from the host, with an average around it."""
    x = np.asarray(jr.normal(jr.key(0), (24, 3)))
    z = np.asarray(jr.randint(jr.key(1), (24,), 0, 4))

    def problem(train, **options):
        return curvopt.SupervisedProblem(
            curvopt.EquinoxModel(lambda key: eqx.nn.MLP(3, 4, 5, 1, key=key)),
            loss=optax.softmax_cross_entropy_with_integer_labels,
            train=train,
            validation=(x, z),
            **options,
        )

    host = problem(curvopt.HostData.from_arrays((x, z), batch_size=8))
    device = problem((x, z), batch_size=8)
    solver = curvopt.LineSearchMinimiser(Adam(), CurvatureRescaling(along="fresh"))

    def losses(problem):
        around = curvopt.MicroBatched(problem, 2)
        run = curvopt.train(around, solver, jr.key(0), steps=5, progress=False)
        return run.history.loss, run.history.validation_loss

    for a, b in zip(losses(host), losses(device)):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_refused(regression, unchecked):
    args = regression.batch(jr.key(0), jnp.array(0)), None, jr.key(0)
    y, _ = regression.init(jr.key(0))
    with pytest.raises(ValueError, match=r"must divide .* it is 3 .*\(8, 3\)"):
        curvopt.MicroBatched(regression, 3).loss(y, args)
    uneven = (jnp.zeros((8, 3)), jnp.zeros(4)), None, jr.key(0)
    with pytest.raises(ValueError, match=r"shapes \(8, 3\), \(4,\)"):
        curvopt.MicroBatched(regression, 2).loss(y, uneven)
    with pytest.raises(ValueError, match="shapes \\(\\)"):
        curvopt.MicroBatched(regression, 1).loss(y, (jnp.zeros(()), None, jr.key(0)))
    with pytest.raises(ValueError, match="micro_batches must be an integer of at least 1"):
        curvopt.MicroBatched(regression, 0)
