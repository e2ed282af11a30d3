"""The errors and warnings in LaTeX's log."""

import re


_ERROR = re.compile(r"^(!|\S[^:\n]*:\d+:) ", re.MULTILINE)
_PLACE = re.compile(r"^l\.\d+ ")
_WARNING = re.compile(
    r"(Reference|Citation) .* undefined|multiply.defined|There were undefined"
)
_OVERFULL = re.compile(r"^Overfull \\[hv]box \((?P<points>[\d.]+)pt too (wide|high)\)")


def errors(log: str) -> list[str]:
    """The errors, each with the text that TeX was reading when it stopped."""
    lines = log.splitlines()
    found = []
    for k, line in enumerate(lines):
        if _ERROR.match(line) and "==> Fatal error" not in line:
            # After the place TeX prints the rest of the line on the next line.
            end = next((j for j in range(k, len(lines)) if _PLACE.match(lines[j])), k)
            context = [text for text in lines[k + 1 : end + 2] if text.strip()]
            found.append("\n    ".join([line, *(context if end > k else [])]))
    return found


def warnings(log: str, *, overfull: float = 5.0) -> list[str]:
    """Undefined references and citations, and boxes that are too large by more than
    `overfull` points."""
    lines = log.splitlines()
    found = []
    for k, line in enumerate(lines):
        box = _OVERFULL.match(line)
        if box is not None and float(box["points"]) > overfull:
            text = lines[k + 1] if k + 1 < len(lines) else ""
            found.append(f"{line}\n    {text}".rstrip())
        elif _WARNING.search(line):
            found.append(line)
    return list(dict.fromkeys(found))
