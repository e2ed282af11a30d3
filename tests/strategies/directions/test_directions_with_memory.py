"""Directions whose memory is more than an average, against their algorithms."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optimistix as optx
import pytest
from lines import MATRIX, quadratic, Y

import curvopt
from strategies import (
    Backtracking,
    BFGS,
    CurvatureRescaling,
    DisplacementMomentum,
    ForwardGradient,
    FromDescent,
    FromOptax,
    HyperplaneSearch,
    INNAprop,
    LastStep,
    LBFGS,
    LearningRate,
    Momentum,
    NonlinearCG,
    RMSProp,
    SGD,
    StepTuned,
)


def spd(n, condition=100.0):
    """A symmetric matrix with eigenvalues from 1 to `condition`."""
    q, _ = jnp.linalg.qr(jr.normal(jr.key(0), (n, n)))
    return (q * jnp.geomspace(1.0, condition, n)) @ q.T


def bowl(y, matrix):
    return 0.5 * y @ matrix @ y, None


def points_of(solver, y, args, steps, loss=bowl):
    """The points of a run, the start included, and the descents' records."""
    state = solver.init_strategy(y, jr.key(3))
    points, records = [y], []
    update = jax.jit(lambda y, count, state: solver.update(loss, y, args, count, state)[:3])
    for count in range(steps):
        y, state, record = update(y, jnp.array(count), state)
        points.append(y)
        records.append(record)
    return points, records


def conjugate_gradients(matrix, y, steps):
    g = matrix @ y
    u, points = -g, [y]
    for _ in range(steps):
        t = (g @ g) / (u @ matrix @ u)
        y = y + t * u
        new = matrix @ y
        u = -new + (new @ new) / (g @ g) * u
        g = new
        points.append(y)
    return points


EXACT = CurvatureRescaling(0.5)


@pytest.mark.parametrize(
    "direction, rule",
    [
        (NonlinearCG(), EXACT),
        (LBFGS(20), EXACT),
        (BFGS(), EXACT),
        (HyperplaneSearch((SGD(), LastStep())), LearningRate(1.0)),
        (HyperplaneSearch((SGD(), LastStep())), EXACT),
        (FromDescent(optx.NonlinearCGDescent(optx.polak_ribiere)), EXACT),
    ],
)
def test_on_a_quadratic_these_are_conjugate_gradients(direction, rule, x64):
    matrix, y = spd(8), jr.normal(jr.key(1), (8,))
    solver = curvopt.LineSearchMinimiser(direction, rule)
    got, _ = points_of(solver, y, matrix, 7)
    for a, b in zip(got, conjugate_gradients(matrix, y, 7), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6 * jnp.linalg.norm(y))


class TestNonlinearCG:
    def states(self, gradients, direction):
        state, out = direction.init(gradients[0], key=jr.key(0)), []
        for g in gradients:
            model = curvopt.quadratic_model(lambda y, g: g @ y, jnp.zeros_like(g), g)
            descent, state = direction.step(model, g, state)
            out.append(descent.u)
        return out

    def test_a_negative_beta_is_a_restart(self):
        g = [jnp.array([2.0, 0.0]), jnp.array([1.0, 0.0])]
        np.testing.assert_array_equal(self.states(g, NonlinearCG())[1], -g[1])

    def test_a_direction_that_would_ascend_is_a_restart(self):
        g = [jnp.array([1.0, 0.0]), jnp.array([-3.0, 0.0])]
        np.testing.assert_array_equal(self.states(g, NonlinearCG())[1], -g[1])

    def test_powells_restart(self):
        g = [jnp.array([1.0, 0.2]), jnp.array([0.3, 1.0])]
        free, restarted = (self.states(g, NonlinearCG(r))[1] for r in (float("inf"), 0.1))
        np.testing.assert_array_equal(restarted, -g[1])
        beta = (g[1] @ (g[1] - g[0])) / (g[0] @ g[0])
        np.testing.assert_allclose(free, -g[1] - beta * g[0], rtol=1e-6)

    def test_after_a_zero_gradient(self):
        g = [jnp.zeros(2), jnp.array([1.0, 0.0])]
        first, second = self.states(g, NonlinearCG())
        np.testing.assert_array_equal(first, [0, 0])
        np.testing.assert_array_equal(second, -g[1])


class TestLBFGS:
    def test_against_optax_and_the_dense_formula(self, x64):
        """More steps than the history holds."""
        m, matrix, y = 3, spd(5), jr.normal(jr.key(1), (5,))
        solver = curvopt.LineSearchMinimiser(LBFGS(m), LearningRate(0.02))
        points, _ = points_of(solver, y, matrix, 7)
        tx = optax.scale_by_lbfgs(m)
        state, step = tx.init(y), jax.jit(tx.update)
        for k, (here, there) in enumerate(itertools.pairwise(points)):
            update, state = step(matrix @ here, state, here)
            if k > 0:  # optax scales the first gradient
                np.testing.assert_allclose((there - here) / 0.02, -update, rtol=1e-8)

        s = [b - a for a, b in itertools.pairwise(points[:-1])][-m:]
        z = [matrix @ x for x in s]
        inverse = jnp.eye(5) * (s[-1] @ z[-1]) / (z[-1] @ z[-1])
        for a, b in zip(s, z):
            v = jnp.eye(5) - jnp.outer(b, a) / (a @ b)
            inverse = v.T @ inverse @ v + jnp.outer(a, a) / (a @ b)
        u = (points[-1] - points[-2]) / 0.02
        np.testing.assert_allclose(u, -inverse @ matrix @ points[-2], rtol=1e-8)

    @pytest.mark.parametrize("direction", [LBFGS(), BFGS()])
    def test_pairs_without_curvature_are_left_out(self, direction):
        """On a concave function the direction remains one of descent."""
        concave = lambda y, _: (-quadratic(y), None)
        solver = curvopt.LineSearchMinimiser(direction, LearningRate(0.1))
        points, _ = points_of(solver, Y, None, 4, concave)
        for here, there in itertools.pairwise(points):
            g = -MATRIX @ here
            expected = -0.1 * g / max(1, jnp.linalg.norm(g))
            np.testing.assert_allclose(there - here, expected, rtol=1e-5)

    @pytest.mark.parametrize("direction", [LBFGS(), BFGS()])
    def test_pairs_of_badly_scaled_parameters_are_kept(self, direction, x64):
        """Guards against a test of the angle between both changes, which depends on the
        scales: NELSONLS and VESUVIALS of CUTEst were not solved."""
        s, z = jnp.array([1.0, 1e-11]), jnp.array([1.0, 1e9])
        state = direction.init(s, key=jr.key(0))
        for y, g in ((jnp.zeros(2), -2 * z), (s, -z)):
            model = curvopt.quadratic_model(lambda y, g: g @ y, y, g)
            descent, state = direction.step(model, y, state)
        np.testing.assert_allclose(descent.u, s, rtol=1e-6)

    def test_pairs_are_forgotten_while_none_is_kept(self):
        """Guards against a memory that a stretch of rejected pairs makes stale."""
        direction, gradient = (
            LBFGS(2),
            lambda g: curvopt.quadratic_model(lambda y, g: g @ y, jnp.zeros(2), g),
        )
        state = direction.init(Y, key=jr.key(0))
        # One pair of a quadratic, then the gradient falls along every step.
        gradients = [MATRIX @ Y, MATRIX @ (0.5 * Y), *(MATRIX @ (-k * Y) for k in (1, 2))]
        for y, g in zip((Y, 0.5 * Y, Y, 2 * Y), gradients):
            descent, state = direction.step(gradient(g), y, state)
        assert not state.weights.any()
        s, z = -0.5 * Y, -0.5 * MATRIX @ Y
        np.testing.assert_allclose(descent.u, -(s @ z) / (z @ z) * g, rtol=1e-6)

    @pytest.mark.parametrize("direction", [LBFGS(), BFGS()])
    def test_a_huge_gradient_is_no_obstacle(self, direction, x64):
        """Guards against a first direction that no search can halve often enough."""
        loss = lambda y, _: 1e20 * jnp.sum((y - 1) ** 2 * jnp.array([1.0, 3.0]))
        rule = Backtracking(LearningRate(1.0))
        solver = curvopt.LineSearchMinimiser(direction, rule)
        solution = optx.minimise(loss, solver, jnp.array([3.0, -2.0]), max_steps=40)
        np.testing.assert_allclose(solution.value, 1, atol=1e-5)

    @pytest.mark.parametrize("direction", [LBFGS(4), BFGS()])
    def test_a_bad_batch_does_not_stay(self, direction):
        """Guards the memory against a gradient that is not finite."""
        loss = lambda y, bad: (quadratic(y) * jnp.where(bad, jnp.nan, 1.0), None)
        state = direction.init(Y, key=jr.key(0))

        @jax.jit
        def step(y, bad, state):
            model = curvopt.quadratic_model(loss, y, bad, has_aux=True)
            descent, state = direction.step(model, y, state)
            return descent, state

        for k in range(6):
            descent, state = step(Y * 0.8**k, k == 2, state)
        assert jnp.isfinite(descent.u).all()

    @pytest.mark.parametrize("direction", [LBFGS(2), BFGS()])
    @pytest.mark.parametrize("scale", [1e-3, 1e3])
    def test_a_memory_that_leads_nowhere_starts_again(self, direction, scale):
        """Guards against a search that stays where it is for ever: at HAHN1LS of CUTEst
        because rounding makes B indefinite, at MISRA1BLS because B is too small for the
        parameters to change."""
        loss = lambda y, _: scale * quadratic(y)
        here, there = (
            curvopt.quadratic_model(loss, y) for y in (jnp.array(Y), jnp.array(0.5 * Y))
        )
        state = direction.init(Y, key=jr.key(0))
        for model, y in ((here, Y), (there, 0.5 * Y)):
            _, state = direction.step(model, y, state)
        expected = -there.grad / jnp.maximum(curvopt.tree_norm(there.grad), 1)
        if isinstance(direction, BFGS):
            bad = {"inverse": -jnp.eye(2)}
            before = {"last": state.last + jnp.array([[1e-3], [0.0]])}
        else:
            bad = {"scale": jnp.array(1e-6), "weights": -state.weights}
            before = {"y": state.y + 1e-3}
        ascends = dataclasses.replace(state, **bad, **before)
        for led_here in (state, ascends):
            descent, _ = direction.step(there, 0.5 * Y, led_here)
            np.testing.assert_allclose(descent.u, expected, rtol=1e-6)
        # With a memory that leads somewhere it is another direction.
        moved = dataclasses.replace(state, **before)
        descent, _ = direction.step(there, 0.5 * Y, moved)
        assert not np.allclose(descent.u, expected, rtol=1e-2)

    @pytest.mark.parametrize("scale", [1e-23, 1e-18, 1e15])
    def test_gradients_whose_squares_are_out_of_range(self, scale):
        loss = lambda y, _: (scale * jnp.sum(y**2 * jnp.array([1.0, 2.0, 3.0])), None)
        solver = curvopt.LineSearchMinimiser(LBFGS(), LearningRate(0.1 / scale))
        points, _ = points_of(solver, jnp.ones(3), None, 2, loss)
        assert jnp.isfinite(points[-1]).all()

    @pytest.mark.parametrize("direction", [LBFGS(2), BFGS()])
    def test_parameters_of_several_dtypes(self, direction):
        y = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(3)}
        loss = lambda y, _: (
            jnp.sum(y["a"].astype(float) ** 2) + jnp.sum(y["b"] ** 4),
            None,
        )
        solver = curvopt.LineSearchMinimiser(direction, Backtracking(EXACT))
        points, records = points_of(solver, y, None, 5, loss)
        assert points[-1]["a"].dtype == jnp.bfloat16
        assert records[-1].loss < 0.1 * records[0].loss


class TestBFGS:
    def test_against_the_products_of_matrices(self, x64):
        matrix, y = spd(5), jr.normal(jr.key(1), (5,))
        solver = curvopt.LineSearchMinimiser(BFGS(), LearningRate(0.02))
        points, _ = points_of(solver, y, matrix, 7)
        s = [b - a for a, b in itertools.pairwise(points[:-1])]
        z = [matrix @ x for x in s]
        inverse = jnp.eye(5) * 3 * (s[0] @ z[0]) / (z[0] @ z[0])
        for a, b in zip(s, z):
            v = jnp.eye(5) - jnp.outer(b, a) / (a @ b)
            inverse = v.T @ inverse @ v + jnp.outer(a, a) / (a @ b)
        u = (points[-1] - points[-2]) / 0.02
        np.testing.assert_allclose(u, -inverse @ matrix @ points[-2], rtol=1e-8)

    def test_with_exact_steps_it_ends_with_the_inverse_hessian(self, x64):
        matrix, y = spd(5), jr.normal(jr.key(1), (5,))
        direction = BFGS()
        state = direction.init(y, key=jr.key(0))

        @jax.jit
        def advance(y, state):
            model = curvopt.quadratic_model(bowl, y, matrix, has_aux=True)
            descent, state = direction.step(model, y, state)
            t = -model.slope(descent.u) / model.curvature(descent.u)
            return y + t * descent.u, state

        for _ in range(6):
            y, state = advance(y, state)
        np.testing.assert_allclose(state.inverse @ matrix, np.eye(5), atol=1e-5)


MIXED = {"a": jnp.array([1.0, -0.5]), "b": jnp.array([[0.3]])}


class TestForwardGradient:
    def loss(self, y, _):
        return jnp.sum(jnp.cosh(y["a"])) + jnp.sum(y["b"] ** 2), None

    def test_random_directions_that_descend_and_differ(self):
        solver = curvopt.LineSearchMinimiser(
            ForwardGradient(), EXACT, curvature=curvopt.ForwardCurvature()
        )
        points, records = points_of(solver, MIXED, None, 20, self.loss)
        assert all(record.info.slope < 0 for record in records)
        assert records[-1].loss < records[0].loss
        moved = [b["a"] - a["a"] for a, b in itertools.pairwise(points[:3])]
        ratio = moved[0] / moved[1]
        assert abs(ratio[0] - ratio[1]) > 1e-3

    def test_no_backward_sweep(self):
        """The compiled step has no product that could be a gradient: none has the shape of
        the parameters."""

        def loss(w, x):
            return jnp.mean(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2), None

        def gradients(direction):
            w = jax.ShapeDtypeStruct((64, 64), jnp.float32)
            x = jax.ShapeDtypeStruct((512, 64), jnp.float32)
            solver = curvopt.LineSearchMinimiser(
                direction, EXACT, curvature=curvopt.ForwardCurvature()
            )

            def step(w, x):
                state = solver.init_strategy(w, jr.key(0))
                return solver.update(loss, w, x, jnp.array(0), state)[:1]

            program = jax.jit(step).lower(w, x).compile().as_text()
            return len(re.findall(r"= f32\[64,64\]\S* (?:dot|custom-call)\(", program))

        assert gradients(ForwardGradient()) == 0 < gradients(SGD())

    def test_seeds_differ_and_repeat(self):
        direction = ForwardGradient()
        model = curvopt.quadratic_model(self.loss, MIXED, has_aux=True)
        step = lambda seed: direction.step(
            model, MIXED, direction.init(MIXED, key=jr.key(seed))
        )[0].u["a"]
        np.testing.assert_array_equal(step(0), step(0))
        assert (step(0) != step(1)).all()


class TestHyperplaneSearch:
    def test_as_many_random_directions_as_dimensions_are_newtons_method(self, x64):
        matrix, y = spd(4), jr.normal(jr.key(1), (4,))
        solver = curvopt.LineSearchMinimiser(
            HyperplaneSearch((ForwardGradient(),) * 4, cutoff=0.0),
            LearningRate(1.0),
            curvature=curvopt.ForwardCurvature(),
        )
        points, _ = points_of(solver, y, matrix, 1)
        np.testing.assert_allclose(points[1], 0, atol=1e-7)

    def test_the_best_point_of_the_plane(self, x64):
        """Gradient and momentum: the slope along both vanishes where it leads."""
        matrix, y = spd(6), jr.normal(jr.key(1), (6,))
        plane = HyperplaneSearch((SGD(), Momentum(0.5)))
        solver = curvopt.LineSearchMinimiser(plane, LearningRate(1.0))
        (*_, y0, y1), _ = points_of(solver, y, matrix, 3)
        assert abs((matrix @ y1) @ (matrix @ y0)) < 1e-8
        assert jnp.linalg.norm(y1) < jnp.linalg.norm(y)

    def test_directions_that_coincide(self):
        one, twice = (
            curvopt.LineSearchMinimiser(HyperplaneSearch(ds), LearningRate(1.0))
            for ds in ((SGD(),), (SGD(), SGD()))
        )
        (_, a), _ = points_of(one, Y, MATRIX, 1)
        (_, b), _ = points_of(twice, Y, MATRIX, 1)
        np.testing.assert_allclose(a, b, rtol=1e-5)

    def test_negative_curvature_descends(self):
        saddle = lambda y, _: (y[0] ** 2 - y[1] ** 2, None)
        directions = (SGD(), ForwardGradient())
        solver = curvopt.LineSearchMinimiser(HyperplaneSearch(directions), EXACT)
        _, records = points_of(solver, jnp.array([1.0, 0.1]), None, 2, saddle)
        assert records[0].info.slope < 0 and records[1].loss < records[0].loss

    def test_a_plane_without_curvature_is_steepest_descent(self):
        linear = lambda y, _: (y @ jnp.array([3.0, 4.0]), None)
        solver = curvopt.LineSearchMinimiser(HyperplaneSearch((SGD(),)), LearningRate(1.0))
        points, _ = points_of(solver, Y, None, 1, linear)
        np.testing.assert_allclose(points[1] - Y, [-3.0, -4.0], rtol=1e-6)

    def test_bad_directions(self, unchecked):
        with pytest.raises(ValueError, match="at least one, but there is none"):
            HyperplaneSearch(())
        with pytest.raises(ValueError, match="must be a tuple of directions"):
            HyperplaneSearch(SGD())
        with pytest.raises(ValueError, match=r"directions\[1\] must be an instance"):
            HyperplaneSearch((SGD(), LearningRate(0.1)))


class TestINNAprop:
    def test_at_alpha_and_beta_one_it_is_rmsprop(self):
        inna = INNAprop(0.01, alpha=1.0, beta=1.0, weight_decay=0.0)
        a, _ = points_of(curvopt.LineSearchMinimiser(inna, LearningRate(1.0)), Y, MATRIX, 6)
        b, _ = points_of(
            curvopt.LineSearchMinimiser(RMSProp(0.999), LearningRate(0.01)), Y, MATRIX, 6
        )
        np.testing.assert_allclose(jnp.stack(a), jnp.stack(b), rtol=1e-5)

    def test_against_the_formulas(self, x64):
        gamma, alpha, beta, sigma, eps, decay = 0.05, 0.3, 0.8, 0.9, 1e-8, 0.1
        inna = INNAprop(gamma, None, alpha, beta, sigma, eps, decay)
        solver = curvopt.LineSearchMinimiser(inna, LearningRate(1.0))
        matrix, y = spd(3), jr.normal(jr.key(1), (3,))
        points, _ = points_of(solver, y, matrix, 5)
        psi, v = (1 - alpha * beta) * y, 0
        for k in range(1, 6):
            g = matrix @ y
            y = (1 - decay * gamma) * y
            v = sigma * v + (1 - sigma) * g**2
            psi = (1 - gamma / beta) * psi + gamma * (1 / beta - alpha) * y
            y = (
                (1 + gamma * (1 - alpha * beta) / (beta - gamma)) * y
                - gamma / (beta - gamma) * psi
                - gamma * beta * g / (jnp.sqrt(v / (1 - sigma**k)) + eps)
            )
            np.testing.assert_allclose(points[k], y, rtol=1e-9)

    def test_gamma_must_stay_below_beta(self):
        with pytest.raises(ValueError, match="learning_rate must be above 0 and below 0.5"):
            INNAprop(0.5, beta=0.5)


class TestFromDescent:
    def test_steepest_descent(self):
        a, _ = points_of(
            curvopt.LineSearchMinimiser(FromDescent(optx.SteepestDescent()), EXACT),
            Y,
            MATRIX,
            3,
        )
        b, _ = points_of(curvopt.LineSearchMinimiser(SGD(), EXACT), Y, MATRIX, 3)
        np.testing.assert_allclose(jnp.stack(a), jnp.stack(b), rtol=1e-5)

    @pytest.mark.parametrize(
        "descent", [optx.NewtonDescent(), optx.DampedNewtonDescent(), optx.DoglegDescent()]
    )
    def test_what_needs_a_hessian(self, descent):
        solver = curvopt.LineSearchMinimiser(FromDescent(descent), EXACT)
        with pytest.raises(
            ValueError, match="cannot be used as a direction: it needs more"
        ):
            points_of(solver, Y, MATRIX, 1)

    def test_what_is_no_descent(self, unchecked):
        with pytest.raises(ValueError, match="an instance of optimistix.AbstractDescent"):
            FromDescent(optx.LearningRate(0.1))


class TestDisplacementMomentum:
    def test_at_constant_steps_it_is_normalised_momentum(self):
        moved = DisplacementMomentum(SGD(), LearningRate(0.1), decay=0.8)
        a, _ = points_of(
            curvopt.LineSearchMinimiser(moved, LearningRate(1.0)), Y, MATRIX, 6
        )
        b, _ = points_of(
            curvopt.LineSearchMinimiser(Momentum(0.8), LearningRate(0.1)), Y, MATRIX, 6
        )
        np.testing.assert_allclose(jnp.stack(a), jnp.stack(b), rtol=1e-5)

    def displacements(self, gradients, schedule, decay):
        """Those of gradients that do not depend on the point, and the fresh ones."""
        moved = DisplacementMomentum(SGD(), LearningRate(1.0, schedule), decay)

        @jax.jit
        def step(g, state):
            model = curvopt.quadratic_model(lambda y, g: g @ y, jnp.zeros_like(g), g)
            descent, state = moved.step(model, jnp.zeros_like(g), state)
            return state, (descent.u, descent.fresh)

        state, out = moved.init(gradients[0], key=jr.key(0)), []
        for g in gradients:
            state, both = step(g, state)
            out.append(both)
        return zip(*out)

    def test_each_displacement_is_used_once_in_total(self):
        """At the length that it was given, also where later steps are of another."""
        g = jnp.array([1.0, -2.0])
        gradients = [g, 3 * g, *[jnp.zeros(2)] * 60]
        steps, fresh = self.displacements(gradients, lambda k: 1 / (1 + k), 0.7)
        np.testing.assert_array_equal(fresh[0], -g)
        np.testing.assert_allclose(fresh[1], -1.5 * g, rtol=1e-6)
        np.testing.assert_allclose(jnp.stack(steps).sum(0), -2.5 * g, rtol=1e-5)
        # The second step has 0.7 * 0.3 of the first displacement and 0.3 of its own.
        np.testing.assert_allclose(steps[1], -(0.21 + 0.45) * g, rtol=1e-6)

    def test_the_inner_rule_sees_the_inner_direction(self):
        """The exact step along the gradient, whatever the displacement is."""
        moved = DisplacementMomentum(SGD(), EXACT)
        state = moved.init(Y, key=jr.key(0))
        for y in (Y, jnp.array([0.3, 1.0])):
            model = curvopt.quadratic_model(lambda y, _: quadratic(y), y)
            descent, state = moved.step(model, y, state)
            g = MATRIX @ y
            step = (g @ g) / (g @ MATRIX @ g)
            np.testing.assert_allclose(descent.fresh, -step * g, rtol=1e-6)

    def test_bad_arguments(self, unchecked):
        with pytest.raises(ValueError, match="direction must be an instance"):
            DisplacementMomentum(EXACT, EXACT)
        with pytest.raises(ValueError, match="line_search must be an instance"):
            DisplacementMomentum(SGD(), SGD())
        with pytest.raises(ValueError, match="decay must be at least 0 and below 1"):
            DisplacementMomentum(SGD(), EXACT, 1.0)
        with pytest.raises(ValueError, match="StepTuned looks at several in a row"):
            DisplacementMomentum(SGD(), StepTuned(0.1))


class TestLastStep:
    def test_it_is_the_displacement(self):
        direction = LastStep()
        state = direction.init(Y, key=jr.key(0))
        model = curvopt.quadratic_model(lambda y, _: quadratic(y), Y)
        first, state = direction.step(model, Y, state)
        second, _ = direction.step(model, 3 * Y, state)
        np.testing.assert_array_equal(first.u, jnp.zeros(2))
        np.testing.assert_array_equal(second.u, 2 * Y)


def test_a_transformation_that_is_none(unchecked):
    with pytest.raises(ValueError, match="tx must be an optax.GradientTransformation"):
        FromOptax(optax.adam)
    with pytest.raises(ValueError, match=r"Give tx.gradient_transformation\(\)"):
        FromOptax(optax.MultiSteps(optax.sgd(0.1), 2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="fresh must be an optax.GradientTransformation"):
        FromOptax(optax.adam(1.0), SGD())
