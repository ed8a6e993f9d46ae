"""The direction of imports, as `uvworker/__init__` draws it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uvworker

PACKAGE = Path(uvworker.__file__).parent
ROOMS = sorted(PACKAGE.rglob("*.py"))

# What each wing may use of the others; the rooms in front may use all of them.
WINGS = {
    "accept": set(),
    "access": {"app"},
    "app": set(),
    "config": set(),
    "diagnosis": {"shared_memory"},
    "http": {"accept", "access", "app", "machine"},
    "http2": {"http", "machine"},
    "machine": set(),
    "operations": {"access", "app"},
    "process": {"diagnosis", "machine", "shared_memory"},
    "shared_memory": set(),
    "websocket": {"app", "machine"},
}

# Each foreign library has few doors; all else is testable without a process.
DOORS = {
    "gunicorn": {"booting", "check_command", "configured", "migration.worker"},
    "uvicorn": {
        "assembly",
        "migration.config_object",
        "migration.config_writes",
        "protocols",
        "server",
    },
    "httptools": {"http.reading", "http.target"},
    "websockets": {"websocket.frames"},
    "zttp": {"http2.connection", "http2.wire"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """Yield what a room imports, its own package's rooms as ``.config.options``.

    What only a type checker reads counts: a reader has to know it as well.
    """
    home = name_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
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
def test_a_wing_imports_only_those_below_it_and_nothing_in_front(wing: str) -> None:
    for path in (PACKAGE / wing).glob("*.py"):
        inside = [name for name in imports(path) if name.startswith(".")]
        used = {name.split(".")[1] for name in inside} - {wing}
        assert used <= WINGS[wing], (path, inside)


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_has_few_doors(library: str) -> None:
    users = {
        name_of(path)
        for path in ROOMS
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == DOORS[library]


def test_imports_run_one_way() -> None:
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


def test_the_health_check_of_a_container_imports_no_server() -> None:
    """It starts a Python every few seconds: uvicorn alone would take half a second."""
    source = "import sys, uvworker.operations.status; print(*sys.modules)"
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"asyncio", "gunicorn", "uvicorn"} & set(done.stdout.split())
