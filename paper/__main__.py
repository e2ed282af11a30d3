import sys
from pathlib import Path

from ._build import build
from ._errors import BuildError, MissingTeX


def main() -> int:
    """Build the paper; the exit status is 2 where LaTeX is not installed, 1 where the
    paper cannot be built."""
    # Late, because it imports jax, and takes seconds.
    from experiments.research import QUESTIONS

    here = Path(__file__).parent
    try:
        built = build(QUESTIONS, here, here / "results", here / "build")
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, MissingTeX) else 1
    for warning in built.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if built.missing:
        print(f"without results yet: {', '.join(built.missing)}")
    print(built.pdf)
    return 0


if __name__ == "__main__":
    sys.exit(main())
