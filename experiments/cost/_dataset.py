import json
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from curvopt._environment import versions

from ._measure import Case, Row
from ._variants import GRADIENT, VARIANTS


def label(method: str) -> str:
    """The name of a method in tables and figures."""
    return method if method == GRADIENT else VARIANTS[method].label


def dataset(
    measured: Sequence[tuple[Case, Mapping[str, Row]]], attributes: Mapping[str, str]
) -> xr.Dataset:
    """All measurements, of dimensions `(case, variant)`. All cases have the same methods,
    the first of which is the gradient. Relative times are medians of paired runs; all else
    is absolute."""
    cases = [case for case, _ in measured]
    methods = list(measured[0][1])
    data = xr.Dataset(
        {
            field: (
                ("case", "variant"),
                np.array(
                    [[getattr(rows[m], field) for m in methods] for _, rows in measured]
                ),
            )
            for field in Row._fields
        },
        coords={
            "variant": methods,
            "label": ("variant", [label(method) for method in methods]),
            "workload": ("case", [case.workload for case in cases]),
            "title": ("case", [case.label for case in cases]),
            "batch_size": ("case", [case.batch_size for case in cases]),
        },
        attrs={"versions": json.dumps(versions()), **attributes},
    )
    ratios = {"flops": "flops", "temporary": "temporary_bytes", "total": "total_bytes"}
    for name, field in ratios.items():
        data[f"{name}_ratio"] = data[field] / data[field].sel(variant=GRADIENT)
    return data
