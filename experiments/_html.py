"""A report as one self-contained HTML file: no network, no scripts, no folder."""

import base64
import html
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}

# XML forbids these characters, even escaped.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

# Readable on a desk and on a phone. The page is never wider than the screen: tables, code
# and figures with small print scroll by themselves. A wide table reaches into the right
# margin, up to the edge of the window.
_CSS = """\
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #667;
  --rule: #d5d9e0; --band: #f4f6f9; --link: #0064b0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #15181c;
  --faint: #99a1ad; --rule: #363c45; --band: #1e2329; --link: #6cb6ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 54rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
p, ul, ol { max-width: 44rem; }
h1, h2, h3 { line-height: 1.25; margin: 2.2rem 0 0.7rem; }
h1 { font-size: 1.6rem; margin-top: 0.5rem; }
h2 { font-size: 1.25rem; border-top: 1px solid var(--rule); padding-top: 1.1rem; }
h3 { font-size: 1.05rem; }
a { color: var(--link); }
code { font: 0.875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  background: var(--band); border-radius: 3px; padding: 0.1em 0.25em; }
pre, .table, figure { overflow-x: auto; -webkit-overflow-scrolling: touch; }
pre { background: var(--band); border-radius: 6px; padding: 0.8rem 1rem; }
pre code { background: none; padding: 0; }
.table { width: max-content; max-width: calc(50vw + min(27rem, 50vw) - 2rem); }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums;
  margin: 0.4rem 0; }
th, td { padding: 0.4rem 0.8rem; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { text-align: left; border-bottom: 2px solid var(--faint); }
tbody tr:nth-child(even) { background: var(--band); }
figure { margin: 1.4rem 0; background: #fff; border-radius: 6px; padding: 0.6rem; }
figure img { display: block; width: 100%; min-width: 34rem; height: auto; }
figcaption { color: #555; font-size: 0.85rem; padding: 0.4rem 0.2rem 0; position: sticky;
  left: 0; max-width: calc(100vw - 4rem); }
blockquote { margin: 1rem 0; padding-left: 1rem; border-left: 3px solid var(--rule);
  color: var(--faint); }
@media print { body, .table { max-width: none; } figure, table { break-inside: avoid; } }
"""


def _data_uri(source: str, folder: Path) -> str:
    """The file that a figure links to, as a data URI."""
    link = urllib.parse.urlsplit(source)
    if link.scheme or link.netloc:
        raise ValueError(
            f"figures of a report must be files in its folder, but one is {source!r}, "
            "which a self-contained page cannot show. Save it there first."
        )
    path = folder / urllib.parse.unquote(link.path)
    media = _MEDIA_TYPES.get(path.suffix.lower())
    if media is None:
        raise ValueError(
            f"figures of a report must be {', '.join(_MEDIA_TYPES)} files, but one is "
            f"{source!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"the report shows the figure {source!r}, but there is no {path}. Save the "
            "figures before the report."
        )
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _figures(tokens: Sequence[Token], folder: Path) -> None:
    """Embed every image that is a paragraph of its own, as a figure. Within a line of text
    it is no image but part of a name, and stays text."""
    for k, token in enumerate(tokens):
        children = token.children or []
        images = [child for child in children if child.type == "image"]
        for image in images:
            image.content = _plain(image)
        if len(images) == len(children) == 1 and tokens[k - 1].type == "paragraph_open":
            (image,) = images
            image.attrSet("src", _data_uri(str(image.attrs["src"]), folder))
            tokens[k - 1].tag = tokens[k + 1].tag = "figure"
            # Tight lists hide their paragraphs, which would hide the figure's element too.
            tokens[k - 1].hidden = tokens[k + 1].hidden = False
            caption = f"<figcaption>{html.escape(image.content)}</figcaption>"
            children.append(Token("html_inline", "", 0, content=caption))
            continue
        for image in images:
            source = urllib.parse.unquote(str(image.attrs["src"]))
            image.type, image.content = "text", f"![{image.content}]({source})"


def _plain(token: Token) -> str:
    """The plain text of a token."""
    breaks = ("softbreak", "hardbreak")
    parts = (" " if t.type in breaks else t.content for t in token.children or [])
    return "".join(parts)


def _renderer() -> MarkdownIt:
    """CommonMark with tables. HTML in the text is shown as text: names of strategies and
    error messages may contain any characters."""
    renderer = MarkdownIt("commonmark", {"html": False, "xhtmlOut": True}).enable("table")
    renderer.add_render_rule("table_open", lambda *_: '<div class="table"><table>\n')
    renderer.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return renderer


def _title(tokens: Sequence[Token]) -> str:
    """The plain text of the first heading."""
    for k, token in enumerate(tokens):
        if token.type == "heading_open":
            return _plain(tokens[k + 1])
    return "Report"


def html_report(text: str, folder: Path) -> str:
    """A Markdown report as a self-contained HTML page with its figures embedded.

    Reports use bitmaps, whose size does not grow with the length of the runs as that of
    vector graphics does.

    **Arguments:**

    - `text`: CommonMark with tables; HTML in it is shown as text.
    - `folder`: the folder that links to figures are relative to.

    **Returns:**

    The page, which is also well-formed XML.

    **Raises:**

    `FileNotFoundError` if a figure does not exist; `ValueError` if it is not a file in the
    report's folder, or not PNG, JPEG or SVG.
    """
    renderer = _renderer()
    tokens = renderer.parse(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))
    _figures(tokens, folder)
    body = renderer.renderer.render(tokens, renderer.options, {})
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en-GB">\n<head>\n<meta charset="utf-8" />\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
        f"<title>{html.escape(_title(tokens))}</title>\n"
        f"<style>\n{_CSS}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
