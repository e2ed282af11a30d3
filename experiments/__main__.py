import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import tyro

import curvopt

from ._catalogue import UsageError
from .compare import Compare, compare
from .cost import Cost, cost
from .data import DataError
from .deterministic import Deterministic, deterministic
from .research import Research, research
from .run import Run, run
from .step_cost import step_cost, StepCost
from .throughput import Throughput, throughput


_Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Cost, tyro.conf.subcommand("cost")]
    | Annotated[Deterministic, tyro.conf.subcommand("deterministic")]
    | Annotated[Research, tyro.conf.subcommand("research")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[StepCost, tyro.conf.subcommand("step-cost")]
    | Annotated[Throughput, tyro.conf.subcommand("throughput")]
)

_RUN: dict[type, Callable[[Any], None]] = {
    Compare: compare,
    Cost: cost,
    Deterministic: deterministic,
    Research: research,
    Run: run,
    StepCost: step_cost,
    Throughput: throughput,
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 2 for what cannot be run as it was asked, 130 if
    it was interrupted."""
    command = tyro.cli(_Command, args=args, prog="python -m experiments")
    try:
        _RUN[type(command)](command)
    except (UsageError, DataError, curvopt.StudyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is saved", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
