"""The solver as an Optimistix user knows solvers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
import pytest

import curvopt
from strategies import (
    Adam,
    Backtracking,
    BacktrackingArmijo,
    CurvatureRescaling,
    DisplacementMomentum,
    EveryK,
    ForwardGradient,
    FromDescent,
    FromOptax,
    GeneralizedNewton,
    GrowthLimited,
    HessianAwareScaling,
    HyperplaneSearch,
    LastStep,
    LBFGS,
    LearningRate,
    Momentum,
    NonlinearCG,
    Polyak,
    SGD,
    StochasticArmijo,
    StrongWolfe,
)


def bowl(y, args):
    matrix, centre = args
    return 0.5 * (y - centre) @ matrix @ (y - centre)


ARGS = (jnp.diag(jnp.array([1.0, 10.0])), jnp.array([1.0, -2.0]))
SOLVER = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())


def test_minimise():
    solution = optx.minimise(bowl, SOLVER, jnp.zeros(2), ARGS)
    assert solution.result == optx.RESULTS.successful
    np.testing.assert_allclose(solution.value, ARGS[1], atol=1e-4)
    assert solution.stats["loss"] < 1e-8
    assert 3 < solution.stats["num_steps"] < 256


def test_every_step_is_an_update():
    step = optx.minimise(
        bowl,
        curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1)),
        jnp.zeros(2),
        ARGS,
        max_steps=1,
        throw=False,
    )
    np.testing.assert_allclose(step.value, -0.1 * jax.grad(bowl)(jnp.zeros(2), ARGS))


def test_has_aux_is_evaluated_at_the_solution():
    fn = lambda y, args: (bowl(y, args), {"y": y, "count": jnp.array(3)})
    solution = optx.minimise(fn, SOLVER, jnp.zeros(2), ARGS, has_aux=True)
    np.testing.assert_array_equal(solution.aux["y"], solution.value)
    assert solution.aux["count"] == 3


def test_parameters_are_any_pytree():
    fn = lambda y, _: (y["a"] - 1) ** 2 + jnp.sum((y["b"][0] + 2) ** 2)
    y0 = {"a": jnp.array(0.0), "b": (jnp.ones((2, 2)),)}
    solution = optx.minimise(fn, SOLVER, y0)
    np.testing.assert_allclose(solution.value["a"], 1, atol=1e-4)
    np.testing.assert_allclose(solution.value["b"][0], -2, atol=1e-4)


def test_max_steps_and_throw():
    slow = curvopt.LineSearchMinimiser(SGD(), LearningRate(1e-4))
    solution = optx.minimise(bowl, slow, jnp.zeros(2), ARGS, max_steps=5, throw=False)
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached
    assert solution.stats["num_steps"] == 5
    with pytest.raises(Exception, match="maximum number of steps"):
        optx.minimise(bowl, slow, jnp.zeros(2), ARGS, max_steps=5)


def test_verbose():
    seen = []

    def record(**kwargs):
        names = [name for name, _ in kwargs.values()]
        jax.debug.callback(lambda loss: seen.append(float(loss)), kwargs["loss"][1])
        assert names == ["Step", "Loss", "Step size", "Slope", "Curvature"]

    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(), verbose=record)
    solution = optx.minimise(bowl, solver, jnp.zeros(2), ARGS)
    jax.effects_barrier()
    assert len(seen) == solution.stats["num_steps"]
    assert sorted(seen, reverse=True)[0] == pytest.approx(bowl(jnp.zeros(2), ARGS))


def test_verbose_prints(capfd):
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(), verbose=True)
    optx.minimise(bowl, solver, jnp.zeros(2), ARGS, max_steps=2, throw=False)
    jax.effects_barrier()
    assert "Step: 1, Loss: " in capfd.readouterr().out


def test_loss_that_is_not_finite_at_the_start():
    fn = lambda y, _: jnp.log(y) + y
    with pytest.raises(Exception, match="[Nn]onfinite"):
        optx.minimise(fn, SOLVER, jnp.array(-1.0))
    solution = optx.minimise(fn, SOLVER, jnp.array(-1.0), throw=False)
    assert solution.result == optx.RESULTS.nonfinite
    assert solution.value == -1.0 and solution.stats["num_steps"] == 1


class OneTrial(curvopt.AbstractGradientSearch):
    def search(self, line, count, state):
        return line.trial(jnp.array(0.4)), curvopt.StepInfo(gradients=1), state


@pytest.mark.parametrize("rule", [LearningRate(0.4), OneTrial()])
def test_loss_that_turns_non_finite_on_the_way(rule):
    """The solution is the last point whose loss was finite, also where a search ends at a
    loss that is not."""
    fn = lambda y, _: jnp.where(y < 0, jnp.nan, y)
    solver = curvopt.LineSearchMinimiser(SGD(), rule)
    solution = optx.minimise(fn, solver, jnp.array(1.0), throw=False)
    assert solution.result == optx.RESULTS.nonfinite
    np.testing.assert_allclose(solution.value, 0.2, rtol=1e-5)
    np.testing.assert_allclose(solution.stats["loss"], 0.2, rtol=1e-5)


def rosenbrock(y, args):
    del args
    return jnp.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2)


@pytest.mark.parametrize(
    "direction, dtype",
    [
        (Momentum(), "float32"),
        (Adam(), "float64"),
        pytest.param(Momentum(), "float64", marks=pytest.mark.slow),
        pytest.param(Adam(), "float32", marks=pytest.mark.slow),
        pytest.param(Momentum(nesterov=True), "float32", marks=pytest.mark.slow),
        pytest.param(Momentum(nesterov=True), "float64", marks=pytest.mark.slow),
    ],
    indirect=["dtype"],
)
def test_a_vanishing_step_is_no_convergence(direction, dtype):
    """Guards against false convergence: a momentum at right angles to the gradient makes
    steps of almost nothing, far from the minimum. Without the solver's correction for that
    about nine in ten of these runs end so."""
    starts = jax.random.uniform(jax.random.key(0), (32, 2), dtype, -2, 2)
    solver = curvopt.LineSearchMinimiser(direction, CurvatureRescaling(), 1e-6, 1e-6)

    @jax.jit
    @jax.vmap
    def run(y):
        solution = optx.minimise(rosenbrock, solver, y, max_steps=4000, throw=False)
        gradient = jax.grad(rosenbrock)(solution.value, None)
        converged = solution.result == optx.RESULTS.successful
        return converged, jnp.linalg.norm(gradient)

    converged, size = run(starts)
    assert converged.sum() > 24
    assert (converged & (size > 1e-2)).sum() <= 2


@pytest.mark.parametrize(
    "direction",
    [
        LBFGS(5),
        HyperplaneSearch((SGD(), LastStep())),
        FromOptax(optax.sgd(1.0, momentum=0.5)),
        *(
            pytest.param(direction, marks=pytest.mark.slow)
            for direction in (
                NonlinearCG(),
                ForwardGradient(),
                FromDescent(optx.NonlinearCGDescent(optx.polak_ribiere)),
            )
        ),
    ],
    ids=lambda direction: type(direction).__name__,
)
class TestDirectionsInMinimise:
    """What an Optimistix user expects of any solver, of each direction with a state."""

    def solver(self, direction):
        return curvopt.LineSearchMinimiser(direction, Backtracking(CurvatureRescaling()))

    def test_it_minimises(self, direction):
        solution = optx.minimise(
            bowl, self.solver(direction), jnp.zeros(2), ARGS, max_steps=2000
        )
        np.testing.assert_allclose(solution.value, ARGS[1], atol=2e-2)

    def test_vmap_of_the_whole_solution(self, direction):
        """Guards solver states: a jaxpr in one of them could not be vmapped."""
        starts = jnp.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 5.0]])
        run = jax.jit(
            lambda y: optx.minimise(
                bowl, self.solver(direction), y, ARGS, max_steps=5, throw=False
            )
        )
        values = jax.vmap(run)(starts).value
        one_by_one = jnp.stack([run(y).value for y in starts])
        np.testing.assert_allclose(values, one_by_one, rtol=1e-3, atol=1e-5)


def test_weakly_typed_parameters_keep_their_precision(x64):
    """Guards the dtype of scalars: in float32 this loss would overflow."""
    y = jnp.full(3, 1e5)
    assert y.weak_type and curvopt.scalar_dtype(y) == jnp.float64
    solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling())
    loss = lambda y, _: (jnp.sum(y**8), None)
    state = solver.init_strategy(y, jax.random.key(0))
    _, _, record, _ = solver.update(loss, y, None, jnp.array(0), state)
    np.testing.assert_allclose(record.loss, 3e40, rtol=1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        EveryK(BacktrackingArmijo(1e6, max_trials=1), 3),
        Polyak(5.0),
        LearningRate(0.0),
    ],
)
def test_a_rule_that_stands_still_has_not_converged(rule):
    """Guards against success at the start, where no guard of the step tells."""
    solution = optx.minimise(
        lambda y, _: jnp.sum(y**2),
        curvopt.LineSearchMinimiser(SGD(), rule),
        jnp.ones(3),
        max_steps=20,
        throw=False,
    )
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached


def test_a_trial_that_is_not_finite_does_not_end_a_run_that_goes_on():
    fn = lambda y, _: y - jnp.log(y)
    solver = curvopt.LineSearchMinimiser(SGD(), EveryK(GeneralizedNewton(3e-3), 2))
    solution = optx.minimise(fn, solver, jnp.array(0.05), max_steps=3, throw=False)
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached


@pytest.mark.parametrize(
    "direction, bad",
    [
        pytest.param(d, bad, marks=() if (i + k) % 3 == 0 else pytest.mark.slow)
        for i, d in enumerate((SGD(), NonlinearCG(), LBFGS()))
        for k, bad in enumerate((float("nan"), float("inf"), 1e25))
    ],
)
def test_one_bad_batch_does_not_end_a_run(direction, bad):
    """Guards the parameters, which a step of zero times infinity would make nan, and the
    memory."""
    rule = GrowthLimited(CurvatureRescaling(average=0.5))
    solver = curvopt.LineSearchMinimiser(direction, rule)
    loss = lambda y, scale: (scale * jnp.sum(y**2 * jnp.array([1.0, 2.0, 3.0])), None)
    y = jnp.ones(3)
    state = solver.init_strategy(y, jax.random.key(0))
    update = jax.jit(lambda y, scale, k, state: solver.update(loss, y, scale, k, state)[:2])
    for k in range(60):
        y, state = update(y, jnp.where(k == 2, bad, 1.0), jnp.array(k), state)
        assert jnp.isfinite(y).all()
    assert jnp.linalg.norm(y) < 1.0


def test_a_search_that_ends_at_a_gradient_hands_it_on():
    """Guards the price of an accepted step: the next one does not evaluate it again."""
    matrix, y = jnp.eye(50), jnp.ones(50)
    fn = lambda y, args: (0.5 * y @ args @ y, None)
    flops = lambda fn, *args: curvopt.cost.compile_and_analyse(fn, *args).flops
    gradient = flops(jax.value_and_grad(lambda y, args: fn(y, args)[0]), y, matrix)

    def step_of(rule):
        solver = curvopt.LineSearchMinimiser(SGD(), rule)
        value = jax.ShapeDtypeStruct((), jnp.float32)
        init = lambda y, args: solver.init(fn, y, args, {}, value, None, frozenset())
        state = eqx.filter_jit(init)(y, matrix)
        step = lambda y, state, args: solver.step(fn, y, args, {}, state, frozenset())
        new_y, new, _ = eqx.filter_jit(step)(y, state, matrix)
        return flops(step, y, state, matrix) / gradient, new_y, new

    # XLA counts the body of a loop once.
    cost, new_y, new = step_of(StrongWolfe(LearningRate(1.0)))
    np.testing.assert_array_equal(new.known[0], fn(new_y, matrix)[0])
    np.testing.assert_array_equal(new.known[1], matrix @ new_y)
    assert cost < 1.3
    evaluates_again, _, new = step_of(BacktrackingArmijo(1.0))
    assert new.known is None and evaluates_again > 1.4


def test_randomness_is_an_option():
    solver = curvopt.LineSearchMinimiser(ForwardGradient(), CurvatureRescaling())
    run = lambda options: (
        optx.minimise(
            bowl, solver, jnp.zeros(2), ARGS, options, max_steps=2, throw=False
        ).value
    )
    np.testing.assert_array_equal(run(None), run({"key": jax.random.key(0)}))
    assert (run(None) != run({"key": jax.random.key(1)})).all()


def test_implicit_gradient_through_a_solver_with_memory(x64):
    """Against finite differences, with a search and LBFGS inside."""

    @jax.jit
    def minimiser(centre):
        solver = curvopt.LineSearchMinimiser(
            LBFGS(), Backtracking(CurvatureRescaling()), 1e-12, 1e-12
        )
        fn = lambda y, c: jnp.sum(jnp.cosh(y - c)) + 0.5 * jnp.sum(y**2)
        return jnp.sum(optx.minimise(fn, solver, jnp.zeros(2), centre).value ** 2)

    centre, h = jnp.array([1.0, -2.0]), 1e-5
    gradient = jax.grad(minimiser)(centre)
    for k in range(2):
        e = h * jnp.eye(2)[k]
        difference = (minimiser(centre + e) - minimiser(centre - e)) / (2 * h)
        np.testing.assert_allclose(gradient[k], difference, rtol=1e-5)


def test_a_step_that_a_guard_refused_is_no_convergence():
    """A direction of ascent makes a step of zero: that is not a minimum."""

    class Ascent(curvopt.AbstractDirection):
        def init(self, y, *, key):
            del y, key

        def step(self, model, y, state):
            del y, state
            return curvopt.Descent(model.grad), None

    for rule in (CurvatureRescaling(), BacktrackingArmijo()):
        solver = curvopt.LineSearchMinimiser(Ascent(), rule)
        solution = optx.minimise(
            bowl, solver, jnp.zeros(2), ARGS, max_steps=20, throw=False
        )
        assert solution.result == optx.RESULTS.nonlinear_max_steps_reached
        assert solution.state.record.info.ascent
        np.testing.assert_array_equal(solution.value, jnp.zeros(2))


def test_a_gradient_that_is_not_finite():
    solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1))
    norm = lambda y, _: jnp.linalg.norm(y)
    solution = optx.minimise(norm, solver, jnp.zeros(2), throw=False)
    assert solution.result == optx.RESULTS.nonfinite
    np.testing.assert_array_equal(solution.value, jnp.zeros(2))


def test_a_start_at_the_minimum_converges():
    solution = optx.minimise(bowl, SOLVER, ARGS[1], ARGS)
    assert solution.result == optx.RESULTS.successful
    np.testing.assert_array_equal(solution.value, ARGS[1])


def test_vmap_over_starts_equals_a_loop():
    starts = jnp.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 5.0]])
    run = lambda y: optx.minimise(bowl, SOLVER, y, ARGS).value
    one_by_one = jnp.stack([run(y) for y in starts])
    np.testing.assert_allclose(jax.vmap(run)(starts), one_by_one, rtol=1e-5)
    np.testing.assert_allclose(eqx.filter_vmap(run)(starts), one_by_one, rtol=1e-5)


def test_vmap_over_hyper_parameters():
    def run(rate):
        solver = curvopt.LineSearchMinimiser(SGD(), LearningRate(rate))
        return optx.minimise(bowl, solver, jnp.zeros(2), ARGS, max_steps=2, throw=False)

    values = jax.vmap(lambda rate: run(rate).value)(jnp.array([0.0, 0.1]))
    np.testing.assert_array_equal(values[0], jnp.zeros(2))
    np.testing.assert_allclose(values[1], run(0.1).value, rtol=1e-6)


def test_gradient_of_the_minimiser_with_respect_to_args(x64):
    """Optimistix's implicit adjoint, through our solver."""

    def minimiser(centre):
        args = (jnp.diag(jnp.array([1.0, 10.0])), centre)
        solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(), 1e-10, 1e-10)
        return jnp.sum(optx.minimise(bowl, solver, jnp.zeros(2), args).value ** 2)

    centre = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(jax.grad(minimiser)(centre), 2 * centre, rtol=1e-6)


@pytest.mark.slow
def test_gradient_through_the_steps_with_respect_to_a_hyper_parameter(x64):
    """Guards the limits: an infinite one must not make the derivative nan."""

    def loss(rate):
        solver = curvopt.LineSearchMinimiser(SGD(), CurvatureRescaling(rate))
        solution = optx.minimise(
            bowl,
            solver,
            jnp.zeros(2),
            ARGS,
            max_steps=4,
            throw=False,
            adjoint=optx.RecursiveCheckpointAdjoint(),
        )
        return bowl(solution.value, ARGS)

    h = 1e-6
    expected = (loss(0.4 + h) - loss(0.4 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(loss)(0.4), expected, rtol=1e-4)


def test_changing_a_hyper_parameter_compiles_nothing_anew():
    traces = 0

    def fn(y, args):
        nonlocal traces
        traces += 1
        return bowl(y, args)

    def run(rate, decay):
        solver = curvopt.LineSearchMinimiser(Momentum(decay), LearningRate(rate))
        optx.minimise(fn, solver, jnp.zeros(2), ARGS, max_steps=3, throw=False)

    run(0.1, 0.5)
    first = traces
    run(0.2, 0.5)
    run(jnp.float32(0.3), 0.9)
    run(1, jnp.array(0.1))
    assert traces == first > 0


class TestBadInput:
    @pytest.mark.parametrize(
        "direction, rule, message",
        [
            (SGD, LearningRate(0.1), "direction must be an instance.*call it, SGD"),
            (SGD(), optx.LearningRate(0.1), "line_search must be an instance"),
        ],
    )
    def test_what_is_no_strategy(self, direction, rule, message, unchecked):
        with pytest.raises(ValueError, match=message):
            curvopt.LineSearchMinimiser(direction, rule)

    def test_direction_whose_tree_does_not_match(self):
        class Wrong(curvopt.AbstractDirection):
            def init(self, y, *, key):
                del y, key

            def step(self, model, y, state):
                return curvopt.Descent({"u": -model.grad}), state

        solver = curvopt.LineSearchMinimiser(Wrong(), LearningRate(0.1))
        with pytest.raises(ValueError, match="must have the structure of the parameters"):
            optx.minimise(bowl, solver, jnp.zeros(2), ARGS)

    def test_direction_that_returns_no_descent(self):
        class Bare(curvopt.AbstractDirection):
            def init(self, y, *, key):
                del y, key

            def step(self, model, y, state):
                return -model.grad, state

        solver = curvopt.LineSearchMinimiser(Bare(), LearningRate(0.1))
        with pytest.raises(ValueError, match="must return \\(curvopt.Descent"):
            optx.minimise(bowl, solver, jnp.zeros(2), ARGS)


SCALES = jnp.array([1.0, 10.0, 3.0])


def scaled(y, args):
    del args
    return jnp.sum(SCALES * (y - 1) ** 2)


WARM_UP = CurvatureRescaling(0.5, optax.linear_schedule(0.0, 1.0, 10))
GATHERING = {
    "a warm-up": DisplacementMomentum(SGD(), WARM_UP),
    "MultiSteps": FromOptax(optax.MultiSteps(optax.sgd(0.03), 4).gradient_transformation()),
    "apply_every": FromOptax(optax.chain(optax.apply_every(4), optax.scale(-0.01))),
    "a schedule of optax": FromOptax(optax.sgd(optax.linear_schedule(0.0, 0.03, 20))),
}


@pytest.mark.parametrize("name", GATHERING)
def test_a_direction_of_zero_is_no_convergence(name):
    """Nothing was done, which is not that nothing is to be done."""
    solver = curvopt.LineSearchMinimiser(GATHERING[name], LearningRate(1.0))
    solution = optx.minimise(scaled, solver, jnp.array([3.0, -2.0, 0.5]), max_steps=2000)
    assert solution.result == optx.RESULTS.successful
    np.testing.assert_allclose(solution.value, 1, atol=1e-3)


def test_a_gradient_that_a_transformation_drops():
    """`apply_if_finite` waits where the gradient is not finite: that is no minimum."""
    tx = optax.apply_if_finite(optax.sgd(0.1), 100)
    solver = curvopt.LineSearchMinimiser(FromOptax(tx), LearningRate(1.0))
    loss = lambda y, args: jnp.sum(jnp.sqrt(y))  # its derivative at zero is infinite
    solution = optx.minimise(loss, solver, jnp.zeros(2), max_steps=5, throw=False)
    assert solution.result != optx.RESULTS.successful


@pytest.mark.parametrize(
    "direction", [SGD(), Adam(), Momentum(), LastStep(), ForwardGradient()]
)
def test_a_start_where_the_gradient_is_zero(direction):
    solver = curvopt.LineSearchMinimiser(direction, LearningRate(0.1))
    solution = optx.minimise(scaled, solver, jnp.ones(3), max_steps=9)
    assert solution.result == optx.RESULTS.successful


def thrice(y):
    for _ in range(3):
        y = jnp.sin(y) + y
    return y


def thrice_in_a_loop(y):
    """What has no reverse mode."""
    step = lambda carry: (carry[0] + 1, jnp.sin(carry[1]) + carry[1])
    return jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, y))[1]


FORWARD = [curvopt.AdjointCurvature(), curvopt.ForwardCurvature(), curvopt.HvpCurvature()]


# Each rule and each method is met in the tests that are always run.
@pytest.mark.parametrize(
    "rule, method",
    [
        pytest.param(rule, method, marks=() if i == k else pytest.mark.slow)
        for i, rule in enumerate((CurvatureRescaling(), BacktrackingArmijo(), Polyak()))
        for k, method in enumerate(FORWARD)
    ],
)
def test_forward_mode(rule, method):
    solver = curvopt.LineSearchMinimiser(SGD(), rule, curvature=method)

    def run(fn, mode):
        loss = lambda y, args: (scaled(fn(y), args), fn(y))
        options = {"autodiff_mode": mode}
        y = jnp.full(3, 0.3)
        return optx.minimise(
            loss, solver, y, has_aux=True, options=options, throw=False, max_steps=4
        )

    forward, backward = run(thrice_in_a_loop, "fwd"), run(thrice, "bwd")
    np.testing.assert_allclose(forward.value, backward.value, rtol=1e-4)
    np.testing.assert_allclose(forward.aux, thrice(forward.value), rtol=1e-6)


def test_modes_that_there_are_not():
    run = lambda mode, **given: optx.minimise(
        scaled,
        curvopt.LineSearchMinimiser(SGD(), LearningRate(0.1), **given),
        jnp.ones(3),
        options={"autodiff_mode": mode},
    )
    with pytest.raises(ValueError, match="autodiff_mode must be one of 'fwd', 'bwd'"):
        run("forward")
    with pytest.raises(ValueError, match="FiniteDifferenceCurvature.*Leave one"):
        run("fwd", curvature=curvopt.FiniteDifferenceCurvature())


SEARCHES = {
    "BacktrackingArmijo": lambda t: BacktrackingArmijo(0.3 * t, 0.5 * t),
    "Backtracking": lambda t: Backtracking(CurvatureRescaling(1.5 * t), 0.6 * t),
    "HessianAwareScaling": lambda t: HessianAwareScaling(weak_scale=t, strong=0.9),
    "forward": lambda t: HessianAwareScaling(strong=200.0, weak_scale=0.004 * t),
    "StochasticArmijo": lambda t: StochasticArmijo(0.3 * t),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "Backtracking" else pytest.mark.slow)
        for name in SEARCHES
    ],
)
def test_reverse_mode_through_a_search(name, x64):
    """With respect to a hyper-parameter and to the start, as finite differences have it."""
    fn = lambda y, args: scaled(y, args) + 0.1 * jnp.sum(y**4)

    @jax.jit
    def end(t):
        solver = curvopt.LineSearchMinimiser(SGD(), SEARCHES[name](t))
        y, adjoint = t * jnp.array([3.0, -2.0, 0.5]), optx.RecursiveCheckpointAdjoint()
        solution = optx.minimise(fn, solver, y, adjoint=adjoint, max_steps=4, throw=False)
        return jnp.sum(solution.value)

    h = 1e-6
    expected = (end(1 + h) - end(1 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(end)(1.0), expected, rtol=1e-4)
