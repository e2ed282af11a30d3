"""The memory of one model over several devices, by XLA's analysis of a compiled step."""

import dataclasses
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.sharding import AxisType, NamedSharding

import curvopt
from strategies import Adam, CurvatureRescaling

from ._formatting import markdown
from .problems import TransformerNetwork


@dataclasses.dataclass(frozen=True)
class LargeModel:
    """Compile a step of a transformer over all devices, and print the bytes of each device
    by XLA's analysis: with the model on every device, and fully sharded. Nothing is run,
    and no parameter is made. Adam is rescaled by the curvature.

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


def _network(config: LargeModel, key: Any) -> TransformerNetwork:
    return TransformerNetwork(
        config.width,
        config.layers,
        max(1, config.width // 64),
        config.length,
        config.symbols,
        scanned=True,
        key=key,
    )


def _analysed(config: LargeModel, sharding: curvopt.Sharding) -> Any:
    """XLA's memory analysis of a step."""
    network = eqx.filter_eval_shape(functools.partial(_network, config), jr.key(0))
    is_struct = lambda x: isinstance(x, jax.ShapeDtypeStruct)
    params, static = eqx.partition(network, is_struct)
    solver = curvopt.LineSearchMinimiser(Adam(), CurvatureRescaling(along="fresh"))
    state = eqx.filter_eval_shape(solver.init_strategy, params, jr.key(0))
    params, state = sharding.put((params, state), params)
    text = jax.ShapeDtypeStruct(
        (config.batch_size, config.length),
        jnp.int32,
        sharding=NamedSharding(sharding.mesh, sharding.batch),
    )

    def loss(params: Any, text: Any) -> Any:
        logits = jax.vmap(eqx.combine(params, static))(text)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, text)
        return jnp.mean(losses), None

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, text: Any) -> Any:
        count = jnp.array(0, jnp.int32)
        new, after, record, _ = solver.update(loss, params, text, count, state)
        place = lambda old, x: jax.lax.with_sharding_constraint(x, old.sharding)
        new, after = jax.tree.map(place, (placed, placed_state), (new, after))
        return new, after, record

    placed, placed_state = params, state
    return step.lower(params, state, text).compile().memory_analysis()


def large_model(config: LargeModel) -> None:
    """Print the table.

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
    network = eqx.filter_eval_shape(functools.partial(_network, config), jr.key(0))
    shapes = [x.shape for x in jax.tree.leaves(network) if hasattr(x, "shape")]
    print(
        f"{sum(map(math.prod, shapes)) / 1e6:,.1f} million parameters; a step of Adam, "
        f"rescaled, on {config.batch_size} x {config.length}. MB on each device:\n"
    )
    rows = [["", "parameters and state", "temporaries", "all"]]
    for name, sharding in placements.items():
        memory = _analysed(config, sharding)
        held, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        more = memory.output_size_in_bytes - memory.alias_size_in_bytes
        sizes = (held, temporary, held + temporary + more)
        rows.append([name, *(f"{x / 1e6:,.0f}" for x in sizes)])
    print(markdown(rows))
