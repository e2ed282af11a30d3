"""How lanes are run: what a user asks for, and what was chosen."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from .._checks import check_choice, check_count
from ._program import Loop


@dataclasses.dataclass(frozen=True)
class Execution:
    """How the lanes of a study are run. What is `None` is chosen: by the backend, by the
    compiled program's own memory analysis, and, where it pays, by a short measurement. A
    study that goes on from its folder is run as it was begun, whatever is given.

    **Arguments:**

    - `loop`: `"scan"`, many steps in one call of the compiled program, or `"dispatch"`, a
        call for each step. XLA on CPU runs a convolution inside a loop many times slower
        than one dispatched.
    - `lanes_at_once`: how many lanes a device runs at once, vmapped; 1 runs one after
        another. Results of one choice and of another differ by rounding.
    - `workers`: how many groups of lanes are run side by side, each by a thread of its own.
        XLA on CPU runs small programs on one core: a study on one device of a CPU has as
        many workers as there are cores.
    - `measure`: whether to measure what is chosen among; by default in runs that are
        expected to take long, on CPU, where measuring pays.
    - `chunk`: the most steps between two looks at the progress bar and the clock. It
        changes no number.
    - `memory`: how many bytes of each device the lanes may take.
    - `devices`: on which of `jax.local_devices()`; default all of them.

    **Raises:**

    `ValueError` if a field is none of these.
    """

    loop: Loop | None = None
    lanes_at_once: int | None = None
    workers: int | None = None
    measure: bool | None = None
    chunk: int | None = None
    memory: int | None = None
    devices: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if self.loop is not None:
            check_choice("loop", self.loop, ("scan", "dispatch"))
        for name in ("lanes_at_once", "workers", "chunk", "memory"):
            value = getattr(self, name)
            if value is not None:
                check_count(name, value)
        if self.devices is not None and not self.devices:
            raise ValueError("devices must be at least one, but there is none.")

    def on(self) -> tuple[Any, ...]:
        """The devices."""
        return tuple(jax.local_devices() if self.devices is None else self.devices)


@dataclasses.dataclass(frozen=True)
class Choice:
    """How the lanes of a strategy are run; what a resumed study repeats.

    **Attributes:**

    - `loop`, `lanes_at_once`, `workers`: as in [`curvopt.Execution`][].
    - `devices`: how many devices run lanes side by side.
    - `longest`: the most steps that its compiled program makes in one call.
    - `evaluate_at_once`: whether the metrics of a group's lanes are evaluated together.
    - `reason`: why.
    - `compile_seconds`: how long it took to compile the program, and those that it was
        measured against.
    """

    loop: Loop
    lanes_at_once: int
    workers: int
    devices: int
    longest: int
    evaluate_at_once: bool
    reason: str
    compile_seconds: float = 0.0

    def __str__(self) -> str:
        many = self.lanes_at_once > 1
        lanes = f"{self.lanes_at_once} lanes at once" if many else "one lane after another"
        loop = "steps in a compiled loop" if self.loop == "scan" else "a call for each step"
        on = f" on each of {self.devices} devices" if self.devices > 1 else ""
        side = f", {self.workers} groups side by side" if self.workers > 1 else ""
        return f"{lanes}{on}{side}, {loop} ({self.reason})"


def check_devices(choice: Choice, execution: Execution) -> None:
    """Refuse to go on with a study on another number of devices.

    **Raises:**

    `ValueError` naming both.
    """
    devices = len(execution.on())
    if devices != choice.devices:
        raise ValueError(
            f"the study was begun on {choice.devices} devices, but there are {devices}: "
            "its numbers would not be the same. Go on with as many, or in another folder."
        )
