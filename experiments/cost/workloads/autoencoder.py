import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

import curvopt

from ...problems import autoencoder_network, bernoulli_loss
from .._instance import Instance
from ._data import keys


def _digits(key: PRNGKeyArray, batch_size: int, pixels: int) -> Float[Array, "batch pixel"]:
    """Grey values, a fifth of them not black, as in MNIST."""
    grey, ink = jr.split(key)
    values = jr.uniform(grey, (batch_size, pixels), jnp.float32)
    return values * jr.bernoulli(ink, 0.2, values.shape)


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """Fully connected layers that narrow and widen again, with gelu; the loss takes each
    pixel as the probability of a Bernoulli variable."""

    widths: tuple[int, ...]

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model = autoencoder_network(self.widths, key=model_key)
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            (images,) = args
            logits = curvopt.tag_output(jax.vmap(eqx.combine(y, static))(images))
            return bernoulli_loss(logits, images).mean(), None

        return Instance(loss, y, (_digits(data_key, batch_size, self.widths[0]),))
