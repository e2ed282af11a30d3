"""Make `fashion_mnist_subset.npz` from the full Fashion-MNIST.

    python -m experiments.data.make_subset [--data-dir FOLDER] [--out FILE]

Class-balanced: the same number of every class, drawn without replacement by a NumPy
generator with the seed below, then put into random order. Prints the SHA-256 that
`_subset.py` expects.
"""

import hashlib
from pathlib import Path

import numpy as np
import tyro

from ._full import load_full
from ._subset import SUBSET_FILE


SEED = 20221014
TRAIN_PER_CLASS = 1200
TEST_PER_CLASS = 200


def balanced(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `per_class` examples of every class, in random order."""
    chosen = [
        rng.choice(np.flatnonzero(labels == c), per_class, replace=False)
        for c in np.unique(labels)
    ]
    return rng.permutation(np.concatenate(chosen))


def main(data_dir: Path | None = None, out: Path = SUBSET_FILE) -> None:
    """Make the embedded Fashion-MNIST subset.

    Args:
        data_dir: where the full Fashion-MNIST is (IDX files).
        out: the file to write.
    """
    full = load_full("fashion-mnist", data_dir)
    rng = np.random.default_rng(SEED)
    train = balanced(full.train_labels, TRAIN_PER_CLASS, rng)
    test = balanced(full.test_labels, TEST_PER_CLASS, rng)
    np.savez_compressed(
        out,
        train_images=full.train_images[train],
        train_labels=full.train_labels[train],
        test_images=full.test_images[test],
        test_labels=full.test_labels[test],
    )
    content = out.read_bytes()
    print(f"{out}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    tyro.cli(main)
