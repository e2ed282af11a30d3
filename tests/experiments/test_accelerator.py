"""What is run on an accelerator, on tiny models on whatever there is."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments._arguments import parse
from experiments.accelerator import _command, Accelerator, accelerator
from experiments.accelerator._report import report


pytestmark = [pytest.mark.host, pytest.mark.usefixtures("unoptimised")]

SECTIONS = "correctness", "cost", "throughput", "products", "compile"


def read(folder: Path, name: str):
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "accelerator"
    # A machine that is busy with other tests leaves nothing out.
    arguments = ["--quick", "--minutes", "60", "--out", str(out)]
    assert main(["accelerator", *arguments]) == 0
    return out


def test_it_writes_a_few_small_files(results):
    names = {path.name for path in results.iterdir()}
    assert names == {f"{name}.json" for name in (*SECTIONS, "machine")} | {"report.md"}
    assert sum(path.stat().st_size for path in results.iterdir()) < 1e6
    machine = read(results, "machine")
    assert machine["platform"] == "cpu" and "jax" in machine["versions"]
    assert list(machine["seconds"]) == list(SECTIONS)


def test_everything_is_measured(results):
    for name in SECTIONS:
        rows = read(results, name)
        assert rows
        assert not [row for row in rows if "failure" in row]
    text = (results / "report.md").read_text("utf-8")
    assert "No value is wrong." in text and "## Throughput" in text


def test_values_are_those_of_float64(results):
    rows = read(results, "correctness")
    products = [row for row in rows if row["what"] == "a product"]
    assert [row["arithmetic"] for row in products] == ["float32", "float32"]
    assert all(row["flops_counted"] == pytest.approx(1, rel=0.01) for row in products)
    curvatures = [row for row in rows if "curvature" in row]
    assert {row["what"] for row in curvatures} == {"mlp"}
    for row in curvatures:
        reduced = row["method"] == "adjoint-bfloat16"
        assert row["relative_error"] < (0.05 if reduced else 1e-5)
        assert not reduced or row["relative_error"] > 1e-6
    lanes = [row for row in rows if row["what"] == "lanes of a study"]
    assert len(lanes) == 2 and all(row["relative_error"] < 1e-5 for row in lanes)


def test_costs_are_over_one_gradient(results):
    rows = read(results, "cost")
    assert {(row["model"], row["precision"]) for row in rows} == {
        ("large-mlp", "default"),
        ("large-mlp", "highest"),
    }
    for row in rows:
        assert row["repetitions"] >= 3 and row["seconds"] > 0
        assert row["time_low"] <= row["time"] <= row["time_high"]
        assert row["compile_seconds"] > 0
        gradient = row["method"] == "gradient"
        assert row["flops_ratio"] == 1 if gradient else 1 < row["flops_ratio"] < 5
    values = [row["curvature"] for row in rows if row["method"].startswith("adjoint")]
    assert all(math.isfinite(value) for value in values)


def test_throughput_is_scaled_to_all_lanes(results):
    rows = read(results, "throughput")
    assert sum(row["way"] == "study" for row in rows) == 2
    for row in rows:
        assert row["lane_steps_a_second"] > 0
        loop = row["way"].endswith(("in a loop", "for each run"))
        assert row["lanes_measured"] == (1 if loop else 4)
    for strategy in {row["strategy"] for row in rows}:
        ratios = [row["over_loop"] for row in rows if row["strategy"] == strategy]
        assert 1.0 in ratios and max(ratios) > 0


def test_two_products_are_three(results):
    rows = read(results, "products")
    assert len({row["pairing"] for row in rows if "pairing" in row}) == 5
    paired = [row["curvature"] for row in rows if "pairing" in row]
    assert max(paired) == pytest.approx(min(paired), rel=1e-5)
    assert all(row["difference"] < 1e-4 for row in rows if "difference" in row)


def test_what_does_not_fit_is_left_out(tmp_path, capsys):
    accelerator(Accelerator(quick=True, out=tmp_path, minutes=1e-9))
    for name in SECTIONS:
        (row,) = read(tmp_path, name)
        assert row["failure"] == "left out: its time was over"
    assert "left out" in (tmp_path / "report.md").read_text("utf-8")


def test_a_failure_is_recorded_and_the_rest_goes_on(tmp_path, monkeypatch):
    def broken(bench):
        yield {"what": "the first"}
        raise RuntimeError("no memory\nand more lines")

    def sound(bench):
        yield {"what": "the second", "wrong": True, "relative_error": math.nan}

    sections = {"correctness": (1, broken), "products": (1, sound)}
    monkeypatch.setattr(_command, "SECTIONS", sections)
    accelerator(Accelerator(quick=True, out=tmp_path, sections=tuple(sections)))
    assert read(tmp_path, "correctness") == [
        {"what": "the first"},
        {"what": "correctness", "failure": "RuntimeError: no memory"},
    ]
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "WRONG VALUES, 1" in text and "products: the second: nan" in text
    assert "no memory" in text


def test_a_wrong_value_is_loud():
    machine = {"device": "d", "command": "c", "versions": {}, "missing": {}}
    row = {"what": "mlp", "method": "adjoint", "relative_error": 0.5, "wrong": True}
    text = report(machine, {"correctness": [row]})
    assert "**5.0e-01 WRONG**" in text and "WRONG VALUES, 1" in text


_BARE = """
import sys
for name in ("tyro", "msgspec", "pooch", "netCDF4", "sif2jax", "beartype"):
    sys.modules[name] = None
from experiments.__main__ import main
out = sys.argv[1]
assert main(["accelerator", "--quick", "--minutes", "1e-9", "--out", out]) == 0
sys.exit(main(["compare"]))
"""


def test_it_needs_no_optional_package(tmp_path):
    """Nor does it import one; other commands say what they need."""
    root = Path(__file__).parents[2]
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", _BARE, str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.returncode == 2, done.stderr
    assert "tyro is not installed" in done.stderr
    assert "tyro: the command line is read by argparse" in done.stdout
    assert "tyro" in read(out, "machine")["missing"]


def test_arguments_without_tyro():
    arguments = ["--quick", "--minutes", "3", "--sections", "cost", "compile"]
    found = parse(Accelerator, [*arguments, "--out", "here"], "program")
    assert found == Accelerator(True, Path("here"), 3.0, ("cost", "compile"))
    assert parse(Accelerator, [], "program") == Accelerator()
    assert len(dataclasses.fields(Accelerator)) == 4


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--minutes", "0"], "--minutes must be positive, but it is 0"),
        (["--sections", "speed"], "unknown section speed; valid are: correctness"),
        (["--out", "/proc/nowhere"], "output folder /proc/nowhere is not writable"),
    ],
)
def test_what_cannot_be_run(arguments, message, capsys):
    assert main(["accelerator", *arguments]) == 2
    assert message in capsys.readouterr().err
