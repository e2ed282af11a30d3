"""What of the site is no guide: README as its first page, and the API reference."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files


HERE = Path(__file__).parent
ROOT = HERE.parent


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and pictures that are not in the folder of guides."""
    pages = {
        "index.md": ROOT / "README.md",
        "contributing.md": ROOT / "CONTRIBUTING.md",
        "changelog.md": ROOT / "CHANGELOG.md",
    }
    pages |= {f"api/{path.name}": path for path in HERE.glob("api/*.md")}
    for name, path in pages.items():
        files.append(File.generated(config, name, content=path.read_text("utf-8")))
    for path in (ROOT / "paper" / "pictures").glob("*.png"):
        name = f"pictures/{path.name}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at the site; a link to what is in the repository alone becomes text."""
    del config
    here = Path(page.file.src_uri)
    markdown = markdown.replace("](curvopt/guides/", "](")
    markdown = markdown.replace("](../../paper/pictures/", "](pictures/")
    markdown = markdown.replace("](CONTRIBUTING.md)", "](contributing.md)")

    def kept(link: re.Match[str]) -> str:
        target = link["target"].split("#")[0]
        inside = not target or files.get_file_from_path(str(here.parent / target))
        return link[0] if inside else link["text"]

    return re.sub(
        r"(?<!!)\[(?P<text>[^]]*)\]\((?P<target>(?!http)[^)\s]*)\)", kept, markdown
    )
