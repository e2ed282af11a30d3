"""Fields that are declared once, and contracts that are checked with the class's name."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
import pytest

import curvopt
from strategies import CurvatureRescaling, INNAprop, LearningRate, SGD


class Rule(curvopt.AbstractLineSearch):
    """A rule without a state."""

    low: curvopt.Number = curvopt.hyperparameter(0.1, above=0)
    high: curvopt.Number = curvopt.hyperparameter(1.0, at_least="low")
    spread: curvopt.Number = curvopt.hyperparameter(
        2.0, below=lambda rule: 10 * rule.high, kw_only=True
    )
    first: curvopt.OptionalNumber = curvopt.hyperparameter(None, above=0)
    trials: int = curvopt.count(3)
    schedule: curvopt.Schedule | None = curvopt.schedule(None)
    mode: Literal["up", "down"] = eqx.field(static=True, default="up")
    inner: curvopt.AbstractLineSearch = LearningRate(1.0)

    def step(self, line, count, state):
        return self.low, curvopt.StepInfo(slope=line.slope, losses=2, ascent=True), state


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"low": 0.0}, "low must be above 0, but it is 0.0"),
        ({"low": "x"}, "low must be a number, but it is 'x' of type str"),
        ({"low": None}, "low must be a number, but it is None"),
        ({"low": float("nan")}, "low must be above 0, but it is nan"),
        ({"low": 1j}, "low must be a real number"),
        ({"low": jnp.ones(3)}, r"one number, but it has shape \(3,\).*curvopt.Family"),
        ({"low": jnp.cos}, "is the function .*schedule=.*strategies.Scheduled"),
        ({"high": 0.05}, "high must be at least 0.1, but it is 0.05"),
        ({"spread": 10.0}, "spread must be below 10, but it is 10.0"),
        ({"first": -1.0}, "first must be above 0"),
        ({"trials": 0}, "trials must be an integer of at least 1, but it is 0"),
        ({"trials": 2.0}, "trials must be an integer"),
        ({"schedule": 0.5}, "schedule must be a function of the step count"),
        ({"mode": "left"}, "mode must be one of 'up', 'down', but it is 'left'"),
        ({"inner": SGD()}, "inner must be an instance of curvopt.AbstractLineSearch"),
        ({"inner": LearningRate}, r"It is the class itself: call it, LearningRate\("),
    ],
)
def test_a_field_out_of_its_range(kwargs, message, unchecked):
    with pytest.raises(ValueError, match=message):
        Rule(**kwargs)


def test_a_number_is_data_and_all_else_is_static():
    rule = Rule(0.2, trials=5)
    numbers = [x.dtype for x in jax.tree.leaves(rule)]
    assert numbers == [jnp.result_type(float)] * 4 and not rule.low.weak_type
    assert rule.first is None and rule.trials == 5
    assert repr(Rule(0.3)).startswith("Rule(low=0.3, ")


def test_ranges_hold_for_what_is_known_under_vmap():
    make = lambda low: Rule(low, spread=3.0).low
    assert jax.vmap(make)(jnp.array([0.1, -1.0])).shape == (2,)
    with pytest.raises(ValueError, match="spread"):
        jax.vmap(lambda low: Rule(low, spread=30.0).low)(jnp.ones(2))


def test_a_bound_that_is_another_field():
    with pytest.raises(ValueError, match="learning_rate must be above 0 and below 0.5"):
        INNAprop(0.6, beta=0.5)


def test_by_name_only():
    with pytest.raises(TypeError):
        Rule(0.1, 1.0, None, 3, None, "up", LearningRate(1.0), 2.0)


def test_a_subclass_adds_fields_and_checks_of_its_own(unchecked):
    class Odd(Rule):
        size: curvopt.Number = curvopt.hyperparameter(1.0, at_most=4)

        def __check_init__(self):
            if self.trials % 2 == 0:
                raise ValueError("trials must be odd.")

    assert Odd(size=3.0).size == 3
    with pytest.raises(ValueError, match="size must be at most 4"):
        Odd(size=5.0)
    with pytest.raises(ValueError, match="low must be above 0"):
        Odd(-1.0)
    with pytest.raises(ValueError, match="trials must be odd"):
        Odd(trials=2)


class TestContracts:
    """What a strategy of one's own returns, in the words of its class."""

    def run(self, direction=SGD(), rule=LearningRate(0.1)):
        solver = curvopt.LineSearchMinimiser(direction, rule)
        loss = lambda y, _: jnp.sum(y**2)
        return optx.minimise(loss, solver, jnp.ones(2), max_steps=3, throw=False)

    def test_stateless_strategies_need_no_init(self):
        assert self.run(rule=Rule()).stats["num_steps"] == 3

    @pytest.mark.parametrize(
        "returned, message",
        [
            (lambda: 0.1, r"Mine.step must return \(step size, curvopt.StepInfo, state\)"),
            (lambda: (0.1, {}, None), "Mine.step must return"),
            (
                lambda: (jnp.ones(2), curvopt.StepInfo(), None),
                r"Mine.step must return one number as the step size.*shape \(2,\)",
            ),
            (
                lambda: (0.1, curvopt.StepInfo(), 1.0),
                "Mine.step must return a state with the",
            ),
        ],
    )
    def test_of_a_line_search(self, returned, message):
        class Mine(curvopt.AbstractLineSearch):
            def step(self, line, count, state):
                return returned()

        with pytest.raises(ValueError, match=message):
            self.run(rule=Mine())

    @pytest.mark.parametrize(
        "state, message",
        [
            (
                lambda n: n[None],
                r"Mine.step must return .*state is int32\[1\] where it was int32\[\]",
            ),
            (
                lambda n: n * 1.0,
                r"Mine.step must return .*state is float32\[\] where it was int32\[\]",
            ),
            (lambda n: (n, n), "a state with the structure that `init` gave it"),
        ],
    )
    def test_of_a_state(self, state, message):
        class Mine(curvopt.AbstractDirection):
            def init(self, y, *, key):
                return jnp.array(0)

            def step(self, model, y, n):
                return curvopt.Descent(-model.grad), state(n)

        with pytest.raises(ValueError, match=message):
            self.run(Mine())

    @pytest.mark.parametrize(
        "descent, message",
        [
            (lambda g: -g, r"Mine.step must return \(curvopt.Descent, state\)"),
            (lambda g: curvopt.Descent([g]), "Mine.step: u must have the structure"),
            (lambda g: curvopt.Descent(g, g[:1]), "Mine.step: fresh must match the param"),
        ],
    )
    def test_of_a_direction(self, descent, message, unchecked):
        class Mine(curvopt.AbstractDirection):
            def step(self, model, y, state):
                return descent(model.grad), None

        with pytest.raises(ValueError, match=message):
            self.run(Mine())


def test_step_infos_add_up():
    """What a rule that wraps another one adds: counts and guards, not measurements."""
    inner = curvopt.StepInfo(slope=-1.0, losses=2, ascent=True)
    both = inner.plus(curvopt.StepInfo(slope=5.0, losses=1, slopes=4, limited=True))
    assert both.slope == -1 and both.losses == 3 and both.slopes == 4
    assert both.ascent and both.limited and not both.flat
    assert [name for name, acted in both.guards.items() if acted] == ["ascent", "limited"]


def test_gradient_and_batches_are_asked_through_what_is_wrapped():
    from strategies import Clipped, ForwardGradient, HyperplaneSearch, LastStep, StepTuned

    assert Clipped(StepTuned(0.1)).steps_per_batch == 2
    assert CurvatureRescaling().steps_per_batch == 1
    assert not HyperplaneSearch((ForwardGradient(), LastStep())).reads_gradient
    assert HyperplaneSearch((SGD(), LastStep())).reads_gradient
