import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ._errors import BuildError
from ._generate import check_names, write_built_from, write_findings, write_questions
from ._latex import check_tex, run_latex
from ._questions import Findings, Question
from ._results import commits, result_files


@dataclasses.dataclass(frozen=True)
class Built:
    """The result of building the paper.

    **Attributes:**

    - `pdf`: the path of the paper.
    - `missing`: the names of the questions without results.
    - `warnings`: LaTeX's warnings that an author should see.
    """

    pdf: Path
    missing: list[str]
    warnings: list[str]


def generate(
    questions: Mapping[str, Question], sources: Path, results: Path, build: Path
) -> list[str]:
    """Write everything that LaTeX needs to the build folder.

    **Arguments:**

    - `questions`: in the order of the paper.
    - `sources`: the folder with `sections/`.
    - `results`: the folder that has a folder of results for each question.
    - `build`: the folder to write to.

    **Returns:**

    The names of the questions that have no results.

    **Raises:**

    [`paper.BuildError`][] if a name cannot be used, or a section is missing.
    """
    files = {name: result_files(results / name) for name in questions}
    answered = {name: q for name, q in questions.items() if files[name]}
    missing = {name: q for name, q in questions.items() if not files[name]}
    findings: dict[str, Findings] = {}
    for name, question in answered.items():
        section = sources / "sections" / "questions" / f"{name}.tex"
        if not section.exists():
            raise BuildError(f"The question {name!r} has results, but no {section}.")
        findings[name] = question.findings(results)
    check_names(findings)
    build.mkdir(parents=True, exist_ok=True)
    write_findings(findings, build)
    write_questions(list(answered.values()), list(missing.values()), build)
    write_built_from(commits(path for name in answered for path in files[name]), build)
    return list(missing)


def build(
    questions: Mapping[str, Question], sources: Path, results: Path, build: Path
) -> Built:
    """Build the paper: generate figures, tables and numbers, then run LaTeX on
    `sources/curvopt.tex`. The arguments are those of `generate`.

    **Raises:**

    [`paper.MissingTeX`][] if LaTeX is not installed; [`paper.BuildError`][] for anything
    else, with LaTeX's own errors.
    """
    check_tex()
    missing = generate(questions, sources, results, build)
    pdf, warnings = run_latex(sources / "curvopt.tex", build)
    return Built(pdf, missing, warnings)
