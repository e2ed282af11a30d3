"""Check for LaTeX, and run it."""

import os
import shutil
import subprocess
from pathlib import Path

from . import _log
from ._errors import BuildError, MissingTeX


_PROGRAMS = {
    "latexmk": "latexmk",
    "pdflatex": "texlive-latex-base",
    "bibtex": "texlive-binaries",
    "kpsewhich": "texlive-binaries",
}

# The LaTeX files that the paper needs, and the Debian packages that have them.
_FILES = {
    "amsmath.sty": "texlive-latex-base",
    "amsthm.sty": "texlive-latex-base",
    "graphicx.sty": "texlive-latex-base",
    "hyperref.sty": "texlive-latex-base",
    "natbib.sty": "texlive-latex-base",
    "booktabs.sty": "texlive-latex-recommended",
    "caption.sty": "texlive-latex-recommended",
    "mathtools.sty": "texlive-latex-recommended",
    "microtype.sty": "texlive-latex-recommended",
    "algorithm.sty": "texlive-science",
    "algpseudocode.sty": "texlive-science",
    "lmodern.sty": "lmodern",
}


def check_tex() -> None:
    """Raise a [`paper.MissingTeX`][] that says what to install if anything is missing."""
    lacking = {
        name: package for name, package in _PROGRAMS.items() if not shutil.which(name)
    }
    if "kpsewhich" not in lacking:
        found = subprocess.run(
            ["kpsewhich", *_FILES], capture_output=True, text=True, check=False
        ).stdout.split("\n")
        there = {os.path.basename(path) for path in found}
        lacking |= {name: p for name, p in _FILES.items() if name not in there}
    if lacking:
        packages = lacking.values() if "kpsewhich" not in lacking else _every_package()
        raise MissingTeX(
            f"The paper needs {', '.join(lacking)}, which is not installed. On Debian or "
            f"Ubuntu: apt-get install {' '.join(sorted(set(packages)))}"
        )


def _every_package() -> list[str]:
    # Without kpsewhich the files cannot be looked up; probably none is installed.
    return [*_PROGRAMS.values(), *_FILES.values()]


def latexmk(main: Path, build: Path) -> tuple[list[str], dict[str, str]]:
    """The command that makes the PDF, and the environment variables that it needs."""
    command = [
        "latexmk",
        "-norc",
        "-pdf",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-file-line-error",
        f"-outdir={build}",
        main.name,
    ]
    # TEXINPUTS finds generated files as if they were next to the sections; the log's lines
    # are not broken, so that they can be parsed.
    return command, {"TEXINPUTS": f"{build}:", "max_print_line": "10000"}


def run_latex(main: Path, build: Path) -> tuple[Path, list[str]]:
    """Make the PDF.

    **Returns:**

    The PDF, and warnings that an author should see.

    **Raises:**

    [`paper.BuildError`][] with LaTeX's errors.
    """
    command, environment = latexmk(main, build)
    ran = subprocess.run(
        command,
        cwd=main.parent,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    path = build / f"{main.stem}.log"
    log = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if ran.returncode != 0:
        said = _log.errors(log) or (ran.stdout + ran.stderr).splitlines()[-20:]
        raise BuildError("LaTeX stopped:\n" + "\n".join(said))
    return build / f"{main.stem}.pdf", _log.warnings(log)
