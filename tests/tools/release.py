"""Refuse a release that is not one: run by ``make release``, before anything is built.

The version in setup.cfg has a dated section of its own at the top of CHANGELOG.md,
with an entry; nothing is left under "Unreleased"; everything is committed, and no tag
has this version yet.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    problems = list(_problems(Path.cwd()))
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201
    sys.exit(1 if problems else 0)


def _problems(root: Path) -> Iterator[str]:
    metadata = (root / "setup.cfg").read_text()
    [version] = re.findall(r"^version = (.+)$", metadata, re.MULTILINE)
    yield from _of_changelog((root / "CHANGELOG.md").read_text(), version)
    if _git(root, "status", "--porcelain"):
        yield "There are changes that are not committed: commit or remove them."
    if _git(root, "tag", "--list", f"v{version}"):
        yield f"The tag v{version} exists: raise the version in setup.cfg."


def _of_changelog(text: str, version: str) -> Iterator[str]:
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    unreleased = ""
    if sections and sections[0].startswith("[Unreleased]"):
        unreleased = sections.pop(0)
    if re.search(r"^- ", unreleased, re.MULTILINE):
        yield f"CHANGELOG.md has unreleased entries: move them to [{version}]."
    head = rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    if not sections or not re.match(head, sections[0]):
        yield f"CHANGELOG.md begins with no section [{version}] - YYYY-MM-DD."
    elif not re.search(r"^- ", sections[0], re.MULTILINE):
        yield f"CHANGELOG.md has no entry under [{version}]."


def _git(root: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=root, text=True)


if __name__ == "__main__":
    main()
