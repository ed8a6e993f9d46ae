"""The code in the pages: each block is checked by what its language allows.

A language without a check here is a failure: a block that nobody can check is prose.
"""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from gunicorn.config import Config

from tests.docs.pages import ROOT, Block, blocks
from uvworker.config.options import table
from uvworker.config.sources import variable_of

BLOCKS = blocks()
VARIABLES = {variable_of(name, row) for name, row in table().items()} | {"UVWORKER_ID"}


def check_shell(text: str) -> None:
    """Each gunicorn that is started has arguments that gunicorn knows."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        commands = [i for i, word in enumerate(words) if Path(word).name == "gunicorn"]
        if commands and not {"install", "pgrep"} & set(words[: commands[0]]):
            start = commands[0] + 1
            Config().parser().parse_args([w for w in words[start:] if w != "..."])


def check_ini(text: str) -> None:
    configparser.RawConfigParser(strict=False).read_string(text)


# Parts of prometheus_client have no types.
STRICT = (
    *("--config-file=", "--strict", "--allow-untyped-calls"),
    *("--follow-imports=silent", "--ignore-missing-imports"),
)

CHECKS: dict[str, Callable[[str], object]] = {
    "python": ast.parse,
    "console": check_shell,
    "sh": check_shell,
    "bash": check_shell,
    "ini": check_ini,
    "json": json.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    # Shown as printed, or read in tests/deploy by the program that they are for.
    **dict.fromkeys(("text", "dockerfile", "nginx", "promql", "caddyfile"), str),
}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_what_its_language_says(block: Block) -> None:
    CHECKS[block.language](block.text)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_an_included_file_is_in_its_block(block: Block) -> None:
    """`--8 < --"name"` is Python too: a formatter makes it of an inclusion."""
    assert not block.text.startswith("--8")


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_a_page_names_variables_that_exist(page: str) -> None:
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    named = set(re.findall(r"\bUVWORKER_[A-Z_]+[A-Z]\b", path.read_text()))
    assert named - VARIABLES == set()


@pytest.mark.timeout(600)  # mypy reads whole frameworks, for the first time
def test_python_in_the_pages_passes_strict_mypy(tmp_path: Path) -> None:
    """But for the reference: signatures without their bodies, out of typed code."""
    pages = (block for block in BLOCKS if block.page != "reference.md")
    for block in (block for block in pages if block.language == "python"):
        stem = f"{block}".replace(".md:", "_").replace("-", "_")
        (tmp_path / f"{stem}.py").write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *STRICT, "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("Success"), done.stdout + done.stderr
