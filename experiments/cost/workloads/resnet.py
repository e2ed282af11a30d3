import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from .._instance import Instance
from ._data import cross_entropy, keys, labelled


_BATCH = "batch"


class _NormalisedConv(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(
        self, before: int, after: int, size: int, stride: int, *, key: PRNGKeyArray
    ):
        self.conv = eqx.nn.Conv2d(
            before, after, size, stride, padding=size // 2, use_bias=False, key=key
        )
        self.norm = eqx.nn.BatchNorm(after, _BATCH, mode="batch")

    def __call__(self, x: Array, state: eqx.nn.State) -> tuple[Array, eqx.nn.State]:
        return self.norm(self.conv(x), state)


class _Block(eqx.Module):
    """Two convolutions and a way round them."""

    first: _NormalisedConv
    second: _NormalisedConv
    shortcut: _NormalisedConv | None

    def __init__(self, before: int, after: int, stride: int, *, key: PRNGKeyArray):
        k = jr.split(key, 3)
        self.first = _NormalisedConv(before, after, 3, stride, key=k[0])
        self.second = _NormalisedConv(after, after, 3, 1, key=k[1])
        changes = stride > 1 or before != after
        self.shortcut = (
            _NormalisedConv(before, after, 1, stride, key=k[2]) if changes else None
        )

    def __call__(self, x: Array, state: eqx.nn.State) -> tuple[Array, eqx.nn.State]:
        out, state = self.first(x, state)
        out, state = self.second(jax.nn.relu(out), state)
        if self.shortcut is not None:
            x, state = self.shortcut(x, state)
        return jax.nn.relu(out + x), state


class _Network(eqx.Module):
    stem: _NormalisedConv
    blocks: tuple[_Block, ...]
    readout: eqx.nn.Linear

    def __init__(self, channels: tuple[int, ...], classes: int, key: PRNGKeyArray):
        stem_key, readout_key, *block_keys = jr.split(key, 2 + len(channels))
        self.stem = _NormalisedConv(3, channels[0], 3, 1, key=stem_key)
        befores = (channels[0], *channels)
        self.blocks = tuple(
            _Block(before, after, 1 if k == 0 else 2, key=key)
            for k, (before, after, key) in enumerate(zip(befores, channels, block_keys))
        )
        self.readout = eqx.nn.Linear(channels[-1], classes, key=readout_key)

    def __call__(
        self, x: Float[Array, "3 height width"], state: eqx.nn.State
    ) -> tuple[Array, eqx.nn.State]:
        x, state = self.stem(x, state)
        x = jax.nn.relu(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.readout(jnp.mean(x, axis=(1, 2))), state


@dataclasses.dataclass(frozen=True)
class ResNet:
    """The residual network that He et al. (2016) use on CIFAR, one block a stage, with
    relu and batch normalisation; its running averages are the auxiliary output."""

    size: int
    channels: tuple[int, ...]
    classes: int

    def __call__(self, batch_size: int) -> Instance:
        model_key, data_key = keys()
        model, state = eqx.nn.make_with_state(_Network)(
            self.channels, self.classes, model_key
        )
        # Its counters are weakly typed, and would widen with the parameters.
        state = jtu.tree_map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
        y, static = eqx.partition(model, eqx.is_inexact_array)

        def loss(y: PyTree, args: Any) -> tuple[Scalar, eqx.nn.State]:
            (images, labels), state = args
            # A state may be updated once only: each evaluation gets a copy.
            state = jtu.tree_map(lambda x: x, state)
            network = jax.vmap(
                eqx.combine(y, static),
                in_axes=(0, None),
                out_axes=(0, None),
                axis_name=_BATCH,
            )
            logits, state = network(images, state)
            return cross_entropy(logits, labels), state

        shape = (3, self.size, self.size)
        data = labelled(data_key, batch_size, shape, self.classes)
        return Instance(loss, y, (data, state))
