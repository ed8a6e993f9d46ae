"""Puts files of the repository on the site: MkDocs calls these functions.

On GitHub a page links to ``../conf/nginx/app.conf``, and README.md to
``docs/settings.md``. On the site README.md is the first page, and what is not a page is
a file beside the pages; so both kinds of link lose their first folder.
"""  # noqa: INP001  # a script

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
FOLDERS = ("conf", "examples")  # to read and to copy


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the files that stand outside of ``docs/``."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for path in _shown():
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with links that hold on the site, and bars without backslash.

    GitHub needs it before a bar in the code of a table's cell; Python-Markdown would
    show it.
    """
    markdown = re.sub(r"`[^`\n]*`", _bars, markdown)
    return re.sub(r"(\]\(|src(?:set)?=\")(?:\.\./|docs/)([\w./-]+)", _link, markdown)


def _bars(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")


def _link(match: re.Match[str]) -> str:
    return match[1] + PAGES.get(match[2], match[2])


def _shown() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
