"""The memory and FLOPs of a batch in micro-batches, relative to the batch at once."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import curvopt

from ._formatting import markdown
from .problems import TransformerNetwork


METHODS: dict[str, curvopt.AbstractCurvatureMethod] = {
    "adjoint": curvopt.AdjointCurvature(),
    "forward": curvopt.ForwardCurvature(),
    "Gauss-Newton": curvopt.GaussNewtonCurvature(),
}

_SYMBOLS = 96


@dataclasses.dataclass(frozen=True)
class MicroBatches:
    """Compile value, gradient and curvature of a transformer's loss, on a batch at once and
    in micro-batches, and print XLA's analysis of memory and FLOPs. Nothing is run."""

    micro_batches: tuple[int, ...] = (1, 4, 16)
    """How many micro-batches the batch is cut into."""

    batch_size: int = 64
    """Sequences in the batch."""

    length: int = 128
    """Characters in a sequence."""

    width: int = 256
    """Width of the transformer, with heads of 64 numbers."""

    layers: int = 4
    """Blocks of the transformer."""


def _problem(config: MicroBatches) -> curvopt.SupervisedProblem:
    """The next character of blank sequences: costs depend on shapes only."""
    blank = np.zeros((config.batch_size, config.length), np.int32)
    network = functools.partial(
        TransformerNetwork,
        config.width,
        config.layers,
        max(1, config.width // 64),
        config.length,
        _SYMBOLS,
        True,
    )
    return curvopt.SupervisedProblem(
        curvopt.EquinoxModel(network),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        train=(blank, blank),
        batch_size=config.batch_size,
    )


def _analysed(problem: curvopt.AbstractProblem) -> dict[str, Any]:
    """Each program, compiled for the shapes of the problem."""
    params, state = eqx.filter_eval_shape(problem.init, jr.key(0))
    data = eqx.filter_eval_shape(problem.batch, jr.key(0), jnp.array(0))
    args = data, state, jax.eval_shape(jr.key, 0)

    def gradient(y: Any, args: Any) -> Any:
        return jax.value_and_grad(problem.loss, has_aux=True)(y, args)

    def curvature(method: Any, y: Any, args: Any) -> Any:
        model = curvopt.quadratic_model(problem.loss, y, args, method, has_aux=True)
        u = jax.tree.map(jnp.negative, model.grad)
        return model.value, model.grad, model.curvature(u)

    programs = {"gradient": curvopt.cost.compile_and_analyse(gradient, params, args)}
    for name, method in METHODS.items():
        programs[name] = curvopt.cost.compile_and_analyse(curvature, method, params, args)
    return programs


def micro_batches(config: MicroBatches) -> None:
    """Print a table of memory (temporaries) and FLOPs.

    **Raises:**

    `ValueError` if a number of micro-batches does not divide the batch.
    """
    problem = _problem(config)
    columns = {"at once": _analysed(problem)}
    for n in config.micro_batches:
        columns[str(n)] = _analysed(curvopt.MicroBatched(problem, n))
    gradient = columns["at once"]["gradient"]
    sizes = jax.tree.leaves(eqx.filter_eval_shape(problem.init, jr.key(0))[0])
    print(
        f"{sum(x.size for x in sizes):,} parameters, a batch of {config.batch_size} x "
        f"{config.length}: {gradient.flops / 1e9:.3g} GFLOP for a gradient. Temporaries "
        "in MB / FLOPs in gradients of the batch at once:\n"
    )
    rows = [
        [name]
        + [
            f"{programs[name].temporary_bytes / 1e6:.1f} / "
            f"{programs[name].flops / gradient.flops:.2f}"
            for programs in columns.values()
        ]
        for name in ("gradient", *METHODS)
    ]
    print(markdown([["micro-batches", *columns], *rows]))
