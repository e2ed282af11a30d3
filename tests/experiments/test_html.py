"""Reports that need nothing but themselves."""

import base64
import html
import re
import shutil
import subprocess
import xml.etree.ElementTree

import matplotlib.figure
import pytest

from experiments.__main__ import main
from experiments._folder import ResultsFolder
from experiments._html import html_report


pytestmark = pytest.mark.host


PNG = b"\x89PNG\r\n\x1a\nnot much of a figure"

TEXT = """\
# Of `a < b` & more

A <b>bold</b> strategy, <script>alert(1)</script>, and [a link](https://arxiv.org).

| strategy | loss |
| --- | ---: |
| x < y, "z" | 0.1 |

- ![in a list](figures/one%20more.png)

![Loss & cost](figures/loss.png)

```
python -m experiments "<x>"
```
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("loss.png", "one more.png"):
        (tmp_path / "figures" / name).write_bytes(PNG + name.encode())
    return tmp_path


@pytest.fixture
def page(folder):
    return html_report(TEXT, folder)


@pytest.fixture
def root(page):
    """Parsed as XML: every element is closed, every `<` and `&` escaped."""
    doctype, _, rest = page.partition("\n")
    assert doctype == "<!DOCTYPE html>"
    return xml.etree.ElementTree.fromstring(rest)


def test_all_figures_are_in_it(root):
    sources = [image.get("src") for image in root.iter("img")]
    for source, name in zip(sources, ("one more.png", "loss.png"), strict=True):
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data) == PNG + name.encode()


def test_figures_have_captions_and_alternatives(root):
    assert [image.get("alt") for image in root.iter("img")] == ["in a list", "Loss & cost"]
    captions = [figure.find("figcaption").text for figure in root.iter("figure")]
    assert captions == ["in a list", "Loss & cost"]


def test_it_loads_nothing(page, root):
    loading = ("src", "srcset", "data", "poster", "background", "action")
    for element in root.iter():
        assert element.tag not in ("script", "link", "iframe", "object", "embed", "base")
        for attribute in loading:
            assert element.get(attribute, "data:").startswith("data:")
    assert "url(" not in page and "@import" not in page


def test_html_in_the_text_is_text(root, page):
    assert not list(root.iter("b")) and "&lt;script&gt;" in page
    (link,) = root.iter("a")
    assert link.get("href") == "https://arxiv.org"
    (code,) = root.iter("pre")
    assert "".join(code.itertext()) == 'python -m experiments "<x>"\n'


def test_what_looks_like_an_image_in_a_line_is_text(folder):
    name = "![x](no%20file.png)"
    text = f"# Of {name}\n\n- **{name}**: 1\n\n| a |\n| --- |\n| {name} |\n"
    page = html_report(text, folder)
    root = xml.etree.ElementTree.fromstring(page.partition("\n")[2])
    assert not list(root.iter("img"))
    for tag in ("title", "h1", "strong", "td"):
        (element,) = root.iter(tag)
        assert element.text.endswith("![x](no file.png)")


def test_control_characters_do_not_make_it_ill_formed(folder):
    page = html_report("# Red \x1b[31m and \x08 \ufffe\n", folder)
    root = xml.etree.ElementTree.fromstring(page.partition("\n")[2])
    assert root.find("head/title").text == "Red \ufffd[31m and \ufffd \ufffd"


def test_tables_scroll_by_themselves(root):
    (wrapper,) = [e for e in root.iter("div") if e.get("class") == "table"]
    (table,) = wrapper
    assert [cell.text for cell in table.iter("td")] == ['x < y, "z"', "0.1"]
    style = root.find("head/style").text
    assert ".table, figure { overflow-x: auto" in style
    assert "prefers-color-scheme: dark" in style and "background: #fff" in style


def test_head(root):
    assert root.find("head/title").text == "Of a < b & more"
    (viewport,) = [e for e in root.iter("meta") if e.get("name") == "viewport"]
    assert "width=device-width" in viewport.get("content")
    assert root.get("lang") == "en-GB"


@pytest.mark.parametrize(
    "source, error, match",
    [
        ("figures/none.png", FileNotFoundError, "'figures/none.png', but there is no"),
        ("https://example.org/x.png", ValueError, "must be files in its folder"),
        ("//example.org/x.png", ValueError, "must be files in its folder"),
        ("figures/x.pdf", ValueError, "must be .png, .jpg, .svg files"),
    ],
)
def test_figures_that_cannot_be_shown(folder, source, error, match):
    with pytest.raises(error, match=match):
        html_report(f"![x]({source})", folder)


def test_saved_beside_the_markdown(folder):
    results = ResultsFolder(folder, overwrite=True)
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / "a.png").write_bytes(PNG)
    path = results.save_report("# Title\n\n![x](figures/a.png)\n")
    assert path == folder / "report.html" and "data:image/png" in path.read_text("utf-8")
    assert (folder / "report.md").read_text("utf-8").startswith("# Title")
    # With a figure missing, neither is touched.
    with pytest.raises(FileNotFoundError):
        results.save_report("# Other\n\n![x](figures/b.png)\n")
    assert (folder / "report.md").read_text("utf-8").startswith("# Title")
    assert not list(folder.glob(".partial*"))


PHONE, DESK = 390, 1280

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

# Chromium makes no window narrower than 500 pixels, but frames of any width.
FRAME = '<iframe style="width: {}px; height: 800px; border: 0" srcdoc="{}"></iframe>'

MEASURE = """<script>onload = () => {
  const frames = [...document.querySelectorAll("iframe")];
  const roots = frames.map(frame => frame.contentDocument.documentElement);
  document.title = roots.map(root => root.scrollWidth - root.clientWidth).join(" ");
}</script>"""


def _overflows(page, folder):
    """By how many pixels a page is wider than the windows of a phone and of a desk."""
    assert BROWSER is not None
    frames = (FRAME.format(width, html.escape(page)) for width in (PHONE, DESK))
    file = folder / "frames.html"
    file.write_text(f"<!DOCTYPE html>{MEASURE}{''.join(frames)}", "utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900")
    profile = f"--user-data-dir={folder / 'profile'}"
    dumped = subprocess.run(
        [BROWSER, *options, profile, "--dump-dom", file.as_uri()],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    ).stdout
    (found,) = re.findall(r"<title>(\d+ \d+)</title>", dumped)
    return tuple(map(int, found.split()))


def _compared(folder):
    """A report with every kind of section, of real runs."""
    arguments = ["--problem", "quadratic", "--directions", "sgd", "adam"]
    sizes = ["--seeds", "6", "--steps", "12", "--rates", "3", "--tuning-seeds", "1"]
    assert main(["compare", *arguments, *sizes, "--out", str(folder)]) == 0
    return (folder / "report.html").read_text("utf-8")


def _unbroken(folder):
    """A report in which everything is wide and no word ends."""
    word, wide = "a_name_without_end" * 20, "x = 1; " * 60
    figure = matplotlib.figure.Figure((30, 2))
    figure.subplots().plot([0, 1])
    figure.savefig(folder / "wide.png", dpi=100)
    row = "|".join(f" {word} " for _ in range(8))
    text = (
        f"# {word}\n\n## {word}\n\n{word}, **{word}**, `{word}`.\n\n"
        f"- {word}\n  - `{word}`\n\n"
        f"```\n{wide}\n```\n\n|{row}|\n|{' --- |' * 8}\n|{row}|\n\n![{word}](wide.png)\n"
    )
    return html_report(text, folder)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
@pytest.mark.parametrize("made", [_compared, _unbroken])
def test_nothing_is_wider_than_the_window(made, tmp_path):
    """On a phone and on a desk; what is wide scrolls by itself."""
    page = made(tmp_path)
    assert _overflows(page, tmp_path) == (0, 0)
    assert _overflows(page.replace("overflow-x: auto", ""), tmp_path)[0] > 0
