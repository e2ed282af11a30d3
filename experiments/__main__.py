import functools
import importlib
import operator
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from ._arguments import parse


# Each is a module of this package, with a class of its arguments and a function of them;
# imported only when it is asked for.
_COMMANDS = (
    "accelerator",
    "compare",
    "cost",
    "deterministic",
    "report",
    "research",
    "run",
    "step-cost",
    "table",
    "throughput",
)

# What runs with nothing installed but jax and what curvopt itself imports.
_BARE = ("accelerator",)

_PROGRAM = "python -m experiments"

_Command = tuple[type, Callable[[Any], None]]


def _load(name: str) -> _Command:
    module = importlib.import_module(f".{name.replace('-', '_')}", __package__)
    return getattr(module, name.title().replace("-", "")), getattr(
        module, name.replace("-", "_")
    )


def _parse(arguments: Sequence[str]) -> tuple[Any, Callable[[Any], None]]:
    """What was asked for, and what does it."""
    name = arguments[0] if arguments else ""
    try:
        import tyro
    except ModuleNotFoundError:
        if name not in _BARE:
            raise
        config, run = _load(name)
        return parse(config, arguments[1:], f"{_PROGRAM} {name}"), run
    if name in _COMMANDS:
        config, run = _load(name)
        return tyro.cli(config, args=arguments[1:], prog=f"{_PROGRAM} {name}"), run
    # For help, or for an error that names the commands, all of them are needed.
    loaded = {name: _load(name) for name in _COMMANDS}
    either: Any = functools.reduce(
        operator.or_,
        (
            Annotated[config, tyro.conf.subcommand(name)]
            for name, (config, _) in loaded.items()
        ),
    )
    command = tyro.cli(either, args=arguments, prog=_PROGRAM)
    return command, dict(loaded.values())[type(command)]


# What lays out the help does not end in fewer columns.
_NARROWEST = 40


def _run(arguments: Sequence[str]) -> None:
    """Run a command; every refusal is one of the errors that `main` knows."""
    if shutil.get_terminal_size().columns < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)
    command, run = _parse(arguments)
    run(command)
    sys.stdout.flush()


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 2 for what cannot be run as it was asked, 130
    if it is interrupted, 141 if its output is no longer read.

    Under `python -X dev` errors have their tracebacks.
    """
    try:
        _run(sys.argv[1:] if args is None else args)
        return 0
    except ModuleNotFoundError as error:
        message = (
            f"{error.name} is not installed, which only {', '.join(_BARE)} can do without. "
            "Install the project with its extra: pip install '.[experiments]'."
        )
    except BrokenPipeError:
        # Python flushes what is left when it ends, and would complain of it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    except Exception as error:
        if sys.flags.dev_mode or not isinstance(error, _messages()):
            raise
        message = str(error)
    print(f"error: {message}", file=sys.stderr)
    return 2


def _messages() -> tuple[type[Exception], ...]:
    """The errors that are written for a user to read, or are the system's."""
    import curvopt

    return ValueError, OSError, curvopt.StudyError


if __name__ == "__main__":
    sys.exit(main())
