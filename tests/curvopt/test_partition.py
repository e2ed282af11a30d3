"""The parts of a pytree by labels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from flax import linen

import curvopt


def network():
    model = eqx.nn.MLP(2, 3, 4, 1, key=jr.key(0))
    return eqx.filter(model, eqx.is_inexact_array)


def names(part):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(part)]


def test_layers_are_the_modules_that_hold_arrays():
    params = network()
    first, second = curvopt.partition(params)
    assert names(first) == [".layers[0].weight", ".layers[0].bias"]
    assert names(second) == [".layers[1].weight", ".layers[1].bias"]
    assert eqx.tree_equal(eqx.combine(first, second), params)
    labels = curvopt.layer_labels(params)
    assert labels.layers[1].bias == labels.layers[1].weight == ".layers[1]"


def test_layers_of_flax():
    class Two(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(linen.LayerNorm()(x))

    params = Two().init(jr.key(0), jnp.ones(2))["params"]
    dense, norm = curvopt.partition(params)
    assert names(dense) == ["['Dense_0']['bias']", "['Dense_0']['kernel']"]
    assert names(norm) == ["['LayerNorm_0']['bias']", "['LayerNorm_0']['scale']"]


def test_blocks_are_the_layers_or_what_holds_them():
    tree = {"first": jnp.ones(1), "blocks": [{"a": network(), "b": jnp.ones(2)}] * 2}
    one, other, first = curvopt.partition(tree, curvopt.block_labels)
    assert names(first) == ["['first']"]
    assert len(names(one)) == len(names(other)) == 5
    assert curvopt.block_labels(network()) == curvopt.layer_labels(network())


def test_arrays():
    params = network()
    parts = curvopt.partition(params, curvopt.array_labels)
    assert [names(part) for part in parts] == [[path] for path in names(params)]


@pytest.mark.parametrize("as_function", [False, True])
def test_labels_of_ones_own(as_function):
    """A prefix, with a label that occurs twice; the order is that of the leaves."""
    tree = {"a": [jnp.ones(1), jnp.ones(2)], "b": jnp.ones(3), "c": {"d": jnp.ones(4)}}
    labels = {"a": 7, "b": "rest", "c": 7}
    seven, rest = curvopt.partition(tree, (lambda _: labels) if as_function else labels)
    assert names(seven) == ["['a'][0]", "['a'][1]", "['c']['d']"]
    assert names(rest) == ["['b']"]
    (whole,) = curvopt.partition(tree, "all")
    assert eqx.tree_equal(whole, tree)


def test_labels_that_do_not_fit():
    with pytest.raises(ValueError, match="labels must have the structure of the pytree"):
        curvopt.partition({"a": 1.0, "b": 2.0}, {"a": 0})


def test_a_module_of_labels_is_no_function():
    # Guards: an Equinox network can be called, and so can one of labels.
    params = network()
    kinds = jax.tree.map(lambda x: "weight" if x.ndim > 1 else "bias", params)
    weights, biases = curvopt.partition(params, kinds)
    assert names(weights) == [".layers[0].weight", ".layers[1].weight"]
    assert names(biases) == [".layers[0].bias", ".layers[1].bias"]
