"""What the curvature covers of jax, as a table.

Run it as `python tests/curvopt/curvature/coverage/generate.py`, under each version of jax:
it writes the verdicts under this one to `verdicts/`, and `COVERAGE.md` from those under
all.
"""

import collections
import json
import os

from quick_compile import ENVIRONMENT


os.environ.update(ENVIRONMENT | os.environ)

from jax_walk import FOLDER, MODULES, Row, VERDICTS, VERSION, walk


HEAD = """# What of jax the curvature covers

Every public function of the modules below, called on small arrays and differentiated
twice. Written by `python tests/curvopt/curvature/coverage/generate.py`; a test fails when
it is stale.

| verdict | what it says |
| --- | --- |
| exact | linear, bilinear, or a chain of elementwise operations that is taken as one |
| exact, generic | exact too; the equations named take a nested `jvp`, or reverse mode |
| constant | no derivative, or one that is zero, flows through it |
| refused | jax itself has no first or second derivative in reverse mode |
| not checked | it needs what a single CPU does not have |
| not a function of arrays | types, shapes, dtypes, printing, new arrays |

The verdicts on exactness are measured: `AdjointCurvature` along a direction, of a weighted
sum of squares of all outputs, agrees with jax's own Hessian in float64 to eight digits (to
five where the function computes in float32 whatever it is given), and so does
`ForwardCurvature` in `jax.lax`, `jax.nn` and `jax.numpy.linalg`. A loop of known length
(`scan`) and a `jax.checkpoint` (`remat`) have their sweeps run inside, and what is inside
is named. Where versions of jax differ, the cell says which says what.
"""

Verdicts = dict[str, dict[str, Row]]


def verdicts_path(version):
    return FOLDER / "verdicts" / f"jax-{version}.json"


def load(path) -> Verdicts:
    modules = json.loads(path.read_text())
    return {m: {n: Row(*row) for n, row in rows.items()} for m, rows in modules.items()}


def save(path, verdicts: Verdicts) -> None:
    modules = []
    for module, rows in verdicts.items():
        lines = [f"    {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
        modules.append(f'  "{module}": {{\n' + ",\n".join(lines) + "\n  }")
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(modules) + "\n}\n")


def _cell(by_version: dict[str, str], everywhere: bool) -> str:
    """One text, or which version says what."""
    texts = list(dict.fromkeys(by_version.values()))
    if len(texts) == 1 and everywhere:
        return texts[0]
    return "<br>".join(
        f"{text} (jax {', '.join(v for v, own in by_version.items() if own == text)})"
        for text in texts
    )


def render(recorded: dict[str, Verdicts]) -> str:
    """The table, from the verdicts by version."""
    lines = [HEAD]
    lines += [f"| jax | module | {' | '.join(VERDICTS)} |", "| --- " * 8 + "|"]
    for version, verdicts in recorded.items():
        for module, rows in verdicts.items():
            counts = collections.Counter(row.verdict for row in rows.values())
            numbers = " | ".join(str(counts[verdict]) for verdict in VERDICTS)
            lines.append(f"| {version} | `{module}` | {numbers} |")
    for module in MODULES:
        lines += ["", f"## `{module}`", "", "| function | verdict | rules, or why |"]
        lines.append("| --- | --- | --- |")
        names = {name for verdicts in recorded.values() for name in verdicts[module]}
        for name in sorted(names, key=lambda n: (n.lower(), n)):
            rows = {
                v: own[module][name] for v, own in recorded.items() if name in own[module]
            }
            everywhere = len(rows) == len(recorded)
            verdict = _cell({v: row.verdict for v, row in rows.items()}, everywhere)
            why = _cell({v: row.why for v, row in rows.items()}, everywhere)
            lines.append(f"| `{name}` | {verdict} | {why} |")
    return "\n".join(lines) + "\n"


def recorded() -> dict[str, Verdicts]:
    """What was recorded under each version of jax, oldest first."""
    by_age = lambda path: [int(n) for n in path.stem.removeprefix("jax-").split(".")]
    paths = sorted((FOLDER / "verdicts").glob("*.json"), key=by_age)
    return {path.stem.removeprefix("jax-"): load(path) for path in paths}


def main() -> None:
    verdicts, failures = {}, {}
    for module in MODULES:
        verdicts[module], failed = walk(module)
        failures |= {f"{module}.{name}": why for name, why in failed.items()}
    if failures:
        raise SystemExit("\n".join(f"{name}: {why}" for name, why in failures.items()))
    save(verdicts_path(VERSION), verdicts)
    (FOLDER / "COVERAGE.md").write_text(render(recorded()))


if __name__ == "__main__":
    main()
