"""The cost benchmark, on models so small that only compilation takes time."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import curvopt
from experiments.__main__ import main
from experiments._timing import interleaved
from experiments.cost._measure import Case, measure
from experiments.cost._reference import reference_curvature
from experiments.cost._variants import (
    GRADIENT,
    gradient,
    OTHER_QUANTITIES,
    Variant,
    VARIANTS,
)
from experiments.cost._workloads import WORKLOADS


pytestmark = pytest.mark.host


def case(name: str) -> Case:
    workload = WORKLOADS[name]
    return Case(name, workload.label, workload.tiny, workload.tiny, 3)


def broken(loss, y, args):
    raise KeyError("scan\nand more lines")


@pytest.mark.slow
def test_all_variants_agree():
    rows = measure(case("mlp"), VARIANTS, seconds=0.01, repeats=3)
    assert list(rows) == [GRADIENT, *VARIANTS]
    for name, row in rows.items():
        assert not row.failure and row.time_low <= row.time_median <= row.time_high
        assert row.flops > 0 and row.compile_seconds > 0 and row.repetitions == 3
        assert row.total_bytes > row.temporary_bytes > 0
        if name == "two-losses":
            assert row.relative_error < 0.05
        elif "bfloat16" in name:
            assert row.relative_error < 0.1
        elif name in OTHER_QUANTITIES:
            assert np.isfinite(row.relative_error)
        elif name != GRADIENT:
            assert row.relative_error < 1e-5
    assert rows["adjoint-three"].flops < rows["jvp-grad"].flops


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "mlp"])
@pytest.mark.slow
def test_every_workload(name):
    instance = WORKLOADS[name].tiny(3)

    @jax.jit
    def expand(y, args):
        _, _, grad, curvature = VARIANTS["adjoint"].expand(instance.loss, y, args)
        return jax.tree.map(jnp.negative, grad), curvature

    u, curvature = expand(instance.y, instance.args)
    assert float(curvature) == pytest.approx(reference_curvature(instance)(u), rel=1e-5)


@pytest.mark.parametrize(
    "name", ["gru", pytest.param("scanned-transformer", marks=pytest.mark.slow)]
)
def test_loop_free_forms_have_the_same_loss_and_no_loop(name):
    workload = WORKLOADS[name]
    assert workload.loop_free is not None
    texts, losses = [], []
    for build in (workload.tiny, workload.loop_free(workload.tiny)):
        loss, y, args = build(2)
        program = jax.jit(loss).lower(y, args).compile()
        texts.append(program.as_text())
        losses.append(float(program(y, args)[0]))
    assert " while(" in texts[0] and " while(" not in texts[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.slow
def test_flops_are_those_of_the_form_that_is_given_for_counting():
    looped, count = WORKLOADS["mlp"].tiny, WORKLOADS["deep-mlp"].tiny
    row = measure(Case("", "", looped, count, 2), {}, seconds=0.01, repeats=1)[GRADIENT]
    run, counted = (
        curvopt.cost.compile_and_analyse(partial(gradient, i.loss), i.y, i.args)
        for i in (looped(2), count(2))
    )
    assert row.flops == counted.flops > run.flops
    assert row.temporary_bytes == run.temporary_bytes


@pytest.mark.slow
def test_what_does_not_work_is_recorded():
    rows = measure(case("mlp"), {"no": Variant("no", broken)}, seconds=0.01, repeats=1)
    assert rows["no"].failure.startswith("KeyError: ") and "\n" not in rows["no"].failure
    assert np.isnan(rows["no"].time_median) and rows[GRADIENT].time_median == 1


def test_timing_is_interleaved():
    calls = []
    programs = [partial(calls.append, k) for k in range(4)]
    times = interleaved(programs, seconds=1e-9, repeats=50)
    assert times.shape == (3, 4) and (times > 0).all()
    assert [sorted(calls[k : k + 4]) for k in (0, 4, 8)] == [[0, 1, 2, 3]] * 3
    assert calls[:4] != calls[4:8]
    assert len(interleaved(programs, seconds=60.0, repeats=2)) == 2


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, "jet", Variant("jet", broken))
    arguments = ["cost", "--quick", "--workloads", "mlp", "--methods", "adjoint", "jet"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| adjoint " in out and "jet: KeyError: " in out

    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {"results.nc", "report.md", "figures/cost.png", "figures/cost.pdf"}
    with xr.open_dataset(tmp_path / "results.nc") as data:
        assert data.flops.dims == ("case", "variant")
        assert list(data.variant.values) == [GRADIENT, "adjoint", "jet"]
        assert data.failure.sel(variant="jet").item().startswith("KeyError: ")
        assert "jax" in json.loads(data.attrs["versions"])
        assert float(data.flops_ratio.sel(variant="adjoint").item()) > 1
    report = (tmp_path / "report.md").read_text("utf-8")
    for part in ("## Overview", "| adjoint ", " fails |", "processor ", "jax "):
        assert part in report

    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert "already holds results" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--workloads", "mpl"], "unknown workload mpl; valid are: mlp, deep-mlp, "),
        (["--methods", "magic"], "unknown method magic; valid are: adjoint, "),
        (["--seconds", "0"], "--seconds must be positive, but it is 0.0"),
        (["--seconds", "nan"], "--seconds must be positive, but it is nan"),
        (["--repeats", "0"], "--repeats must be at least 1, but it is 0"),
        (["--out", "/proc/nowhere"], "output folder /proc/nowhere is not writable"),
    ],
)
def test_what_cannot_be_run(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["cost", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ")
    assert not list(tmp_path.iterdir())
