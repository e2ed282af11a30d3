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
    """A paper that was built.

    **Attributes:**

    - `pdf`: where it is.
    - `missing`: the questions without results, by name.
    - `warnings`: LaTeX's warnings that an author should see.
    """

    pdf: Path
    missing: list[str]
    warnings: list[str]


def generate(
    questions: Mapping[str, Question], sources: Path, results: Path, build: Path
) -> list[str]:
    """Write all that LaTeX is to find in the build folder.

    **Arguments:**

    - `questions`: in the order of the paper.
    - `sources`: the folder with `sections/`.
    - `results`: the folder with a folder of results for each question.
    - `build`: where to write.

    **Returns:**

    The questions that have no results, by name.

    **Raises:**

    [`paper.BuildError`][] where a name cannot be used, or a section is not there.
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

    [`paper.MissingTeX`][] where LaTeX is not installed; [`paper.BuildError`][] for all
    else, with LaTeX's own errors.
    """
    check_tex()
    missing = generate(questions, sources, results, build)
    pdf, warnings = run_latex(sources / "curvopt.tex", build)
    return Built(pdf, missing, warnings)
