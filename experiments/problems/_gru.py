from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

import curvopt

from ..data import Text
from ._on_data import AbstractOnData
from ._text import next_character


class GRUNetwork(eqx.Module):
    """A gated recurrent unit (Cho et al. 2014) that reads characters, by a scan over
    steps, and puts out logits of what follows each of them.

    **Arguments:**

    - `width`: numbers that a character is embedded in, and those of the state.
    - `symbols`: how many different characters there are.
    - `unroll`: whether the program has all steps one after another instead of a loop.
    """

    characters: eqx.nn.Embedding
    cell: eqx.nn.GRUCell
    readout: eqx.nn.Linear
    unroll: bool = eqx.field(static=True)

    def __init__(
        self, width: int, symbols: int, unroll: bool = False, *, key: PRNGKeyArray
    ):
        k = jr.split(key, 3)
        self.characters = eqx.nn.Embedding(symbols, width, key=k[0])
        self.cell = eqx.nn.GRUCell(width, width, key=k[1])
        self.readout = eqx.nn.Linear(width, symbols, key=k[2])
        self.unroll = unroll

    def __call__(self, characters: Int[Array, " length"]) -> Float[Array, "length symbol"]:
        def step(state: Array, x: Array) -> tuple[Array, Array]:
            state = self.cell(x, state)
            return state, state

        x = jax.vmap(self.characters)(characters)
        _, states = jax.lax.scan(step, jnp.zeros_like(x[0]), x, unroll=self.unroll)
        return jax.vmap(self.readout)(states)


class GRUCharacters(AbstractOnData):
    """The next character of a text, predicted by a gated recurrent unit.

    The loss is the cross-entropy in nats per character, averaged over all characters of
    all windows of a batch:

        loss = -mean log p(c_k | c_0, ..., c_{k-1}),    k = 1, ..., length.

    The state starts at zero in each window, so that the first characters are predicted
    from few. Without training the loss is about the logarithm of the alphabet's size. The
    other metric is `accuracy`.

    Recurrent models of characters are an old test of second-order methods: Sutskever,
    Martens & Hinton (2011) trained theirs, which are larger, by Hessian-free optimisation.

    **Arguments:**

    - `text`: the data.
    - `width`: numbers that a character is embedded in, and those of the state.
    - `length`: how many characters of a window are read.
    - `batch_size`: windows in a mini-batch.
    - `evaluated`: on how many training windows and on how many test windows, the same
        ones always, metrics are evaluated; `None` for all.

    **Raises:**

    `ValueError` if a count is not one, the batch is larger than the data, or the windows
    are longer than the test data.
    """

    name: str = eqx.field(static=True)
    problem: curvopt.SupervisedProblem

    def __init__(
        self,
        text: Text,
        width: int = 128,
        length: int = 64,
        batch_size: int = 32,
        evaluated: int | None = 512,
    ):
        width = curvopt.check_count("width", width)
        self.name = text.name
        self.problem = next_character(
            text,
            partial(GRUNetwork, width, len(text.alphabet)),
            length=length,
            batch_size=batch_size,
            evaluated=evaluated,
        )
