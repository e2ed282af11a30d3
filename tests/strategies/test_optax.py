"""optax, met both ways: its optimisers as directions, our line searches in its chains."""

import inspect
from functools import partial

import equinox as eqx
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from lines import exact, MATRIX, quadratic, Y
from strategies_by_name import LINE_SEARCHES

import curvopt
from strategies import (
    Adam,
    Backtracking,
    BacktrackingArmijo,
    CDAT,
    CurvatureRescaling,
    FromOptax,
    GrowthLimited,
    LearningRate,
    scale_by_cdat,
    scale_by_curvature,
    scale_by_line_search,
    SGD,
)


SGD_OF_OPTAX = optax.sgd(0.1)
HALF = {"a": True, "b": False}

# What a transformation's required parameters are given, by their names.
ARGUMENTS = {
    "learning_rate": 0.05,
    "clipping": 0.1,
    "eta": 0.01,
    "gamma": 0.5,
    "inner": SGD_OF_OPTAX,
    "optimizer": SGD_OF_OPTAX,
    "base_optimizer": SGD_OF_OPTAX,
    "adv_optimizer": optax.chain(optax.contrib.normalize(), optax.sgd(0.05)),
    "max_consecutive_errors": 2,
    "max_delta": 0.1,
    "threshold": 1.0,
    "max_norm": 0.5,
    "should_transform_fn": lambda step, **_: step % 2 == 0,
    "decay": 0.9,
    "mask": HALF,
    "freeze_mask": HALF,
    "measure": optax.tree.norm,
    "measure_name": "norm",
    "transforms": {True: SGD_OF_OPTAX, False: optax.adam(0.1)},
    "param_labels": HALF,
    "step_size": -0.1,
    "step_size_fn": lambda count: -0.1 / (count + 1),
    "max_backtracking_steps": 10,
    "max_linesearch_steps": 10,
    "f": lambda updates, _: jax.tree.map(jnp.negative, updates),
}

# What is not made from its parameters' names alone.
SPECIAL = {
    "chain": lambda fn: fn(SGD_OF_OPTAX),
    "named_chain": lambda fn: fn(("one", SGD_OF_OPTAX)),
    "inject_hyperparams": lambda fn: fn(optax.sgd)(0.1),
    "flatten": lambda fn: fn(SGD_OF_OPTAX),
    "with_extra_args_support": lambda fn: fn(SGD_OF_OPTAX),
    "split_real_and_imaginary": lambda fn: fn(SGD_OF_OPTAX),
}

# Names that optax has given up for others, which are walked.
DEPRECATED = {"inject_stateful_hyperparams", "optimistic_adam"}

# Public transformations that cannot be directions, and why.
CANNOT = {
    "differentially_private_aggregate": "wants the gradient of each example",
    "dpsgd": "wants the gradient of each example",
    "lookahead": "its parameters are pairs of fast and slow ones",
    "measure_with_ema": "its updates are a measurement",
    "scale_by_muon": "a part of muon, which knows the shapes of all parameters",
}


def transformations():
    """Every public function of optax and optax.contrib that makes a transformation."""
    found = {"dog": optax.contrib.dog, "dowg": optax.contrib.dowg}
    for module in (optax, optax.contrib):
        for name, fn in inspect.getmembers(module, inspect.isfunction):
            returns = str(inspect.signature(fn).return_annotation)
            if not name.startswith("_") and "GradientTransformation" in returns:
                found[name] = fn
    return found


def made(name, fn):
    if name in SPECIAL:
        return SPECIAL[name](fn)
    required = [
        name
        for name, p in inspect.signature(fn).parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return fn(**{name: ARGUMENTS[name] for name in required})


# (4, 3): galore and muon project matrices.
PARAMS = {"a": jr.normal(jr.key(0), (4, 3)), "b": jnp.array([0.5, -1.0])}


def mixed(y, args):
    del args
    return jnp.sum(y["a"] ** 2) + jnp.sum(jnp.cosh(y["b"])), None


def ours(tx, steps=3):
    solver = curvopt.LineSearchMinimiser(FromOptax(tx), LearningRate(1.0))

    def body(carry, count):
        y, state = carry
        y, state, record, _ = solver.update(mixed, y, None, count, state)
        return (y, state), record.loss

    def run(y):
        start = (y, solver.init_strategy(y, jr.key(0)))
        return jax.lax.scan(body, start, jnp.arange(steps))[0][0]

    return jax.jit(run)(PARAMS)


def theirs(tx, steps=3):
    """A loop that anyone would write."""
    loss = lambda y: mixed(y, None)[0]
    extra = optax.with_extra_args_support(tx)
    asked = inspect.signature(extra.update).parameters
    grad_fn = lambda y, _: jax.grad(loss)(y)
    searches = "linesearch" in repr(tx.update) + repr(inspect.getclosurevars(tx.update))

    @jax.jit
    def step(y, state):
        value, grad = jax.value_and_grad(loss)(y)
        kwargs = {"value": value, "grad": grad, "value_fn": loss}
        if not searches:
            kwargs |= {"obj_fn": loss, "grad_fn": grad_fn}
        if "extra_args" not in asked and "kwargs" not in asked:
            kwargs = {k: x for k, x in kwargs.items() if k in asked or "value_fn" in asked}
        updates, state = extra.update(grad, state, y, **kwargs)
        return optax.apply_updates(y, updates), state

    y, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        y, state = step(y, state)
    return y


def by_how_they_are_called():
    """Every transformation, for pytest: those that are called as one before are marked."""
    found, known, rows = transformations(), set(), []
    for name in sorted(found.keys() - CANNOT - DEPRECATED):
        tx = made(name, found[name])
        called = (*inspect.signature(tx.update).parameters, type(tx))
        marks = pytest.mark.product if called in known else ()
        known.add(called)
        rows.append(pytest.param(tx, marks=marks, id=name))
    return rows


@pytest.mark.parametrize("tx", by_how_they_are_called())
def test_every_transformation_of_optax(tx):
    got, expected = ours(tx), theirs(tx)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
    assert jax.tree.structure(got) == jax.tree.structure(PARAMS)


@pytest.mark.parametrize("name", CANNOT)
def test_those_that_cannot(name):
    """Guards the list: what optax learns to do leaves it."""
    arguments = {
        "dpsgd": (0.1, 1.0, 0.1, 0),
        "differentially_private_aggregate": (1.0, 0.1),
        "lookahead": (SGD_OF_OPTAX, 5, 0.5),
        "measure_with_ema": (optax.tree.norm, 0.9),
        "scale_by_muon": (),
    }
    with pytest.raises(Exception):  # noqa: B017
        ours(transformations()[name](*arguments[name]))


class TestFromOptax:
    def test_adam_is_adam(self):
        a = curvopt.LineSearchMinimiser(
            FromOptax(optax.adam(1.0)), CurvatureRescaling(0.25)
        )
        b = curvopt.LineSearchMinimiser(Adam(), CurvatureRescaling(0.25))
        ys = []
        for solver in (a, b):
            update = jax.jit(partial(solver.update, mixed))
            y, state = PARAMS, solver.init_strategy(PARAMS, jr.key(0))
            for k in range(4):
                y, state, *_ = update(y, None, jnp.array(k), state)
            ys.append(y)
        for p, q in zip(*map(jax.tree.leaves, ys)):
            np.testing.assert_allclose(p, q, rtol=1e-4)

    def test_a_memoryless_fresh_part(self):
        direction = FromOptax(optax.sgd(1.0, momentum=0.9), optax.sgd(1.0))
        state = direction.init(Y, key=jr.key(0))
        for _ in range(2):
            model = curvopt.quadratic_model(lambda y, _: quadratic(y), Y)
            descent, state = direction.step(model, Y, state)
        np.testing.assert_allclose(descent.fresh, -MATRIX @ Y)
        np.testing.assert_allclose(descent.u, -1.9 * MATRIX @ Y, rtol=1e-6)

    def test_in_a_study(self, regression_problem):
        tx = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(optax.cosine_decay_schedule(3e-2, 10), weight_decay=1e-2),
        )
        solver = curvopt.LineSearchMinimiser(FromOptax(tx), LearningRate(1.0))
        data = curvopt.run_study(
            regression_problem, {"a": solver}, seeds=2, steps=10, progress=False
        )
        losses = data.train_loss.sel(strategy="a")
        assert (losses.isel(evaluation_step=-1) < losses.isel(evaluation_step=0)).all()


class Line(curvopt.AbstractProblem):
    """A line through noisy points."""

    def init(self, key):
        return jr.normal(key, (2,)), None

    def batch(self, key, count):
        x = jr.normal(jr.fold_in(key, count), (16,))
        return x, 2 * x - 1

    def loss(self, params, args):
        (x, z), model_state, _ = args
        return jnp.mean((params[0] * x + params[1] - z) ** 2), (model_state, {})

    def evaluate(self, params, model_state):
        return {"train_loss": jnp.sum((params - jnp.array([2.0, -1.0])) ** 2)}

    @property
    def steps_per_epoch(self):
        return 1


@pytest.fixture
def regression_problem():
    return Line()


def loop(tx, loss, y, batches, **kwargs):
    """A user's loop of optax, jitted."""
    traces = 0

    @jax.jit
    def step(y, state, batch):
        nonlocal traces
        traces += 1
        grad = jax.grad(lambda y: loss(y, batch))(y)
        updates, state = tx.update(
            grad, state, y, value_fn=loss, batch=batch, not_for_us=1, **kwargs
        )
        return optax.apply_updates(y, updates), state

    state = tx.init(y)
    for batch in batches:
        y, state = step(y, state, batch)
    return y, state, traces


SCALES = [1.0, 0.5, 2.0, 1.5]
scaled = lambda y, batch: batch * quadratic(y) + 0.1 * jnp.sum(y**4)

RULES = {
    "curvature": (scale_by_curvature(0.25), CurvatureRescaling(0.25)),
    "averages": (scale_by_curvature(0.5, average=0.5), CurvatureRescaling(average=0.5)),
    "schedule": (
        scale_by_curvature(optax.linear_schedule(0.5, 0.1, 4)),
        CurvatureRescaling(1.0, optax.linear_schedule(0.5, 0.1, 4)),
    ),
    "cdat": (scale_by_cdat(1.0, average=0.5), CDAT(1.0, 0.5)),
    "growth": (
        scale_by_line_search(GrowthLimited(CurvatureRescaling())),
        GrowthLimited(CurvatureRescaling()),
    ),
    "search": (
        scale_by_line_search(Backtracking(CurvatureRescaling(1.0))),
        Backtracking(CurvatureRescaling(1.0)),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_a_chain_is_our_solver(name):
    """On losses that change from step to step, with a keyword that nobody knows."""
    tx, rule = RULES[name]
    got, state, traces = loop(optax.chain(optax.sgd(1.0), tx), scaled, Y, SCALES)
    assert traces == 1 and state[1].count == len(SCALES)
    solver = curvopt.LineSearchMinimiser(SGD(), rule)
    y, own = Y, solver.init_strategy(Y, jr.key(0))
    update = jax.jit(partial(solver.update, lambda y, batch: (scaled(y, batch), None)))
    for k, batch in enumerate(SCALES):
        y, own, record, _ = update(y, batch, jnp.array(k), own)
    np.testing.assert_allclose(got, y, rtol=1e-5)
    np.testing.assert_allclose(state[1].step_size, record.step_size, rtol=1e-5)
    np.testing.assert_allclose(state[1].info.slope, record.info.slope, rtol=1e-4)


class TestWhatUpdateIsGiven:
    def updates(self, **kwargs):
        tx = optax.chain(optax.sgd(1.0), scale_by_curvature())
        return tx.update(MATRIX @ Y, tx.init(Y), Y, **kwargs)[0]

    def test_a_loss_with_auxiliary_output(self):
        fn = lambda y: (quadratic(y), {"aux": y})
        np.testing.assert_allclose(
            self.updates(value_fn=fn), -exact() * MATRIX @ Y, rtol=1e-6
        )

    def test_a_model(self):
        model = curvopt.quadratic_model(lambda y, _: quadratic(y), Y)
        np.testing.assert_allclose(
            self.updates(model=model), -exact() * MATRIX @ Y, rtol=1e-6
        )

    def test_keywords_reach_a_loss_that_takes_them_all(self):
        fn = lambda params, **kwargs: kwargs["batch"] * quadratic(params)
        got = self.updates(value_fn=fn, batch=2.0)
        np.testing.assert_allclose(got, -exact() * MATRIX @ Y, rtol=1e-6)

    def test_a_loss_that_is_none(self, unchecked):
        with pytest.raises(ValueError, match="value_fn must be the loss as a function"):
            self.updates(value_fn=3.0)

    @pytest.mark.parametrize("as_number", [True, False])
    def test_a_curvature(self, as_number):
        curvature = lambda u: u @ MATRIX @ u
        given = curvature(MATRIX @ Y) if as_number else curvature
        got = self.updates(curvature=given, grad=MATRIX @ Y)
        np.testing.assert_allclose(got, -exact() * MATRIX @ Y, rtol=1e-6)

    def test_a_model_costs_no_second_gradient(self):
        """XLA's count: value, gradient and curvature once; `value_fn` pays again for the
        gradient where XLA does not see that it is the same."""
        tx = optax.chain(optax.sgd(1.0), scale_by_curvature())
        weight, x = jnp.ones((128, 64)), jnp.ones((256, 128))
        loss = lambda w, _: jnp.mean(jnp.tanh(x @ w) ** 4)

        def by_model(w):
            model = curvopt.quadratic_model(loss, w)
            return tx.update(model.grad, tx.init(w), w, model=model)[0]

        def by_value_fn(w):
            grad = jax.grad(loss)(w, None)
            return tx.update(grad, tx.init(w), w, value_fn=lambda w: loss(w, None))[0]

        count = lambda fn: curvopt.cost.compile_and_analyse(fn, weight).flops
        product = 2 * 128 * 64 * 256
        assert count(by_model) < 3.3 * product
        assert count(by_model) <= count(by_value_fn)

    @pytest.mark.parametrize(
        "kwargs, message",
        [
            ({}, "needs the loss: call tx.update"),
            ({"curvature": 1.0}, "needs the loss: call tx.update"),
        ],
    )
    def test_too_little(self, kwargs, message):
        with pytest.raises(ValueError, match=message):
            self.updates(**kwargs)

    def test_no_parameters(self):
        tx = scale_by_curvature()
        with pytest.raises(ValueError, match="needs the parameters"):
            tx.update(-Y, tx.init(Y), value_fn=quadratic)

    def test_a_rule_that_asks_for_more_than_it_is_handed(self):
        tx = scale_by_line_search(BacktrackingArmijo())
        with pytest.raises(ValueError, match="asks for more than the gradient"):
            tx.update(-MATRIX @ Y, tx.init(Y), Y, curvature=1.0, grad=MATRIX @ Y, value=1.0)


class TestWrongSign:
    def test_it_is_reported(self):
        with pytest.raises(Exception, match="the updates ascend, but a line search scales"):
            y, *_ = loop(scale_by_curvature(), scaled, Y, SCALES)
            jax.block_until_ready(y)

    def test_before_a_preconditioner_is_the_wrong_place_too(self):
        tx = optax.chain(scale_by_curvature(), optax.scale(-1.0))
        with pytest.raises(Exception, match=r"or after optax.scale\(-1.0\)"):
            jax.block_until_ready(loop(tx, scaled, Y, SCALES)[0])

    def test_a_momentum_that_ascends_later_is_recorded(self):
        """Guards against stopping a run for what momentum does by right."""
        tx = optax.chain(optax.sgd(1.0, momentum=0.9), scale_by_curvature())
        state = tx.init(Y)
        step = jax.jit(lambda g, s, y: tx.update(g, s, y, value_fn=quadratic))
        # The second point is beyond the minimum, where the momentum still leads on.
        for y, ascends in ((Y, False), (-0.5 * Y, True)):
            updates, state = step(MATRIX @ y, state, y)
            assert state[1].info.ascent == ascends
            assert (updates == 0).all() == ascends

    def test_momentum_after_it_gathers_steps(self):
        tx = optax.chain(optax.scale(-1.0), scale_by_curvature(0.05), optax.trace(0.9))
        y, *_ = loop(tx, scaled, Y, SCALES * 20)
        assert quadratic(y) < 0.02 * quadratic(Y)


class TestMasked:
    def test_only_a_part_is_scaled(self):
        """The line is that of the part; the other part keeps its own rate."""
        y = {"a": Y, "b": Y}
        loss = lambda y, _: quadratic(y["a"]) + 3 * quadratic(y["b"])
        tx = optax.chain(
            optax.masked(optax.chain(optax.sgd(1.0), scale_by_curvature()), HALF),
            optax.masked(optax.sgd(0.01), {"a": False, "b": True}),
        )

        @jax.jit
        def step(y):
            model = curvopt.quadratic_model(loss, y)
            return tx.update(model.grad, tx.init(y), y, model=model)[0]

        updates = step(y)
        np.testing.assert_allclose(updates["a"], -exact() * MATRIX @ Y, rtol=1e-5)
        np.testing.assert_allclose(updates["b"], -0.03 * MATRIX @ Y, rtol=1e-5)

    def test_masks_elsewhere_in_the_chain(self):
        y = {"a": Y, "b": Y}
        loss = lambda y: quadratic(y["a"]) + quadratic(y["b"])
        decay = optax.masked(optax.add_decayed_weights(0.1), HALF)
        tx = optax.chain(decay, optax.scale(-1.0), scale_by_curvature())
        updates, _ = tx.update(jax.grad(loss)(y), tx.init(y), y, value_fn=loss)
        u = {"a": -(MATRIX @ Y + 0.1 * Y), "b": -MATRIX @ Y}
        slope = sum((MATRIX @ Y) @ u[k] for k in u)
        curvature = sum(u[k] @ MATRIX @ u[k] for k in u)
        for k in u:
            np.testing.assert_allclose(updates[k], -slope / curvature * u[k], rtol=1e-5)

    def test_what_does_not_work_says_so(self):
        y = {"a": Y, "b": Y}
        loss = lambda y, _: quadratic(y["a"]) + quadratic(y["b"])
        model = curvopt.quadratic_model(loss, y)
        for rule, kwargs, message in (
            (CurvatureRescaling(), {"value_fn": quadratic}, "pass model="),
            (BacktrackingArmijo(), {"model": model}, "needs only slope and curvature"),
        ):
            inner = optax.chain(optax.sgd(1.0), scale_by_line_search(rule))
            tx = optax.masked(inner, HALF)
            with pytest.raises(ValueError, match=message):
                tx.update(model.grad, tx.init(y), y, **kwargs)


def test_multi_transform_and_inject_hyperparams():
    y = {"a": Y, "b": Y}
    loss = lambda y, _: quadratic(y["a"]) + quadratic(y["b"])
    injected = optax.inject_hyperparams(scale_by_curvature, static_args=("curvature",))(
        0.25
    )
    tx = optax.multi_transform(
        {True: optax.chain(optax.sgd(1.0), injected), False: optax.sgd(0.01)}, HALF
    )
    model = curvopt.quadratic_model(loss, y)
    updates, _ = tx.update(model.grad, tx.init(y), y, model=model)
    np.testing.assert_allclose(updates["a"], -0.5 * exact() * MATRIX @ Y, rtol=1e-5)
    np.testing.assert_allclose(updates["b"], -0.01 * MATRIX @ Y, rtol=1e-5)


def test_vmapped_over_starts():
    tx = optax.chain(optax.sgd(1.0), scale_by_curvature())

    @jax.jit
    def one(y):
        return tx.update(MATRIX @ y, tx.init(y), y, value_fn=quadratic)[0]

    starts = jnp.stack([Y, 2 * Y, jnp.array([0.1, 3.0])])
    looped = jnp.stack([one(y) for y in starts])
    np.testing.assert_allclose(jax.vmap(one)(starts), looped, rtol=1e-6)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)))[:, 0]


def test_flax():
    """A `TrainState`, whose `apply_gradients` hands keywords on to the chain."""
    x = jr.normal(jr.key(0), (32, 3))
    z = jnp.sin(x.sum(axis=1))
    module = Network()
    loss = lambda params: jnp.mean((module.apply({"params": params}, x) - z) ** 2)
    params = module.init(jr.key(1), x)["params"]
    tx = optax.chain(optax.adam(1.0), scale_by_curvature(0.25, average=0.5))

    @jax.jit
    def step(y, state):
        value, grad = jax.value_and_grad(loss)(y)
        updates, state = tx.update(grad, state, y, value_fn=loss)
        return optax.apply_updates(y, updates), state, value

    state = TrainState.create(apply_fn=module.apply, params=params, tx=tx)
    y, opt_state, values = state.params, state.opt_state, []
    for _ in range(30):
        y, opt_state, value = step(y, opt_state)
        values.append(value)
    assert values[-1] < 0.3 * values[0]


@pytest.mark.slow
def test_equinox():
    x = jr.normal(jr.key(0), (32, 3))
    model = eqx.nn.MLP(3, "scalar", 8, 1, key=jr.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    loss = lambda p: jnp.mean((jax.vmap(eqx.combine(p, static))(x) - 1.0) ** 2)
    tx = optax.chain(optax.sgd(1.0), scale_by_curvature())
    updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params, value_fn=loss)
    assert loss(optax.apply_updates(params, updates)) < loss(params)


@pytest.mark.parametrize("name", LINE_SEARCHES)
def test_tools_of_optax_and_flax_see_the_state(name):
    """The step size and the last measurement by name, and the whole as bytes."""
    tx = optax.chain(optax.scale(-1.0), scale_by_line_search(LINE_SEARCHES[name]))
    loss, y = lambda y: jnp.sum((y - 1) ** 2), jnp.full(3, 2.0)

    @jax.jit
    def update(y, state):
        return tx.update(jax.grad(loss)(y), state, y, value_fn=loss)[1]

    state = update(y, tx.init(y))
    assert optax.tree.get(state, "step_size") == state[1].step_size
    assert optax.tree.get(state, "curvatures") == state[1].info.curvatures
    changed = optax.tree.set(state, step_size=jnp.array(7.0))
    assert optax.tree.get(changed, "step_size") == 7
    read = flax.serialization.from_bytes(changed, flax.serialization.to_bytes(changed))
    assert jax.tree.structure(read) == jax.tree.structure(state)
    update(y, read)


@pytest.mark.parametrize("name", LINE_SEARCHES)
def test_what_is_shaped_like_the_parameters_is_found(name, unchecked):
    """Guards against a state without structure, of which no shardings can be made."""
    tx = optax.chain(optax.trace(0.9), scale_by_line_search(LINE_SEARCHES[name]))
    y = {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}
    # Abstract parameters, as where shardings are made before the arrays.
    state = tx.init(jax.eval_shape(lambda: y))
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(y))
    marked = optax.tree.map_params(
        tx, lambda x: "a parameter", state, transform_non_params=lambda x: "another"
    )
    for part, mark in zip(jax.tree.leaves(state), jax.tree.leaves(marked), strict=True):
        assert (mark == "a parameter") == (part.shape in [(2, 3), (2,)])


@pytest.mark.parametrize("name", ["model", "grad", "value", "curvature"])
def test_a_keyword_of_a_loss_that_is_taken(name):
    tx, y = scale_by_curvature(), jnp.ones(2)
    loss = {
        "model": lambda y, model: jnp.sum(model * y),
        "grad": lambda y, grad: jnp.sum(grad * y),
        "value": lambda y, *, value: jnp.sum(value * y),
        "curvature": lambda y, curvature=2.0: jnp.sum(curvature * y),
    }[name]
    with pytest.raises(ValueError, match=f"names a keyword `{name}`.*Rename"):
        tx.update(-y, tx.init(y), y, value_fn=loss, **{name: jnp.array(2.0)})


def test_a_model_that_is_none():
    tx, y = scale_by_curvature(), jnp.ones(2)
    with pytest.raises(ValueError, match="model must be an instance of .*QuadraticModel"):
        tx.update(-y, tx.init(y), y, model=eqx.nn.Linear(2, 1, key=jr.key(0)))
