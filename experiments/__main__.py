import functools
import importlib
import operator
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from ._arguments import parse


# Each is a module of this package with a class of arguments and a function that takes them.
# It is imported only when needed: some imports take seconds.
_COMMANDS = (
    "accelerator",
    "compare",
    "cost",
    "deterministic",
    "host-data",
    "large-model",
    "micro-batches",
    "report",
    "research",
    "run",
    "step-cost",
    "table",
    "throughput",
)

# These run without the extra: they need only jax and what curvopt itself imports.
_BARE = ("accelerator",)

_PROGRAM = "python -m experiments"

_Command = tuple[type, Callable[[Any], None]]


def _load(name: str) -> _Command:
    module = importlib.import_module(f".{name.replace('-', '_')}", __package__)
    return getattr(module, name.title().replace("-", "")), getattr(
        module, name.replace("-", "_")
    )


def _parse(arguments: Sequence[str]) -> tuple[Any, Callable[[Any], None]]:
    """The parsed arguments, and the function to call with them."""
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
    # Help, and an error for an unknown command, list all commands.
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


# tyro's help layout never terminates in fewer columns.
_NARROWEST = 40


def _run(arguments: Sequence[str]) -> None:
    """Run a command; usage errors are among those that `main` prints."""
    if shutil.get_terminal_size().columns < _NARROWEST:
        os.environ["COLUMNS"] = str(_NARROWEST)
    command, run = _parse(arguments)
    run(command)
    print(end="", flush=True)  # where there is no stdout, this does nothing


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 after an error that is the user's to
    mend, 130 if interrupted, 141 if its output is no longer read.

    Under `python -X dev` errors keep their tracebacks.
    """
    try:
        _run(sys.argv[1:] if args is None else args)
        return 0
    except ModuleNotFoundError as error:
        message = (
            f"{error.name} is not installed; only {', '.join(_BARE)} runs without it. "
            "Install the project with its extra: pip install '.[experiments]'."
        )
    except BrokenPipeError:
        # At exit Python flushes stdout again, which would raise a second time.
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
    """Errors whose message is enough: the project's own, and the operating system's."""
    import curvopt

    return ValueError, OSError, curvopt.StudyError


if __name__ == "__main__":
    sys.exit(main())
