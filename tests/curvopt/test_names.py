"""Names are text, wherever they are shown."""

import html
import xml.etree.ElementTree

import pytest
from markdown_it import MarkdownIt

from curvopt._names import html_table, in_markdown, markdown_table, shown


pytestmark = pytest.mark.host


NAMES = [
    "_plain",
    "__init__",
    "learning_rate 0.1",
    "costs $\\frac$ or $5",
    "a | b",
    "![picture](of.png)",
    "[link](there)",
    "[reference][1]",
    "<b>bold</b> &amp; <!-- not -->",
    "a < b & c > d",
    "`code`",
    "**strong** and *weak*",
    "~~gone~~",
    "ends with \\",
    "\\| escaped",
    "unbalanced ] bracket",
    "# 1. - no list",
]
LOST = ["", " before", "after ", "two\nlines", "a\ttab", "\x1b[31mred"]


def read(text):
    """What a reader of CommonMark with tables sees, and what tokens it is made of."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    inline = [t for t in parser.parse(text) if t.type == "inline"]
    children = [[child for child in t.children if child.content] for t in inline]
    return ["".join(c.content for c in own) for own in children], {
        c.type for own in children for c in own
    }


@pytest.mark.parametrize("name", NAMES)
def test_markdown_sees_text(name):
    assert shown(name) == name
    (found,), kinds = read(f"Of **{in_markdown(name)}**, something.")
    assert found == f"Of {name}, something." and kinds <= {"text", "text_special"}


@pytest.mark.parametrize("name", LOST)
def test_what_would_be_lost_is_quoted(name):
    assert shown(name) == repr(name) and shown(name).isprintable()
    (found,), _ = read(f"Of {in_markdown(name)}.")
    assert found == f"Of {name!r}."


def test_names_that_differ_are_shown_differently():
    names = NAMES + LOST + [repr(name)[1:-1] for name in LOST if name]
    assert len({shown(name) for name in names}) == len(set(names))


def test_a_table_keeps_its_columns():
    rows = [["strategy", "loss"], *([name, "0.5 [0.4, 0.6]"] for name in NAMES + LOST[1:])]
    table = markdown_table(rows)
    cells, kinds = read(table)
    assert cells == [shown(cell) for row in rows for cell in row]
    assert kinds <= {"text", "text_special"}
    # As text it is aligned, and what is no syntax in a cell is as it is.
    assert len({len(line) for line in table.splitlines()}) == 1
    assert "0.5 [0.4, 0.6] |" in table and "| learning_rate 0.1 " in table


def test_html_is_well_formed():
    rows = [["strategy", ""], *([name, "1"] for name in NAMES + LOST[1:])]
    root = xml.etree.ElementTree.fromstring(html_table(rows, "a < b"))
    assert [cell.text for cell in root.iter("td")][::2] == [
        shown(row[0]) for row in rows[1:]
    ]
    assert root.find("caption").text == "a < b"
    assert html.escape("<b>") in html_table(rows, "") and not list(root.iter("b"))
