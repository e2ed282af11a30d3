"""Synthetic data and losses: costs depend on shapes, not on values."""

import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

import curvopt


def keys() -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of model and data, the same in every run."""
    model, data = jr.split(jr.key(0))
    return model, data


def labelled(
    key: PRNGKeyArray, batch_size: int, shape: tuple[int, ...], classes: int
) -> tuple[Float[Array, "batch ..."], Int[Array, " batch"]]:
    """Standard normal inputs with random labels."""
    inputs, labels = jr.split(key)
    x = jr.normal(inputs, (batch_size, *shape), jnp.float32)
    return x, jr.randint(labels, (batch_size,), 0, classes, jnp.int32)


def text(
    key: PRNGKeyArray, batch_size: int, length: int, vocabulary: int
) -> Int[Array, "batch characters"]:
    """Random characters, one more than `length`, since each is the target of the last."""
    return jr.randint(key, (batch_size, length + 1), 0, vocabulary, jnp.int32)


def cross_entropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
) -> Scalar:
    """The mean cross-entropy of a model's logits."""
    logits = curvopt.tag_output(logits)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
