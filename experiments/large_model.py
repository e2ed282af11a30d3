"""One model over several devices: the memory of each, and the losses of one device."""

import dataclasses
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding

import curvopt
from strategies import Adam, recipes

from ._formatting import markdown
from .problems import TransformerNetwork


@dataclasses.dataclass(frozen=True)
class LargeModel:
    """Compile a step of a transformer over all devices, and print the bytes of each device
    by XLA's analysis: with the model on every device, and fully sharded. Adam is rescaled
    by the curvature. With --steps these programs run, and their losses are compared with
    those of one device; without, no parameter is made.

    Devices of a CPU: `XLA_FLAGS=--xla_force_host_platform_device_count=8`.
    """

    width: int = 768
    """Width of the transformer, with heads of 64 numbers."""

    layers: int = 12
    """Blocks of the transformer."""

    symbols: int = 16384
    """Different symbols of the text."""

    length: int = 128
    """Symbols in a sequence."""

    batch_size: int = 8
    """Sequences in a batch."""

    steps: int = 0
    """Steps to run. Each symbol of a sequence is the successor of the one before."""


def _start(config: LargeModel) -> tuple[Any, Any]:
    """The network, and the state of the strategy."""
    network = TransformerNetwork(
        config.width,
        config.layers,
        max(1, config.width // 64),
        config.length,
        config.symbols,
        scanned=True,
        key=jr.key(0),
    )
    params = eqx.filter(network, eqx.is_array)
    return network, _solver(config).init_strategy(params, jr.key(1))


def _solver(config: LargeModel) -> curvopt.LineSearchMinimiser:
    return recipes.rescaled(Adam(), steps=max(1, config.steps))


def _text(config: LargeModel, step: int) -> Any:
    """A batch: sequences with one symbol more than the network reads."""
    key = jr.fold_in(jr.key(2), step)
    first = jr.randint(key, (config.batch_size, 1), 0, config.symbols)
    return (first + jnp.arange(config.length + 1)) % config.symbols


def _compiled(config: LargeModel, sharding: curvopt.Sharding) -> Any:
    """A step, compiled for shapes alone."""
    network, state = eqx.filter_eval_shape(_start, config)
    is_struct = lambda x: isinstance(x, jax.ShapeDtypeStruct)
    params, static = eqx.partition(network, is_struct)
    placed = sharding.put((params, state), params)
    at = NamedSharding(sharding.mesh, sharding.batch)
    text = eqx.filter_eval_shape(_text, config, 0)
    text = jax.ShapeDtypeStruct(text.shape, text.dtype, sharding=at)
    solver = _solver(config)

    def loss(params: Any, text: Any) -> Any:
        logits = jax.vmap(eqx.combine(params, static))(text[:, :-1])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:])
        return jnp.mean(losses), None

    @functools.partial(jax.jit, donate_argnums=0)
    def step(carry: Any, text: Any, count: Any) -> Any:
        params, state, record, _ = solver.update(loss, carry[0], text, count, carry[1])
        place = lambda old, x: jax.lax.with_sharding_constraint(x, old.sharding)
        return jax.tree.map(place, placed, (params, state)), record.loss

    count = jax.ShapeDtypeStruct((), jnp.int32)
    return step.lower(placed, text, count).compile()


def _losses(config: LargeModel, sharding: curvopt.Sharding, step: Any) -> list[float]:
    """The losses of the first steps."""
    network, state = _start(config)
    params = eqx.filter(network, eqx.is_array)
    carry, losses = sharding.put((params, state), params), []
    at = NamedSharding(sharding.mesh, sharding.batch)
    for count in range(config.steps):
        text = jax.device_put(_text(config, count), at)
        carry, loss = step(carry, text, jnp.asarray(count, jnp.int32))
        losses.append(float(loss))
    return losses


def large_model(config: LargeModel) -> None:
    """Print the tables.

    **Raises:**

    `ValueError` if the devices do not divide the batch.
    """
    devices = jax.devices()
    auto = (AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=auto)
    alone = jax.make_mesh((1,), ("data",), axis_types=auto, devices=devices[:1])
    placements = {
        "one device": curvopt.Sharding(alone),
        f"{len(devices)} devices, data parallel": curvopt.Sharding(mesh),
        f"{len(devices)} devices, fully sharded": curvopt.Sharding(
            mesh, curvopt.FullySharded(mesh)
        ),
    }
    if config.batch_size % len(devices):
        raise ValueError(
            f"--batch-size must be a multiple of the {len(devices)} devices, but it is "
            f"{config.batch_size}."
        )
    network, _ = eqx.filter_eval_shape(_start, config)
    shapes = [x.shape for x in jax.tree.leaves(network) if hasattr(x, "shape")]
    print(
        f"{sum(map(math.prod, shapes)) / 1e6:,.1f} million parameters; a step of Adam, "
        f"rescaled, on {config.batch_size} x {config.length}. MB on each device:\n"
    )
    rows = [["", "parameters and state", "temporaries", "all"]]
    steps = {name: _compiled(config, sharding) for name, sharding in placements.items()}
    for name, step in steps.items():
        memory = step.memory_analysis()
        held, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        more = memory.output_size_in_bytes - memory.alias_size_in_bytes
        sizes = (held, temporary, held + temporary + more)
        rows.append([name, *(f"{x / 1e6:,.0f}" for x in sizes)])
    print(markdown(rows))
    if config.steps:
        losses = {name: _losses(config, placements[name], steps[name]) for name in steps}
        one = np.array(losses["one device"])
        rows = [["", "first loss", "last loss", "largest relative difference"]]
        for name, own in losses.items():
            apart = np.max(np.abs(own - one) / one)
            rows.append([name, f"{own[0]:.6f}", f"{own[-1]:.6f}", f"{apart:.1e}"])
        print(f"\n{config.steps} steps:\n\n{markdown(rows)}")
