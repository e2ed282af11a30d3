"""The files that the build writes for LaTeX: figures, tables, numbers, and the list of
answered questions."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ._errors import BuildError
from ._questions import Findings, Question


# A TeX command has only letters; a capital avoids most of LaTeX's own.
_NUMBER = re.compile(r"[A-Z][A-Za-z]*")
_FILE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def check_names(findings: Mapping[str, Findings]) -> None:
    """Raise a [`paper.BuildError`][] if a name cannot be that of a command or a file, or if
    two questions use the same name."""
    kinds = {
        "number": (_NUMBER, "letters only, the first a capital: CurvatureCost"),
        "figure": (_FILE, "a letter, then letters, digits, - or _"),
        "table": (_FILE, "a letter, then letters, digits, - or _"),
    }
    for kind, (pattern, form) in kinds.items():
        owners: dict[str, str] = {}
        for question, found in findings.items():
            for name in getattr(found, f"{kind}s"):
                if pattern.fullmatch(name) is None:
                    raise BuildError(
                        f"{name!r} is no name for a {kind} (question {question!r}): "
                        f"give it {form}."
                    )
                if name in owners:
                    raise BuildError(
                        f"The {kind} {name!r} is there twice, in the questions "
                        f"{owners[name]!r} and {question!r}: rename one."
                    )
                owners[name] = question


def _empty(folder: Path) -> Path:
    # LaTeX must not find the files of an earlier build.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_findings(findings: Mapping[str, Findings], build: Path) -> None:
    """Write `figures/`, `tables/` and `numbers.tex`."""
    figures, tables = _empty(build / "figures"), _empty(build / "tables")
    lines = []
    for found in findings.values():
        for name, figure in found.figures.items():
            # Without the date the same figure gives the same file.
            figure.savefig(figures / f"{name}.pdf", metadata={"CreationDate": None})
        for name, table in found.tables.items():
            (tables / f"{name}.tex").write_text(table + "\n", encoding="utf-8")
        for name, number in found.numbers.items():
            lines.append(f"\\newcommand{{\\{name}}}{{{number}}}\n")
    (build / "numbers.tex").write_text("".join(lines), encoding="utf-8")


def _listing(titles: Sequence[str]) -> str:
    quoted = [f"\\emph{{{title}}}" for title in titles]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " and " + quoted[-1]


def write_questions(
    answered: Sequence[Question], missing: Sequence[Question], build: Path
) -> None:
    """Write `questions.tex`, which inputs the sections of the questions that have results
    and names the others."""
    lines = [f"\\input{{sections/questions/{question.name}}}\n" for question in answered]
    if missing:
        titles = _listing([question.title for question in missing])
        lines.append(
            f"\\section*{{Not in this build}}\n{titles}: the results are not there yet.\n"
        )
    (build / "questions.tex").write_text("".join(lines), encoding="utf-8")


def write_built_from(commits: Sequence[str], build: Path) -> None:
    """Write `builtfrom.tex`: `\\BuiltFrom`, the commits that made the results; empty if no
    result names one."""
    listed = ", ".join(f"\\texttt{{{commit}}}" for commit in commits)
    text = f"Results made by the code at {listed}." if commits else ""
    (build / "builtfrom.tex").write_text(
        f"\\newcommand{{\\BuiltFrom}}{{{text}}}\n", encoding="utf-8"
    )
