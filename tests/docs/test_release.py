"""What ``make release`` refuses before it builds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "release.py"
METADATA = "[metadata]\nversion = 1.2.0\n"
READY = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-26\n\n- A thing.\n"
AUTHOR = ("-c", "user.name=n", "-c", "user.email=e@example.com")


def git(directory: Path, *arguments: str) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], cwd=directory, check=True)


def refusal(directory: Path, changelog: str, *, tag: str = "", left: str = "") -> str:
    """Return what the script says of a repository with this changelog, or nothing."""
    (directory / "setup.cfg").write_text(METADATA)
    (directory / "CHANGELOG.md").write_text(changelog)
    git(directory, "init", "-q")
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "All")
    if tag:
        git(directory, "tag", tag)
    if left:
        (directory / left).touch()
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False
    )
    assert bool(done.stderr) == bool(done.returncode)
    return done.stderr


@pytest.mark.parametrize("tag", ["", "v1.1.0"])
def test_a_version_with_its_changes_is_released(tmp_path: Path, tag: str) -> None:
    assert refusal(tmp_path, READY, tag=tag) == ""


@pytest.mark.parametrize(
    ("changelog", "said"),
    [
        (READY.replace("1.2.0", "1.1.0"), "no section [1.2.0]"),
        (READY.replace(" - 2026-11-26", ""), "no section [1.2.0]"),
        (READY.replace("- A thing.", ""), "no entry under [1.2.0]"),
        (READY.replace("d]\n", "d]\n\n- Another.\n", 1), "unreleased entries"),
        ("# Changelog\n", "no section [1.2.0]"),
    ],
)
def test_a_changelog_that_does_not_agree_is_refused(
    tmp_path: Path, changelog: str, said: str
) -> None:
    assert said in refusal(tmp_path, changelog)


def test_what_is_not_committed_is_refused(tmp_path: Path) -> None:
    assert "not committed" in refusal(tmp_path, READY, left="new.py")


def test_a_version_that_has_a_tag_is_refused(tmp_path: Path) -> None:
    assert "v1.2.0 exists" in refusal(tmp_path, READY, tag="v1.2.0")
