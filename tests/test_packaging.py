"""What a wheel holds."""

import email
import zipfile
from pathlib import Path

import pytest

import curvopt


ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.host, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # Here: the default tests are run without hatchling.
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("dist")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


def test_the_wheel_has_the_packages_and_no_more(wheel):
    names = wheel.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "curvopt",
        "strategies",
        "experiments",
    }
    for package in ("curvopt", "strategies", "experiments"):
        assert f"{package}/py.typed" in names
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert sources <= set(names)
    assert "experiments/data/fashion_mnist_subset.npz" in names
    guides = {str(path.relative_to(ROOT)) for path in (ROOT / "curvopt/guides").iterdir()}
    assert guides and guides <= set(names)


def test_its_metadata(wheel):
    (name,) = (x for x in wheel.namelist() if x.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Name"] == "curvopt-jax"
    assert metadata["Version"] == curvopt.__version__
    # Its extras refer to each other by its name; by another, that would be asked for.
    needed = metadata.get_all("Requires-Dist")
    assert not any(x.startswith("curvopt") for x in needed)
    assert any(x.startswith("msgspec") and "'test'" in x for x in needed)


def test_the_version_is_that_of_changelog_and_citation():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"## [{curvopt.__version__}]" in changelog
    assert f"\nversion: {curvopt.__version__}\n" in citation
