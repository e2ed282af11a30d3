"""Batches that come from the host, by seed and step."""

import dataclasses
import functools
import itertools
import mmap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree, Shaped

from ._checks import check_count, check_examples, check_function
from ._describe import described, digest
from ._minibatch import host_minibatch_indices


# A pytree of arrays on the host: the data of one step.
HostBatch = PyTree[Shaped[np.ndarray, "..."]]


class _Shuffled:
    """The batches of arrays, by seed and step."""

    def __init__(self, arrays: Any, size: int, batch_size: int):
        self._arrays, self._size, self._batch_size = arrays, size, batch_size

    def __call__(self, seed: int, step: int) -> Any:
        rows = host_minibatch_indices(
            seed, step, size=self._size, batch_size=self._batch_size
        )
        return jtu.tree_map(lambda x: x[rows], self._arrays)

    def __repr__(self) -> str:
        return f"{described(self._arrays)} in batches of {self._batch_size}"


@dataclasses.dataclass(frozen=True, repr=False)
class _Sequence:
    """Batches that are read one after another."""

    iterate: Callable[[int], Any]
    repeatable: bool

    def read(self, seed: int) -> Iterator[Any]:
        """The batches of a seed; raise where they end."""
        step = 0
        for batch in self.iterate(seed):
            yield batch
            step += 1
        raise ValueError(
            f"{self}({seed}) has ended after {step} batches, but the run goes on. Make it "
            "go from epoch to epoch: `while True: yield from loader`."
        )

    def __call__(self, seed: int, step: int) -> Any:
        return next(itertools.islice(self.read(seed), step, None))

    def __repr__(self) -> str:
        return _name(self.iterate)


class HostData:
    r"""Data that stay on the host: the batch of each seed and step is loaded when it is
    needed, a little ahead, while the device computes.

    ```python
    images = np.load("images.npy", mmap_mode="r")  # larger than the memory
    labels = np.load("labels.npy")
    data = curvopt.HostData.from_arrays((images, labels), batch_size=128)
    ```

    It is given to [`curvopt.SupervisedProblem`][] as `train`, or returned by the
    `host_data` of a problem of your own. A function can load the batches by their
    numbers:

    ```python
    def batch(seed, step):
        rng = np.random.default_rng([seed, step])
        rows = rng.choice(len(images), 128, replace=False)
        return images[rows], labels[rows]

    data = curvopt.HostData(batch, steps_per_epoch=len(images) // 128)
    ```

    Each group of lanes that run at once loads each batch of a seed once, in order, in its
    own thread. The lanes with that seed share it, as do all evaluations of a line search
    and all steps that a rule makes on one batch. A batch that waits is on a device once for
    each seed; during its step, once for each lane. A process loads only the seeds of its
    own lanes.

    **Arguments:**

    - `batch`: `batch(seed, step)` returns a pytree of NumPy arrays (or what `np.asarray`
        takes), of the same structure, shapes and dtypes at every step. `seed` is that of
        the study, an integer; in [`curvopt.train`][] it is the one that the key was made
        from: 3 for `jax.random.key(3)`. `step` counts the batches from 0. It must depend on
        these two alone: then strategies see the same batches, and a study resumes
        exactly. It is called in threads, several at a time if groups of lanes run side by
        side.
    - `steps_per_epoch`: how many batches go through the data once.

    **Attributes:**

    - `steps_per_epoch`.
    - `repeatable`: whether a batch can be asked for again; not in a stream.
    - `waited`: the seconds for which training in this process has waited for batches; of
        groups of lanes that run side by side, all together.

    **Raises:**

    `ValueError` if `batch` is not a function, or `steps_per_epoch` is below 1. When it is
    trained on: if the first batch, asked for again, is another one, or if a later one has
    another structure, shape or dtype. An exception in `batch` comes out as it is, with
    everything saved.
    """

    def __init__(self, batch: Callable[[int, int], Any], *, steps_per_epoch: int):
        self._batch = check_function("batch", batch)
        self.steps_per_epoch = check_count("steps_per_epoch", steps_per_epoch)
        self.waited = 0.0
        # By seed, the digests of its first batch; in a stream, the seeds that were read.
        self._begun, self._lock = dict[int, Any](), threading.Lock()

    @classmethod
    def from_arrays(cls, arrays: Any, *, batch_size: int) -> "HostData":
        """Arrays on the host, such as memory maps, shuffled anew in each epoch.

        The batches are those of [`curvopt.minibatch_indices`][], with which
        [`curvopt.SupervisedProblem`][] draws from arrays on the device.

        **Arguments:**

        - `arrays`: a pytree of NumPy arrays of shapes `(examples, ...)`:
            `np.load(path, mmap_mode="r")` or an `np.memmap` is read from disk, without
            reading ahead.
        - `batch_size`: examples in a batch.

        **Raises:**

        `ValueError` if the arrays disagree on the number of examples, or the batch is
        larger than that.
        """
        size = check_examples("arrays", arrays)
        batch_size = check_count("batch_size", batch_size)
        if batch_size > size:
            raise ValueError(
                "batch_size must be at most the number of examples, but it is "
                f"{batch_size} and there are {size}."
            )
        for x in jtu.tree_leaves(arrays):
            _read_scattered(x)
        shuffled = _Shuffled(arrays, size, batch_size)
        return cls(shuffled, steps_per_epoch=size // batch_size)

    @classmethod
    def from_iterator(
        cls,
        iterate: Callable[[int], Any],
        *,
        steps_per_epoch: int,
        repeatable: bool = False,
    ) -> "HostData":
        """Batches that can only be read one after another: a stream, or a loader such as
        PyTorch's `DataLoader`.

        What it can promise depends on whether `iterate(seed)` begins again with the same
        batches. If it does, say `repeatable=True`: each group of lanes reads an iterator of
        its own, and a run that resumes reads what it has seen once more, to skip it. If it
        does not, each seed is read once, by a single strategy, without a folder: other
        strategies would see other batches, and so would a run that resumes.

        **Arguments:**

        - `iterate`: from a seed to an iterator of batches. It must not end before the run
            does: go from epoch to epoch in it.
        - `steps_per_epoch`: how many batches go through the data once; for a stream, as
            many as you call an epoch.
        - `repeatable`: whether `iterate(seed)` yields the same batches each time. Only the
            first one is compared.

        **Raises:**

        `ValueError` if `iterate` is not a function. When it is trained on: if it ends; if a
        stream is asked for several strategies, or for a folder; if what is said to be
        repeatable begins with another batch.
        """
        check_function("iterate", iterate)
        return cls(_Sequence(iterate, repeatable), steps_per_epoch=steps_per_epoch)

    def __repr__(self) -> str:
        name = self._batch if isinstance(self._batch, _Shuffled) else _name(self._batch)
        return f"HostData({name}, steps_per_epoch={self.steps_per_epoch})"

    @property
    def repeatable(self) -> bool:
        """Whether a batch can be asked for again."""
        return not isinstance(self._batch, _Sequence) or self._batch.repeatable

    def _read(self, seed: int, first: int) -> Iterator[Any]:
        if isinstance(self._batch, _Sequence):
            return itertools.islice(self._batch.read(seed), first, None)
        return (self._batch(seed, step) for step in itertools.count(first))

    @functools.cached_property
    def _opened(self) -> tuple[HostBatch, Iterator[Any]]:
        """The first batch of seed 0, and the iterator that it was taken from."""
        rest = self._read(0, 0)
        # Copied: a function may fill the same arrays again.
        batch = jtu.tree_map(np.copy, _as_batch(next(rest), 0, 0))
        if self.repeatable:
            self._check_begin(0, batch)
        return batch, rest

    @property
    def first(self) -> HostBatch:
        """The first batch of seed 0, which all others must be like."""
        return self._opened[0]

    def batches(self, seed: int, first: int) -> Iterator[HostBatch]:
        """The batches of a seed, in order, from a step on.

        A loop of one's own reads them as training does: `next(data.batches(seed, 0))`.

        **Raises:**

        `ValueError`, when it is read, for a batch that is not like the first one of all, or
        for a seed that begins with another batch than before.
        """
        read = self._read if self.repeatable else self._read_once
        for step, given in enumerate(read(seed, first), first):
            batch = _as_batch(given, seed, step)
            if _kinds(batch) != _kinds(self.first):
                raise ValueError(
                    f"the batch of seed {seed}, step {step} must be like the first one of "
                    f"seed 0, which is {described(self.first)}, but it is "
                    f"{described(batch)}. Leave out a last batch that is smaller."
                )
            if step == 0 and self.repeatable:
                self._check_begin(seed, batch)
            yield batch

    def _read_once(self, seed: int, first: int) -> Iterator[Any]:
        """The batches of a stream."""
        with self._lock:
            if first or seed in self._begun:
                raise ValueError(
                    f"the batches of seed {seed} were read already, and a stream cannot go "
                    "back. Make another `HostData` of it; or, if the same batches can be "
                    "read again, say `repeatable=True`."
                )
            self._begun[seed] = None
        if seed:
            return self._read(seed, 0)
        # The first batch was already read, for its shapes.
        batch, rest = self._opened
        return itertools.chain([batch], rest)

    def _check_begin(self, seed: int, batch: HostBatch) -> None:
        """Raise if a seed has begun with another batch before."""
        found = [digest(x) for x in jtu.tree_leaves(batch)]
        if self._begun.setdefault(seed, found) != found:
            raise ValueError(
                f"{self} must give the same batch for the same seed and step, but the "
                f"first one of seed {seed} was another when it was asked for again. Draw "
                "what is random by `numpy.random.default_rng([seed, step])`; what can only "
                "be read once is a stream: `curvopt.HostData.from_iterator`."
            )

    def add_wait(self, seconds: float) -> None:
        """Count time for which training waited."""
        with self._lock:
            self.waited += seconds


def check_repeats(data: HostData) -> None:
    """Raise if the first batch is another one when it is asked for again."""
    if data.repeatable:
        next(data.batches(0, 0))


def first_batch_fields(data: HostData) -> dict[str, str]:
    """What a study compares when it resumes: the first batch of seed 0."""
    return {
        f"host_data: the first batch of seed 0{jtu.keystr(path)}": (
            f"{described(x)} of digest {digest(x)}"
        )
        for path, x in jtu.tree_leaves_with_path(data.first)
    }


def _read_scattered(x: Any) -> None:
    """Turn off reading ahead of a memory map: for examples in random order the system would
    read up to megabytes to get at one of a few kilobytes."""
    while isinstance(x, np.ndarray):
        x = x.base
    if isinstance(x, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):  # not on Windows
        x.madvise(mmap.MADV_RANDOM)


def _name(fn: Any) -> str:
    if isinstance(fn, _Sequence):
        return str(fn)
    return getattr(fn, "__qualname__", type(fn).__name__)


def _as_batch(given: Any, seed: int, step: int) -> HostBatch:
    """A batch as arrays of NumPy."""

    def array(path: Any, x: Any) -> np.ndarray:
        found = np.asarray(x)
        if found.dtype.kind in "OSU":
            raise ValueError(
                f"the batch of seed {seed}, step {step} must be a pytree of arrays, but "
                f"{jtu.keystr(path) or 'it'} is {type(x).__name__}."
            )
        return found

    return jtu.tree_map_with_path(array, given)


def _kinds(batch: HostBatch) -> Any:
    leaves, structure = jtu.tree_flatten(batch)
    return structure, [(x.shape, x.dtype) for x in leaves]
