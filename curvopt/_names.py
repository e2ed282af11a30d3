"""Names as safe text: users may give a strategy any name."""

import html
import re
from collections.abc import Sequence


# The characters that CommonMark, GitHub's tables and its mathematics read as syntax in a
# cell. An underscore between letters and the brackets of an interval are not syntax there,
# and stay readable.
_CELL = re.compile(r"[\\`*|$~]|\](?=[(\[])|[<&](?=\S)|(?<![^\W_])_|_(?![^\W_])")
_LINE = re.compile(rf"{_CELL.pattern}|[\[\]]")


def shown(name: object) -> str:
    """A name on one line: unchanged, or quoted as in Python if it is empty or has blanks at
    its ends, line breaks or control characters, which would otherwise be lost."""
    text = str(name)
    return text if text and text.isprintable() and text == text.strip() else repr(text)


def in_markdown(name: object) -> str:
    """A name on one line, escaped so that Markdown reads it as plain text."""
    return _LINE.sub(r"\\\g<0>", shown(name))


def _cell(text: str) -> str:
    return _CELL.sub(r"\\\g<0>", shown(text)) if text else ""


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table from a header and rows of plain text; all columns but the first are
    right-aligned."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            c.ljust(w) if k == 0 else c.rjust(w)
            for k, (c, w) in enumerate(zip(row, widths))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = [f"{'-' * (w - 1)}:" for w in widths]
    rule[0] = "-" * widths[0]
    return "\n".join([line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])])


def html_table(rows: Sequence[Sequence[str]], caption: str) -> str:
    """An HTML table from a header and rows of plain text, for notebooks."""

    def line(row: Sequence[str], tag: str) -> str:
        cells = (f"<{tag}>{html.escape(shown(x) if x else '')}</{tag}>" for x in row)
        return f"<tr>{''.join(cells)}</tr>"

    header, *body = rows
    return (
        f"<table><caption>{html.escape(caption)}</caption>"
        f"<thead>{line(header, 'th')}</thead>"
        f"<tbody>{''.join(line(row, 'td') for row in body)}</tbody></table>"
    )
