import dataclasses
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree, Scalar

from ...problems import TransformerNetwork
from .._instance import Instance
from ._data import cross_entropy, keys, text


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A causal pre-norm transformer that predicts the next character.

    `scanned` stacks the parameters of the blocks and scans over them; `unroll` unrolls that
    loop.
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
        model = TransformerNetwork(
            self.width,
            self.layers,
            self.heads,
            self.length,
            self.vocabulary,
            self.scanned,
            self.unroll,
            key=model_key,
        )
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            (characters,) = args
            logits = jax.vmap(eqx.combine(y, static))(characters[:, :-1])
            return cross_entropy(logits, characters[:, 1:]), None

        data = text(data_key, batch_size, self.length, self.vocabulary)
        return Instance(loss, y, (data,))

    def loop_free(self) -> "Transformer":
        """The same model with its loop over layers unrolled."""
        return dataclasses.replace(self, unroll=True)
