"""The direction of imports, as `uvworker/__init__` draws it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import uvworker

PACKAGE = Path(uvworker.__file__).parent
ROOMS = sorted(PACKAGE.rglob("*.py"))
WINGS = ("config", "http", "process")

# Each foreign library has few doors; all else is testable without a process.
DOORS = {
    "gunicorn": {"worker", "configured", "__main__"},
    "uvicorn": {
        "assembly",
        "server",
        "__main__",
        "http.http2",
    },
    "httptools": {"http.reading", "http.target"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from statements(node)


def imports(path: Path) -> Iterator[str]:
    """Yield what a room imports, its own package's rooms as ``.config.options``."""
    home = name_of(path).split(".")[:-1]
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)
        elif isinstance(node, ast.ImportFrom):
            start = home[: len(home) - node.level + 1]
            parts = [*start, *(node.module or "").split(".")]
            origin = "." + ".".join(part for part in parts if part)
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)  # or rooms


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_no_other_and_nothing_in_front(wing: str) -> None:
    for path in (PACKAGE / wing).glob("*.py"):
        inside = [name for name in imports(path) if name.startswith(".")]
        assert all(name.split(".")[1] == wing for name in inside), (path, inside)


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_has_few_doors(library: str) -> None:
    users = {
        name_of(path)
        for path in ROOMS
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == DOORS[library]


def test_imports_within_a_wing_run_one_way() -> None:
    """Walk from each room along its imports: none leads back to it."""
    graph = {
        name_of(path): {name[1:] for name in imports(path) if name.startswith(".")}
        for path in ROOMS
    }
    for room, nearest in graph.items():
        seen: set[str] = set()
        ahead = list(nearest)
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += graph.get(name, ())
        assert room not in seen, f"{room} imports itself in the end"
