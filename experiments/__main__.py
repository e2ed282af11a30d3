import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from ._catalogue import UsageError
from .compare import Compare, compare
from .data import DataError
from .step_cost import step_cost, StepCost


_Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[StepCost, tyro.conf.subcommand("step-cost")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 2 for what cannot be run as it was asked."""
    command = tyro.cli(_Command, args=args, prog="python -m experiments")
    try:
        compare(command) if isinstance(command, Compare) else step_cost(command)
    except (UsageError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
