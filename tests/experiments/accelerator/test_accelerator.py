"""What is run on an accelerator, on tiny models on whatever there is."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.__main__ import main
from experiments._arguments import parse
from experiments.accelerator import _command, _cost, Accelerator, accelerator
from experiments.accelerator._bench import Bench, left_out
from experiments.accelerator._programs import compile_in_turn, lower, Program
from experiments.accelerator._report import report, section_report


pytestmark = pytest.mark.host

SECTIONS = "cost", "throughput", "correctness", "products", "compile"


def read(folder: Path, name: str):
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


@pytest.fixture
def measured(tmp_path):
    """The rows of a section, of which nothing fails, is wrong or is left out."""

    def rows(section):
        # A machine that is busy with other tests has the time, too.
        arguments = ["--quick", "--minutes", "60", "--out", str(tmp_path)]
        assert main(["accelerator", *arguments, "--sections", section]) == 0
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {f"{section}.json", "machine.json", "report.md"}
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2e5
        machine = read(tmp_path, "machine")
        assert machine["platform"] == "cpu" and "jax" in machine["versions"]
        assert list(machine["seconds"]) == [section]
        assert "No value is wrong." in (tmp_path / "report.md").read_text("utf-8")
        found = read(tmp_path, section)
        assert found and not [row for row in found if "failure" in row]
        return found

    return rows


@pytest.mark.slow
def test_values_are_those_of_float64(measured):
    rows = measured("correctness")
    products = [row for row in rows if row["what"] == "a product"]
    assert [row["arithmetic"] for row in products] == ["float32", "float32"]
    assert all(row["flops_counted"] == pytest.approx(1, rel=0.01) for row in products)
    curvatures = [row for row in rows if "curvature" in row]
    assert {row["what"] for row in curvatures} == {"mlp"}
    for row in curvatures:
        reduced = "bfloat16" in row["method"]
        assert row["relative_error"] < (0.01 if reduced else 1e-5)
        assert not reduced or row["relative_error"] > 1e-6
    lanes = [row for row in rows if row["what"] == "lanes of a study"]
    assert len(lanes) == 1 and lanes[0]["relative_error"] < 1e-5


@pytest.mark.slow
def test_costs_are_over_one_gradient(measured):
    rows = measured("cost")
    assert [(row["precision"], row["method"]) for row in rows] == [
        ("default", "gradient"),
        ("default", "adjoint"),
        ("default", "adjoint-two-bfloat16"),
        ("highest", "gradient"),
        ("highest", "adjoint"),
    ]
    for row in rows:
        assert row["model"] == "large-mlp"
        assert row["repetitions"] >= 3 and row["seconds"] > 0
        assert row["time_low"] <= row["time"] <= row["time_high"]
        assert row["compile_seconds"] > 0
        gradient = row["method"] == "gradient"
        assert row["flops_ratio"] == 1 if gradient else 1 < row["flops_ratio"] < 5
    for row in rows:
        if row["method"] != "gradient":
            assert math.isfinite(row["curvature"]) and row["difference"] < 0.01


@pytest.fixture
def bench():
    with ThreadPoolExecutor(1) as pool:
        yield Bench(jax.devices("cpu")[0], True, time.monotonic() + 600, pool)


def test_a_cost_is_known_before_the_next_program_is_compiled(bench, monkeypatch):
    """What takes longest to compile cannot take the others' rows with it."""
    compiled = []

    def broken(bench, lowers):
        for case, found in compile_in_turn(bench, lowers):
            compiled.append(case.method)
            yield case, "no memory" if case.method == "adjoint" else found

    plan = ((("large-mlp",), "default", ("gradient", "adjoint", "two-losses")),)
    monkeypatch.setattr(_cost, "_QUICK_PLAN", plan)
    monkeypatch.setattr(_cost, "compile_in_turn", broken)
    rows = _cost.cost(bench)
    assert next(rows)["time"] == 1 and compiled == ["gradient"]
    assert next(rows)["failure"] == "no memory"
    assert next(rows)["seconds"] > 0


def test_without_its_gradient_a_method_is_not_timed(bench, monkeypatch):
    plan = ((("large-mlp",), "default", ("adjoint",)),)
    monkeypatch.setattr(_cost, "_QUICK_PLAN", plan)
    (row,) = _cost.cost(bench)
    assert row["method"] == "adjoint"
    assert row["failure"] == "RuntimeError: there is no gradient to time it against"


def test_the_important_costs_come_first():
    cases = list(_cost._cases(False))
    assert len(cases) == len(set(cases))
    first = [case for case in cases if case.method == "gradient"][:2]
    assert [case.model for case in first] == ["large-mlp", "transformer"]
    for model in first:
        own = [case for case in cases if case[:2] == model[:2]]
        assert [case.method for case in own[:3]] == [
            "gradient",
            "adjoint",
            "adjoint-two-bfloat16",
        ]
    # Methods are compared with what came before them.
    for model in {case[:2] for case in cases}:
        own = [case.method for case in cases if case[:2] == model]
        assert own[:2] == ["gradient", "adjoint"]


def test_programs_are_compiled_in_turn(bench):
    """The next one is lowered while one compiles; none compiles while one is used."""
    lowered = []

    def lowering(k):
        def now():
            lowered.append(k)
            if k == 1:
                raise ValueError("no such model")
            return lower(lambda x: k * x, jnp.ones(3))()

        return now

    programs = compile_in_turn(bench, {k: lowering(k) for k in range(4)})
    key, program = next(programs)
    assert isinstance(program, Program) and program.run()[0] == 0
    assert key == 0 and lowered == [0, 1]
    assert next(programs) == (1, "ValueError: no such model")
    # The third one has not begun: the only thread is free.
    assert bench.pool.submit(time.monotonic).result(timeout=60) > 0
    key, program = next(programs)
    assert isinstance(program, Program) and program.run()[0] == 2
    assert key == 2 and lowered == [0, 1, 2, 3]
    late = dataclasses.replace(bench, deadline=0.0)
    assert list(compile_in_turn(late, {4: lowering(4)})) == [(4, left_out())]
    assert lowered == [0, 1, 2, 3]


def test_what_was_lowered_too_late_is_not_compiled(bench):
    bench = dataclasses.replace(bench, deadline=time.monotonic() + 0.5)

    def slow():
        time.sleep(bench.seconds_left + 0.01)
        return lower(lambda x: x, jnp.ones(3))()

    assert list(compile_in_turn(bench, {"slow": slow})) == [("slow", left_out())]


@pytest.mark.slow
def test_throughput_is_scaled_to_all_lanes(measured):
    rows = measured("throughput")
    assert sum(row["way"] == "study" for row in rows) == 2
    for row in rows:
        assert row["lane_steps_a_second"] > 0
        loop = row["way"].endswith(("in a loop", "for each run"))
        assert row["lanes_measured"] == (1 if loop else 4)
    for strategy in {row["strategy"] for row in rows}:
        ratios = [row["over_loop"] for row in rows if row["strategy"] == strategy]
        assert 1.0 in ratios and max(ratios) > 0


@pytest.mark.slow
def test_compilation_is_timed(measured):
    (row,) = measured("compile")
    assert 0 < row["compile_seconds"] < row["all_seconds"] and row["steps_seconds"] > 0


@pytest.mark.slow
def test_two_products_are_three(measured):
    rows = measured("products")
    assert len({row["pairing"] for row in rows if "pairing" in row}) == 5
    paired = [row["curvature"] for row in rows if "pairing" in row]
    assert max(paired) == pytest.approx(min(paired), rel=1e-5)
    assert all(row["difference"] < 1e-4 for row in rows if "difference" in row)


def test_what_does_not_fit_is_left_out(tmp_path, capsys):
    accelerator(Accelerator(quick=True, out=tmp_path, minutes=1e-9))
    for name in SECTIONS:
        (row,) = read(tmp_path, name)
        assert row["failure"] == "left out: its time was over"
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.count("Left out for lack of time, 1 of them: ") == len(SECTIONS)


def test_what_was_left_out_is_one_line():
    row = {"model": "large-mlp", "precision": "default", "method": "gradient"}
    measured = row | {"time": 1.0, "seconds": 0.004}
    rows = [measured, row | {"method": "jvp-grad", "failure": "RuntimeError: no memory"}]
    for model in ("transformer", "gru"):
        rows += [row | {"model": model, "failure": left_out("not compiled")}]
        rows += [row | {"model": model, "method": "adjoint", "failure": left_out()}]
    text = section_report("cost", rows)
    assert text.splitlines()[-1] == (
        "Left out for lack of time, 4 of them: gradient, default: transformer, gru; "
        "adjoint, default: transformer, gru."
    )
    assert text.count("transformer") == 2 and "not compiled" not in text
    assert "no memory" in text and "### large-mlp, default" in text
    assert "left out" not in section_report("cost", [measured]).lower()


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
    assert "5.0e-01 WRONG" in text and "WRONG VALUES, 1" in text


_BARE = """
import sys
for name in ("tyro", "msgspec", "pooch", "netCDF4", "sif2jax", "beartype"):
    sys.modules[name] = None
from experiments.__main__ import main
out = sys.argv[1]
assert main(["accelerator", "--quick", "--minutes", "1e-9", "--out", out]) == 0
sys.exit(main(["compare"]))
"""


@pytest.mark.slow
def test_it_needs_no_optional_package(tmp_path):
    """Nor does it import one; other commands say what they need."""
    root = Path(__file__).parents[3]
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
        (["--sections", "speed"], "unknown section speed; valid are: cost"),
        (["--out", "/proc/nowhere"], "output folder /proc/nowhere is not writable"),
    ],
)
def test_what_cannot_be_run(arguments, message, capsys):
    assert main(["accelerator", *arguments]) == 2
    assert message in capsys.readouterr().err
