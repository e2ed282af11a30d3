from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

import curvopt

from ..data import Text
from ._on_data import AbstractOnData
from ._text import next_character
from ._transformer_block import check_heads, TransformerBlock


class TransformerNetwork(eqx.Module):
    """Causal transformer blocks (Vaswani et al. 2017), normalised before, that read
    characters and put out logits of what follows each of them.

    **Arguments:**

    - `width`: numbers that a character and its position are embedded in.
    - `layers`: how many blocks there are.
    - `heads`: of each attention.
    - `length`: how many characters it reads: each position has an embedding.
    - `symbols`: how many different characters there are.
    - `scanned`: whether the parameters of the blocks are stacked, and a loop scans over
        them.
    - `unroll`: whether that loop is taken out again.
    """

    characters: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: tuple[TransformerBlock, ...] | TransformerBlock
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear
    unroll: bool = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        length: int,
        symbols: int,
        scanned: bool = False,
        unroll: bool = False,
        *,
        key: PRNGKeyArray,
    ):
        k = jr.split(key, 4)
        block = lambda key: TransformerBlock(width, heads, key)
        block_keys = jr.split(k[2], layers)
        self.characters = eqx.nn.Embedding(symbols, width, key=k[0])
        self.positions = eqx.nn.Embedding(length, width, key=k[1])
        if scanned:
            self.blocks = eqx.filter_vmap(block)(block_keys)
        else:
            self.blocks = tuple(block(key) for key in block_keys)
        self.norm = eqx.nn.LayerNorm(width)
        self.readout = eqx.nn.Linear(width, symbols, key=k[3])
        self.unroll = unroll

    def __call__(self, characters: Int[Array, " length"]) -> Float[Array, "length symbol"]:
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


class TransformerCharacters(AbstractOnData):
    """The next character of a text, predicted by a small causal transformer.

    The loss is the cross-entropy in nats per character, averaged over all characters of
    all windows of a batch:

        loss = -mean log p(c_k | c_0, ..., c_{k-1}),    k = 1, ..., length.

    Without training it is about the logarithm of the alphabet's size. The other metric is
    `accuracy`. On transformers gradient descent is known to fall behind Adam (Zhang et al.
    2020).

    **Arguments:**

    - `text`: the data.
    - `width`: numbers that a character and its position are embedded in.
    - `layers`: how many blocks of attention and perceptron there are.
    - `heads`: of each attention; they share the width.
    - `length`: how many characters of a window are read.
    - `batch_size`: windows in a mini-batch.
    - `evaluated`: on how many training windows and on how many test windows, the same
        ones always, metrics are evaluated; `None` for all.

    **Raises:**

    `ValueError` if a count is not one, the width is not a multiple of the heads, the batch
    is larger than the data, or the windows are longer than the test data.
    """

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        text: Text,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        length: int = 64,
        batch_size: int = 16,
        evaluated: int | None = 512,
    ):
        counts = {"width": width, "layers": layers, "heads": heads, "length": length}
        for name, n in counts.items():
            curvopt.check_count(name, n)
        check_heads(width, heads)
        self.name = text.name
        self.problem = next_character(
            text,
            partial(TransformerNetwork, width, layers, heads, length, len(text.alphabet)),
            length=length,
            batch_size=batch_size,
            evaluated=evaluated,
        )
