"""The page of troubles has each line that the package writes at WARNING or above."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import uvworker
from tests.docs.pages import ROOT
from uvworker.http.service import DROPPED_BODY

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
LEVELS = {"warning", "error", "critical", "exception"}
PLACEHOLDER = re.compile(r"%[.\d]*[a-z]")


def messages() -> Iterator[str]:
    """Yield what stands in the calls of loggers.

    A sentence that is made elsewhere, and logged by "%s", is not found here.
    """
    package = Path(uvworker.__file__).parent
    for path in sorted(package.rglob("*.py")):
        room = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr=level), args=[said, *_]) if (
                    level in LEVELS
                ):
                    text = _text(said, room)
                    if PLACEHOLDER.sub("", text):
                        yield text
    yield DROPPED_BODY


def _text(said: ast.expr, room: str) -> str:
    """Return a literal, or the constant of a module; what is computed is empty."""
    match said:
        case ast.Constant(str(text)):
            return text
        case ast.Name(name):
            text = getattr(importlib.import_module(room), name, "")
            return text if isinstance(text, str) else ""
    return ""


@pytest.mark.parametrize("message", [*messages()])
def test_the_page_has_the_message(message: str) -> None:
    sentence = re.split(r"\. |\n", message.strip())[0]
    words = map(re.escape, PLACEHOLDER.split(sentence))
    assert re.search("`[^`\n]*" + ".*?".join(words), PAGE)
