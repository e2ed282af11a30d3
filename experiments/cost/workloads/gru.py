import dataclasses
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree, Scalar

from ...problems import GRUNetwork
from .._instance import Instance
from ._data import cross_entropy, keys, text


@dataclasses.dataclass(frozen=True)
class GRU:
    """A gated recurrent unit that predicts the next character, as a scan over steps."""

    width: int
    length: int
    vocabulary: int
    unroll: bool = False

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model = GRUNetwork(self.width, self.vocabulary, self.unroll, key=model_key)
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, None]:
            (characters,) = args
            logits = jax.vmap(eqx.combine(y, static))(characters[:, :-1])
            return cross_entropy(logits, characters[:, 1:]), None

        data = text(data_key, batch_size, self.length, self.vocabulary)
        return Instance(loss, y, (data,))

    def loop_free(self) -> "GRU":
        """The GRU with eight steps, unrolled: all 128 would compile for minutes, and
        sixteen change the ratios of FLOPs by about one per cent."""
        return dataclasses.replace(self, length=min(self.length, 8), unroll=True)
