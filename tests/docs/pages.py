"""The fenced blocks of README.md and of the pages, as a reader would copy them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(
    r"^#+ (?P<heading>.+)$|^(?P<indent> *)```(?P<info>.*)\n(?P<text>(?:.*\n)*?) *```$",
    re.MULTILINE,
)
_INCLUSION = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block, and the place where it stands."""

    page: str
    heading: str
    line: int
    language: str
    file: str  # its title, which is the name of the file that it shows
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    return [block for page in PAGES for block in _blocks(page)]


def _blocks(page: Path) -> list[Block]:
    found, heading, source = [], "", page.read_text()
    for match in _FENCE.finditer(source):
        heading = match["heading"] or heading
        if not match["heading"]:
            language, _, title = match["info"].partition(" ")
            place = (page.name, heading, source.count("\n", 0, match.start()) + 1)
            file = title.removeprefix('title="').rstrip('"')
            found.append(Block(*place, language, file, _included(match["text"])))
    return found


def _included(text: str) -> str:
    return _INCLUSION.sub(lambda match: (ROOT / match[1]).read_text(), text)


def section(page: str, heading: str) -> dict[str, str]:
    """Return the files that a section shows, by name; of two of a name, the first."""
    files: dict[str, str] = {}
    for block in blocks():
        if (block.page, block.heading) == (page, heading) and block.file:
            files.setdefault(block.file, block.text)
    assert files, f"{page} has no files under {heading!r}"
    return files
