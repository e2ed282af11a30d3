import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from .._instance import Instance
from ._data import cross_entropy, keys, text


class _Network(eqx.Module):
    characters: eqx.nn.Embedding
    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear
    unroll: bool = eqx.field(static=True)

    def __init__(self, width: int, vocabulary: int, unroll: bool, key: PRNGKeyArray):
        k = jr.split(key, 3)
        self.characters = eqx.nn.Embedding(vocabulary, width, key=k[0])
        self.cell = eqx.nn.GRUCell(width, width, key=k[1])
        self.readout = eqx.nn.Linear(width, vocabulary, key=k[2])
        self.unroll = unroll

    def __call__(self, characters: Int[Array, " length"]) -> Float[Array, "length class"]:
        def step(state: Array, x: Array) -> tuple[Array, Array]:
            state = self.cell(x, state)
            return state, state

        x = jax.vmap(self.characters)(characters)
        _, states = jax.lax.scan(step, jnp.zeros_like(x[0]), x, unroll=self.unroll)
        return jax.vmap(self.readout)(states)


@dataclasses.dataclass(frozen=True)
class GRU:
    """A gated recurrent unit that predicts the next character, by a scan over steps."""

    width: int
    length: int
    vocabulary: int
    unroll: bool = False

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model = _Network(self.width, self.vocabulary, self.unroll, model_key)
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            (characters,) = args
            logits = jax.vmap(eqx.combine(y, static))(characters[:, :-1])
            return cross_entropy(logits, characters[:, 1:]), None

        data = text(data_key, batch_size, self.length, self.vocabulary)
        return Instance(loss, y, (data,))

    def loop_free(self) -> "GRU":
        """Eight steps, unrolled: all 128 would compile for minutes. Sixteen change the
        ratios of FLOPs by about one in a hundred."""
        return dataclasses.replace(self, length=min(self.length, 8), unroll=True)
