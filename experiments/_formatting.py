"""Tables, lists, code and errors as text, Markdown and LaTeX."""

import math
import re
from collections.abc import Iterable, Sequence

from curvopt._names import in_markdown as in_markdown, markdown_table


markdown = markdown_table


def number(x: float, form: str, missing: str = "-") -> str:
    """A number in a Python format, or `missing` if it is not finite."""
    return format(x, form) if math.isfinite(x) else missing


def first_line(error: BaseException) -> str:
    """The type and first line of an error."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0].strip()[:300]}"


def items(lines: Iterable[str]) -> str:
    """A Markdown list without HTML."""
    return "\n".join(f"- {line.replace('<', '&lt;')}" for line in lines)


def fenced(text: str, language: str = "") -> str:
    """A Markdown block of code."""
    # A fence must be longer than any run of backticks in the text.
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def booktabs(rows: Sequence[Sequence[str]], columns: str) -> str:
    """A LaTeX `tabular` for the package booktabs, from a header and rows in LaTeX."""
    header, *body = [" & ".join(row) + r" \\" for row in rows]
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)
