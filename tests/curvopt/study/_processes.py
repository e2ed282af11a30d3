"""Processes of `jax.distributed` for tests."""

import atexit
import socket
import time

import jax


def address():
    """Where the first process can wait for the second."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def join(address, index, heartbeat=100):
    """Be one of two processes, before anything else of jax."""
    jax.distributed.initialize(address, 2, index, heartbeat_timeout_seconds=heartbeat)
    atexit.register(_leave)


def _leave():
    # When all have arrived at the end, jax's first process closes its service at once. One
    # that has not heard yet takes that for a crash and aborts.
    state = jax._src.distributed.global_state
    if state.client is not None:
        state.client.shutdown()
        state.client = None
        time.sleep(1)
