"""The guides and the API reference are rendered, and every public name is there."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
PUBLIC = (
    "curvopt",
    "curvopt.cost",
    "curvopt.plots",
    "curvopt.statistics",
    "strategies",
    "strategies.recipes",
    "experiments.data",
    "experiments.problems",
)

pytestmark = [pytest.mark.host, pytest.mark.slow]


def public_names(package):
    """Classes and functions of a package, which have docstrings of their own."""
    module = importlib.import_module(package)
    return {
        f"{package}.{name}": x
        for name, x in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(x) or inspect.isfunction(x))
        and f"{x.__module__}.".startswith(f"{package}.")
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = "-m mkdocs build --strict -f .docs/mkdocs.yml -d".split()
    made = subprocess.run(
        [sys.executable, *command, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    return folder


def test_every_public_name_is_in_the_reference(site):
    pages = "".join(path.read_text("utf-8") for path in site.glob("api/*/index.html"))
    rendered = set(re.findall(r'<h[1-6] id="([\w.]+)" class="doc', pages))
    for package in PUBLIC:
        missing = public_names(package).keys() - rendered
        assert not missing, package


def test_no_cross_reference_is_left_unresolved(site):
    for page in site.rglob("*.html"):
        assert "</code>][]" not in page.read_text("utf-8"), page


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_has_a_docstring(package):
    found = public_names(package)
    assert found
    for name, x in found.items():
        assert vars(x).get("__doc__") if inspect.isclass(x) else x.__doc__, name


def resolves(name):
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:k]))
        except ImportError:
            continue
        for part in parts[k:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_references_of_the_whole_code_resolve():
    """Those of private docstrings too, which are not rendered."""
    sources = (
        path
        for package in ("curvopt", "strategies", "experiments", "paper")
        for path in (ROOT / package).rglob("*.py")
    )
    broken = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources
        for name in re.findall(r"\[`([\w.]+\.\w+)`\]\[\]", path.read_text("utf-8"))
        if not resolves(name)
    }
    assert not broken
