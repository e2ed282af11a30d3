"""Batches from the host, on the devices before they are needed."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from .._host_data import HostData
from ._steps import Layout, spread


# How many batches wait on the devices for the step that needs them.
_AHEAD = 2

# How many batches of each lane there are at most: those that wait, the next one, which is
# being loaded, and those of two steps, one that is running and one that was dispatched.
BATCHES = _AHEAD + 3


class Feed:
    """The batches of a group of lanes, loaded ahead by a thread; a context manager, in
    which it is called with each step, in order.

    Lanes of one seed share its batch, which is loaded once, and is once on each device that
    needs it.

    **Arguments:**

    - `data`: the data.
    - `seeds`: the seed of each lane of the group.
    - `layout`: how the lanes are placed on the devices.
    - `like`: the shapes and dtypes of a batch on the device.
    - `batches`: the numbers of the batches.
    - `steps_per_batch`: how many steps are made on each.
    """

    def __init__(
        self,
        data: HostData,
        seeds: Sequence[int],
        layout: Layout,
        like: PyTree[jax.ShapeDtypeStruct],
        batches: range,
        steps_per_batch: int,
    ):
        self._data, self._layout, self._like = data, layout, like
        self._batches, self._steps_per_batch = batches, steps_per_batch
        each = np.array(seeds).reshape(-1, layout.width)  # by device
        own = [list(dict.fromkeys(row)) for row in each.tolist()]
        # As many on each device: those that have fewer seeds repeat them.
        slots = max(map(len, own))
        self._slots = [row[k % len(row)] for row in own for k in range(slots)]
        which = [[row.index(s) for s in lanes] for row, lanes in zip(own, each.tolist())]
        self._which = jax.device_put(np.array(which, np.int32).ravel(), layout.over_lanes)
        self._share = which != [list(range(layout.width))] * len(which)
        # jax's settings are per thread, and this is made in the user's.
        self._x64 = jnp.result_type(float) == jnp.float64
        if self._share:
            struct = lambda x: jax.ShapeDtypeStruct(
                (len(self._slots), *x.shape), x.dtype, sharding=layout.over_lanes
            )
            lowered = spread.lower(layout, jtu.tree_map(struct, like), self._which)
            self._spread = lowered.compile()
        self._queue: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._load_all, daemon=True)
        self._number, self._batch = -1, None
        self._error: BaseException | None = None

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # A function of the user's that hangs must not keep the process.
        self._thread.join(timeout=10.0)

    def __call__(self, step: int) -> PyTree[Array]:
        """The batch of each lane for a step: that of the last call, or the next one.

        **Raises:**

        Whatever loading it raised, as often as it is called.
        """
        if self._error is not None:
            raise self._error
        while self._number < step // self._steps_per_batch:
            began = time.perf_counter()
            found = self._queue.get()
            self._data.add_wait(time.perf_counter() - began)
            if isinstance(found, BaseException):
                self._error = found
                raise found
            self._number, self._batch = found
            if self._share:
                self._batch = self._spread(self._batch, self._which)
        return self._batch

    def _load_all(self) -> None:
        with jax.enable_x64(self._x64):
            try:
                read = {s: self._data.batches(s, self._batches.start) for s in self._slots}
                for number in self._batches:
                    if not self._put((number, self._load(read))):
                        return
            except BaseException as error:
                self._put(error)

    def _load(self, read: dict[int, Iterator[Any]]) -> PyTree[Array]:
        """The next batches of the seeds, stacked on the devices."""
        empty = lambda x: np.empty((len(self._slots), *x.shape), x.dtype)
        stacked = jtu.tree_map(empty, self._like)
        for seed, batches in read.items():
            at = np.array(self._slots) == seed
            # Copied before the next is read: the user may fill the same arrays again.
            for out, x in zip(jtu.tree_leaves(stacked), jtu.tree_leaves(next(batches))):
                out[at] = x
        return jax.device_put(stacked, self._layout.over_lanes)

    def _put(self, item: Any) -> bool:
        """Put an item where it is taken from; return whether it is still wanted."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
