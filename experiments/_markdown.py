"""Markdown in which names and code are text, whatever is in them."""

import re

from curvopt._names import in_markdown as in_markdown, markdown_table


markdown = markdown_table


def fenced(text: str, language: str = "") -> str:
    """A block of code."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
