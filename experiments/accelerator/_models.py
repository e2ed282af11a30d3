"""Models whose gradient keeps a large accelerator busy for some milliseconds."""

import dataclasses
from typing import Any

import jax

from ..cost import Workload
from ..cost._instance import Instance
from ..cost._workloads import GRU, MLP, ResNet, Transformer
from ._bench import Bench, host


@dataclasses.dataclass(frozen=True)
class Model:
    """A workload, and its batch size on an accelerator."""

    workload: Workload
    batch_size: int

    @property
    def has_loop(self) -> bool:
        """Whether XLA's count of its FLOPs is too low, because of a loop."""
        return self.workload.loop_free is not None


def _model(label: str, full: Any, tiny: Any, batch_size: int, loop: Any = None) -> Model:
    return Model(Workload(label, full, tiny, (batch_size, batch_size), loop), batch_size)


# The most important ones come first.
MODELS = {
    "large-mlp": _model(
        "MLP 784-4096-4096-4096-10", MLP(784, 4096, 3, 10), MLP(6, 8, 3, 3), 4096
    ),
    "transformer": _model(
        "transformer, 6 layers of 512",
        Transformer(512, 6, 8, 256, 96),
        Transformer(8, 1, 2, 5, 7),
        64,
    ),
    "resnet": _model(
        "ResNet, 64 to 256 channels",
        ResNet(32, (64, 128, 256), 10),
        ResNet(8, (3, 4), 3),
        256,
    ),
    "gru": _model(
        "GRU of 512, 128 steps", GRU(512, 128, 96), GRU(6, 5, 7), 256, GRU.loop_free
    ),
}


def built(workload: Workload, batch_size: int, quick: bool) -> Instance:
    """A loss with its arrays made on the host, so that all devices get the same numbers."""
    with jax.default_device(host()):
        return workload.tiny(4) if quick else workload.full(batch_size)


def placed(instance: Instance, device: Any) -> Instance:
    """The instance with its arrays on a device."""
    return Instance(instance.loss, *jax.device_put((instance.y, instance.args), device))


def model_on(bench: Bench, name: str) -> Instance:
    """A model on the measured device."""
    model = MODELS[name]
    return placed(built(model.workload, model.batch_size, bench.quick), bench.device)
