"""Fresh states may be donated: each array has a buffer of its own, which is neither the
parameters' nor a rule's."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
from strategies_by_name import DIRECTIONS, LINE_SEARCHES, PARTNERS

import curvopt
from strategies import scale_by_line_search


def loss(y, args=None):
    del args
    return jnp.sum((y["a"] - 1) ** 2) + y["b"] ** 2


def with_aux(y, args):
    return loss(y, args), None


def start():
    return {"a": jnp.full(3, 2.0), "b": jnp.array(0.5)}


def buffers(tree):
    return [
        x.unsafe_buffer_pointer() for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    ]


def check_own(state, *others):
    """No buffer twice in the state, and none of the others'."""
    state, others = curvopt._tree.pack_keys((state, others))
    own = buffers(state)
    assert len(set(own)) == len(own)
    assert set(own).isdisjoint(buffers(others))


@pytest.mark.parametrize("rule, direction", PARTNERS.items())
def test_states_of_strategies(rule, direction):
    solver = curvopt.LineSearchMinimiser(DIRECTIONS[direction], LINE_SEARCHES[rule])
    y, key = start(), jr.key(0)
    check_own(solver.init_strategy(y, key), y, solver, key)
    full = solver.init(with_aux, y, None, {"key": key}, None, None, frozenset())
    check_own(full, solver, key)


@pytest.mark.parametrize("rule, direction", PARTNERS.items())
@pytest.mark.slow
def test_steps_of_strategies(rule, direction):
    solver = curvopt.LineSearchMinimiser(DIRECTIONS[direction], LINE_SEARCHES[rule])
    y = start()
    state = solver.init_strategy(y, jr.key(0))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(y, state, count):
        return solver.update(with_aux, y, None, count, state)[:2]

    for count in range(2):
        y, state = step(y, state, count)
    # The rule is as it was.
    jax.tree.map(jnp.copy, eqx.filter(solver, eqx.is_array))


@pytest.mark.parametrize("name", LINE_SEARCHES)
@pytest.mark.slow
def test_states_of_optax(name):
    rule = LINE_SEARCHES[name]
    tx, y = optax.chain(optax.sgd(1.0), scale_by_line_search(rule)), start()
    state = tx.init(y)
    check_own(state, y, rule)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(y, state):
        updates, state = tx.update(jax.grad(loss)(y), state, y, value_fn=loss)
        return optax.apply_updates(y, updates), state

    for _ in range(2):
        y, state = step(y, state)
    jax.tree.map(jnp.copy, eqx.filter(rule, eqx.is_array))
