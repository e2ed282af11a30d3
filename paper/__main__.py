import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ._build import build
from ._errors import BuildError, MissingTeX
from ._pictures import draw_pictures, SHOWN


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the paper, or draw its pictures. The exit status is 2 if LaTeX is not
    installed, and 1 if the paper cannot be built."""
    parser = argparse.ArgumentParser("python -m paper", description="Build the paper.")
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="draw the guides' figures to paper/pictures instead; needs no LaTeX",
    )
    pictures = parser.parse_args(arguments).pictures
    # Imported late: this imports jax, and takes seconds.
    from experiments.research import QUESTIONS

    here = Path(__file__).parent
    try:
        if pictures:
            for file in draw_pictures(
                QUESTIONS, SHOWN, here / "results", here / "pictures"
            ):
                print(file)
            return 0
        built = build(QUESTIONS, here, here / "results", here / "build")
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, MissingTeX) else 1
    for warning in built.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if built.missing:
        print(f"questions without results: {', '.join(built.missing)}")
    print(built.pdf)
    return 0


if __name__ == "__main__":
    sys.exit(main())
