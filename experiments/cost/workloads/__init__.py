"""The workloads by name."""

from ._workload import Builder as Builder, Workload as Workload
from .autoencoder import Autoencoder
from .gru import GRU
from .lenet import LeNet
from .mlp import MLP
from .resnet import ResNet
from .transformer import Transformer


WORKLOADS = {
    "mlp": Workload("MLP", MLP(784, 1024, 1, 10), MLP(6, 8, 1, 3), batch_sizes=(128, 512)),
    "deep-mlp": Workload(
        "deep MLP", MLP(784, 1024, 3, 10), MLP(6, 8, 3, 3), batch_sizes=(64, 256)
    ),
    "autoencoder": Workload(
        "autoencoder",
        Autoencoder((784, 256, 64, 16, 64, 256, 784)),
        Autoencoder((12, 6, 2, 6, 12)),
        batch_sizes=(128, 512),
    ),
    "lenet": Workload(
        "LeNet",
        LeNet(28, (6, 16), (120, 84), 10),
        LeNet(12, (2, 3), (6, 5), 3),
        batch_sizes=(32, 128),
    ),
    "resnet": Workload(
        "ResNet", ResNet(32, (16, 32, 64), 10), ResNet(8, (3, 4), 3), batch_sizes=(16, 64)
    ),
    "transformer": Workload(
        "transformer",
        Transformer(256, 4, 4, 128, 96),
        Transformer(8, 1, 2, 5, 7),
        batch_sizes=(2, 8),
    ),
    "scanned-transformer": Workload(
        "transformer, scanned",
        Transformer(256, 4, 4, 128, 96, scanned=True),
        Transformer(8, 2, 2, 5, 7, scanned=True),
        batch_sizes=(2, 8),
        loop_free=Transformer.loop_free,
    ),
    "gru": Workload(
        "GRU",
        GRU(256, 128, 96),
        GRU(6, 5, 7),
        batch_sizes=(8, 32),
        loop_free=GRU.loop_free,
    ),
}
