import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar

from .._instance import Instance
from ._data import cross_entropy, keys, text


class _Block(eqx.Module):
    """Attention and a perceptron, each normalised before and added to what came in."""

    attention_norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, width: int, heads: int, key: PRNGKeyArray):
        k = jr.split(key, 3)
        self.attention_norm = eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=k[0])
        self.norm = eqx.nn.LayerNorm(width)
        self.up = eqx.nn.Linear(width, 4 * width, key=k[1])
        self.down = eqx.nn.Linear(4 * width, width, key=k[2])

    def __call__(
        self, x: Float[Array, "length width"], mask: Bool[Array, "length length"]
    ) -> Float[Array, "length width"]:
        h = jax.vmap(self.attention_norm)(x)
        x = x + self.attention(h, h, h, mask)
        h = jax.vmap(self.norm)(x)
        return x + jax.vmap(self.down)(jax.nn.gelu(jax.vmap(self.up)(h)))


class _Network(eqx.Module):
    characters: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: tuple[_Block, ...] | _Block
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear
    unroll: bool = eqx.field(static=True)

    def __init__(self, config: "Transformer", key: PRNGKeyArray):
        k = jr.split(key, 4)
        width = config.width
        block = lambda key: _Block(width, config.heads, key)
        block_keys = jr.split(k[2], config.layers)
        self.characters = eqx.nn.Embedding(config.vocabulary, width, key=k[0])
        self.positions = eqx.nn.Embedding(config.length, width, key=k[1])
        if config.scanned:
            self.blocks = eqx.filter_vmap(block)(block_keys)
        else:
            self.blocks = tuple(block(key) for key in block_keys)
        self.norm = eqx.nn.LayerNorm(width)
        self.readout = eqx.nn.Linear(width, config.vocabulary, key=k[3])
        self.unroll = config.unroll

    def __call__(self, characters: Int[Array, " length"]) -> Float[Array, "length class"]:
        length = len(characters)
        mask = jnp.tril(jnp.ones((length, length), bool))
        x = jax.vmap(self.characters)(characters) + self.positions.weight
        x = self._through_blocks(x, mask)
        return jax.vmap(self.readout)(jax.vmap(self.norm)(x))

    def _through_blocks(self, x: Array, mask: Array) -> Array:
        if isinstance(self.blocks, tuple):
            for block in self.blocks:
                x = block(x, mask)
            return x
        layers, static = eqx.partition(self.blocks, eqx.is_array)

        def step(x: Array, layer: PyTree[Array]) -> tuple[Array, None]:
            return eqx.combine(layer, static)(x, mask), None

        return jax.lax.scan(step, x, layers, unroll=self.unroll)[0]


@dataclasses.dataclass(frozen=True)
class Transformer:
    """Causal transformer blocks, normalised before, that predict the next character.

    `scanned` stacks their parameters and scans over the layers; `unroll` takes the loop
    out again.
    """

    width: int
    layers: int
    heads: int
    length: int
    vocabulary: int
    scanned: bool = False
    unroll: bool = False

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        y, static = eqx.partition(_Network(self, model_key), eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            (characters,) = args
            logits = jax.vmap(eqx.combine(y, static))(characters[:, :-1])
            return cross_entropy(logits, characters[:, 1:]), None

        data = text(data_key, batch_size, self.length, self.vocabulary)
        return Instance(loss, y, (data,))

    def loop_free(self) -> "Transformer":
        """The same model, its loop over layers unrolled."""
        return dataclasses.replace(self, unroll=True)
