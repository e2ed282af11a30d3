"""What the build of the paper writes, asks of LaTeX and makes of its answers; LaTeX itself
is not needed."""

import dataclasses
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr
from matplotlib.figure import Figure

import paper
from paper.__main__ import main
from paper._build import generate
from paper._latex import _FILES
from paper._pictures import draw_pictures, SHOWN


pytestmark = pytest.mark.host

PAPER = Path(paper.__file__).parent


@dataclasses.dataclass(frozen=True)
class Found:
    figures: dict = dataclasses.field(default_factory=dict)
    numbers: dict = dataclasses.field(default_factory=dict)
    tables: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Asked:
    name: str
    title: str
    findings: Callable


def drawn():
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1], [1, 0])
    return figure


@pytest.fixture
def folders(tmp_path):
    """Sources with a section for `cost` and for `memory`, results, and where to build."""
    sections = tmp_path / "paper" / "sections" / "questions"
    sections.mkdir(parents=True)
    for name in ("cost", "memory"):
        (sections / f"{name}.tex").write_text("text")
    return tmp_path / "paper", tmp_path / "results", tmp_path / "build"


def answered(results, name="cost", found=None):
    """A question with a file of results."""
    (results / name).mkdir(parents=True)
    xr.Dataset().to_netcdf(results / name / "mlp.nc")
    return Asked(name, f"What of {name}?", lambda folder: found or Found())


def written(build):
    return {str(p.relative_to(build)): p.read_bytes() for p in build.rglob("*.*")}


def test_what_is_generated(folders):
    sources, results, build = folders
    found = Found({"cost-time": drawn()}, {"CostRatio": r"1.5\,C"}, {"costs": "a & b"})
    question = answered(results, found=found)
    missing = [Asked(n, f"Why {n}?", lambda folder: 1 / 0) for n in ("scale", "memory")]
    questions = {q.name: q for q in (question, *missing)}
    (results / "scale").mkdir()
    (results / "scale" / ".partial-mlp.nc").touch()  # one that is being written
    (build / "figures").mkdir(parents=True)
    (build / "figures" / "old.pdf").touch()

    assert generate(questions, sources, results, build) == ["scale", "memory"]
    files = written(build)
    assert sorted(files) == [
        *("builtfrom.tex", "figures/cost-time.pdf", "numbers.tex", "questions.tex"),
        "tables/costs.tex",
    ]
    assert files["numbers.tex"] == b"\\newcommand{\\CostRatio}{1.5\\,C}\n"
    assert files["tables/costs.tex"] == b"a & b\n"
    text = files["questions.tex"].decode()
    assert re.findall(r"\\input{(.*)}", text) == ["sections/questions/cost"]
    assert r"\emph{Why scale?} and \emph{Why memory?}: the results are" in text

    # The same results make the same files.
    generate(questions, sources, results, build)
    assert written(build) == files


def test_findings_get_the_folder_of_all_results(folders):
    sources, results, build = folders
    seen = []
    question = answered(results)
    question = dataclasses.replace(question, findings=lambda f: seen.append(f) or Found())
    assert generate({"cost": question}, sources, results, build) == []
    assert seen == [results]
    assert "Not in this build" not in (build / "questions.tex").read_text()


@pytest.mark.parametrize(
    "kind, name",
    [
        ("number", "Cost2"),
        ("number", "costRatio"),
        ("number", "Cost_Ratio"),
        ("figure", "../cost"),
        ("figure", "a b"),
        ("table", "2cost"),
    ],
)
def test_names_that_cannot_be(kind, name, folders):
    sources, results, build = folders
    question = answered(results, found=Found(**{f"{kind}s": {name: "1"}}))
    with pytest.raises(paper.BuildError, match=f"{re.escape(repr(name))} is no name for"):
        generate({"cost": question}, sources, results, build)
    assert not build.exists()


@pytest.mark.parametrize("kind", ["number", "figure", "table"])
def test_names_are_unique_over_questions(kind, folders):
    sources, results, build = folders
    found = Found(**{f"{kind}s": {"Same": "1"}})
    questions = {n: answered(results, n, found) for n in ("cost", "memory")}
    match = f"{kind} 'Same' is there twice, in the questions 'cost' and 'memory'"
    with pytest.raises(paper.BuildError, match=match):
        generate(questions, sources, results, build)


def test_results_without_a_section(folders):
    sources, results, build = folders
    question = answered(results, "scale")
    with pytest.raises(paper.BuildError, match="'scale' has results, but no .*scale.tex"):
        generate({"scale": question}, sources, results, build)


def test_commits_of_the_results(folders):
    sources, results, build = folders
    question = answered(results)
    generate({"cost": question}, sources, results, build)
    assert (build / "builtfrom.tex").read_text() == "\\newcommand{\\BuiltFrom}{}\n"

    xr.Dataset(attrs={"commit": "b2"}).to_netcdf(results / "cost" / "lenet.nc")
    (results / "cost" / "table.json").write_text(json.dumps({"commit": "a1", "rows": []}))
    (results / "cost" / "list.json").write_text("[1]")
    generate({"cost": question}, sources, results, build)
    text = (build / "builtfrom.tex").read_text()
    assert re.findall(r"\\texttt{(\w+)}", text) == ["a1", "b2"]


@pytest.mark.parametrize("name", ["other.nc", "other.json"])
def test_a_damaged_result(name, folders):
    sources, results, build = folders
    question = answered(results)
    (results / "cost" / name).write_text("{")
    with pytest.raises(paper.BuildError, match=f"{name} is damaged"):
        generate({"cost": question}, sources, results, build)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that is all of PATH, and a function that puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name, body=""):
        (folder / name).write_text(f"#!{sys.executable}\n{body}")
        (folder / name).chmod(0o755)

    return put


def with_tex(put, latexmk, lacking=()):
    there = [f"/tex/{name}" for name in _FILES if name not in lacking]
    put("kpsewhich", f"print(*{there!r}, sep='\\n')")
    put("latexmk", latexmk)
    put("pdflatex")
    put("bibtex")


def test_without_tex(programs, folders):
    sources, results, build = folders
    with pytest.raises(paper.MissingTeX) as raised:
        paper.build({}, sources, results, build)
    message = str(raised.value)
    assert "latexmk, pdflatex" in message
    install = message.split("apt-get install ")[1].split()
    for package in ("latexmk", "lmodern", "texlive-latex-recommended", "texlive-science"):
        assert package in install
    assert not build.exists()


def test_without_a_file_of_latex(programs, folders):
    with_tex(programs, "", lacking=("algorithm.sty",))
    with pytest.raises(
        paper.MissingTeX, match="needs algorithm.sty, which is not"
    ) as raised:
        paper.build({}, *folders)
    assert str(raised.value).endswith("apt-get install texlive-science")


# Stands for latexmk: says how it was called, and leaves a log.
LATEXMK = """
import json, os, sys
build = next(a for a in sys.argv if a.startswith("-outdir="))[8:]
called = {"args": sys.argv[1:], "cwd": os.getcwd(), "inputs": os.environ["TEXINPUTS"]}
open(os.path.join(build, "called.json"), "w").write(json.dumps(called))
open(os.path.join(build, "curvopt.log"), "w").write(LOG)
sys.exit(STATUS)
"""


def latexmk(log, status):
    return LATEXMK.replace("LOG", repr(log)).replace("STATUS", str(status))


GOOD_LOG = r"""
Package natbib Warning: Citation `nobody' on page 1 undefined on input line 7.
LaTeX Warning: Reference `sec:gone' on page 2 undefined on input line 9.
Overfull \hbox (5.5pt too wide) in paragraph at lines 3--5
[]\T1/lmr/m/n/10.95 a long word
Overfull \hbox (4.5pt too wide) in paragraph at lines 8--9
Underfull \hbox (badness 10000) in paragraph at lines 12--13
"""

BAD_LOG = r"""
(./sections/questions/cost.tex
./sections/questions/cost.tex:3: Undefined control sequence.
l.3 It costs \CostRation
                         times as much.
./sections/questions/cost.tex:3:  ==> Fatal error occurred, no output PDF file produced!
Here is how much of TeX's memory you used:
"""


def test_latexmk_and_its_warnings(programs, folders):
    with_tex(programs, latexmk(GOOD_LOG, 0))
    sources, results, build = folders
    built = paper.build({"cost": answered(results)}, sources, results, build)
    assert built.pdf == build / "curvopt.pdf"
    called = json.loads((build / "called.json").read_text())
    assert called["cwd"] == str(sources)
    assert called["args"][-1] == "curvopt.tex"
    assert {"-pdf", "-halt-on-error", "-file-line-error", "-norc"} <= set(called["args"])
    # Ours first, then where LaTeX looks by itself.
    assert called["inputs"] == f"{build}:"
    citation, reference, box = built.warnings
    assert "nobody" in citation and "sec:gone" in reference
    assert "5.5pt" in box and "a long word" in box


def test_what_latex_stops_at(programs, folders):
    with_tex(programs, latexmk(BAD_LOG, 12))
    with pytest.raises(paper.BuildError) as raised:
        paper.build({}, *folders)
    assert str(raised.value).splitlines() == [
        "LaTeX stopped:",
        "./sections/questions/cost.tex:3: Undefined control sequence.",
        r"    l.3 It costs \CostRation",
        "                             times as much.",
    ]


def test_latexmk_that_fails_without_an_error_of_latex(programs, folders):
    with_tex(programs, "import sys\nsys.exit('Latexmk: no disk')")
    with pytest.raises(paper.BuildError, match="LaTeX stopped:\nLatexmk: no disk"):
        paper.build({}, *folders)


def test_exit_status(programs, monkeypatch, capsys):
    research = types.ModuleType("experiments.research")
    monkeypatch.setattr(research, "QUESTIONS", {}, raising=False)
    monkeypatch.setitem(sys.modules, "experiments.research", research)
    assert main([]) == 2
    assert "apt-get install" in capsys.readouterr().err


def test_pictures_of_what_has_results(folders):
    """The guides' figures: none of a question without results, and none that is not."""
    _, results, build = folders
    questions = {"cost": answered(results, found=Found({"cost": drawn()}))}
    shown = {"cost": ("cost",), "scale": ("scale",)}
    files = draw_pictures(questions, shown, results, build)
    assert files == [build / "cost.png"]
    first = files[0].read_bytes()
    assert first.startswith(b"\x89PNG")
    assert draw_pictures(questions, shown, results, build)[0].read_bytes() == first
    with pytest.raises(paper.BuildError, match="no figure 'time', but it has cost"):
        draw_pictures(questions, {"cost": ("time",)}, results, build)


def test_pictures_are_of_questions_that_there_are():
    from experiments.research import QUESTIONS

    assert set(SHOWN) <= set(QUESTIONS)


def text_of_the_paper():
    files = [PAPER / "curvopt.tex", *(PAPER / "sections").rglob("*.tex")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.slow
def test_every_finding_is_used_and_every_used_one_is_found():
    # Guards: 533 of 898 numbers were in no text.
    from experiments.research import QUESTIONS

    text = text_of_the_paper()
    found = {name: q.findings(PAPER / "results") for name, q in QUESTIONS.items()}
    for name, findings in found.items():
        settings = findings.numbers.get(f"{name.capitalize()}Settings", "").split(",")
        own = "".join(
            text.replace(rf"{name}-\setting", f"{name}-{setting}") for setting in settings
        )
        used = set(re.findall(rf"\\({name.capitalize()}[A-Z][A-Za-z]*)", text))
        assert used == set(findings.numbers)
        for kind in ("figures", "tables"):
            shown = set(re.findall(rf"{{{kind}/({name}[a-z-]*)}}", own)) - {f"{name}-"}
            assert shown == set(getattr(findings, kind))


def test_references_lead_somewhere():
    """What LaTeX would only warn of, where there is no LaTeX."""
    text = text_of_the_paper()
    bibliography = (PAPER / "references.bib").read_text(encoding="utf-8")
    listed = lambda commands: {
        key.strip()
        for keys in re.findall(rf"\\(?:{commands})(?:\[.*?\])*{{(.*?)}}", text)
        for key in keys.split(",")
    }
    entries = re.findall(r"^@\w+{(.*),$", bibliography, re.MULTILINE)
    labels = re.findall(r"\\label{(.*?)}", text)
    assert len(set(entries)) == len(entries) and len(set(labels)) == len(labels)
    assert listed("[cC]ite[tp]?") == set(entries)
    assert listed("ref|eqref") <= set(labels)
    assert r"\today" not in text
