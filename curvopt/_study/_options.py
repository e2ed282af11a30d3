"""How a study is run and saved, as the user asks."""

import dataclasses
import sys
from typing import Any

import numpy as np

from .._checks import check_instance
from ._evaluation import OnEvaluation
from ._execution import Execution


@dataclasses.dataclass(frozen=True)
class Options:
    """The arguments of [`curvopt.run_study`][] besides study and folder, checked."""

    execution: Execution
    save_every: float
    progress: bool
    accept_versions: bool
    rerun_damaged: bool
    on_evaluation: OnEvaluation | None

    def __post_init__(self) -> None:
        check_instance("execution", self.execution, Execution)
        number = isinstance(self.save_every, (int, float, np.number))
        if not number or not self.save_every >= 0:
            raise ValueError(
                f"save_every must be a number of seconds, at least 0, but it is "
                f"{self.save_every!r}."
            )
        # An integer may be larger than any float.
        seconds = float(min(self.save_every, sys.float_info.max))
        object.__setattr__(self, "save_every", seconds)
        if self.on_evaluation is not None and not callable(self.on_evaluation):
            raise ValueError(
                "on_evaluation must be a function of a curvopt.Evaluation, but it is "
                f"{self.on_evaluation!r}."
            )

    def of_one_lane(self) -> "Options":
        """For a single lane, which has no use for several workers, nor for several devices
        unless it spans them."""
        one: dict[str, Any] = {"lanes_at_once": None, "workers": 1}
        if self.execution.sharding is None:
            one["devices"] = self.execution.on()[:1]
        execution = dataclasses.replace(self.execution, **one)
        return dataclasses.replace(self, execution=execution)
