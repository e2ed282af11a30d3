"""Markdown tables that read well as text too."""

from collections.abc import Sequence


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of a header and more rows; all columns but the first to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            c.ljust(w) if k == 0 else c.rjust(w)
            for k, (c, w) in enumerate(zip(cells, widths))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = [f"{'-' * (w - 1)}:" for w in widths]
    rule[0] = "-" * widths[0]
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])])
