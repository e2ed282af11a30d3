"""The figures in the guides."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ._errors import BuildError
from ._questions import Question
from ._results import result_files


# The names of the figures, by question.
SHOWN: dict[str, tuple[str, ...]] = {
    "cost": ("cost",),
    "scale": ("scale",),
    "rivals": ("rivals-profiles",),
}


def draw_pictures(
    questions: Mapping[str, Question],
    shown: Mapping[str, Sequence[str]],
    results: Path,
    folder: Path,
) -> list[Path]:
    """Draw figures of questions as pictures, `folder/NAME.png`.

    **Arguments:**

    - `questions`, `results`: as in [`paper.build`][].
    - `shown`: the names of figures, by question; questions without results are skipped.
    - `folder`: the folder to write to.

    **Returns:**

    The files.

    **Raises:**

    [`paper.BuildError`][] if a question has results, but no figure of that name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for question in (name for name in shown if result_files(results / name)):
        figures = questions[question].findings(results).figures
        for name in shown[question]:
            if name not in figures:
                raise BuildError(
                    f"The question {question!r} has no figure {name!r}, but it has "
                    f"{', '.join(figures)}."
                )
            files.append(folder / f"{name}.png")
            # Without Matplotlib's version the same figure gives the same file.
            figures[name].savefig(
                files[-1], dpi=160, facecolor="white", metadata={"Software": None}
            )
    return files
