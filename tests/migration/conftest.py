"""gunicorn, and the check, with a subclass of uvicorn's worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HELLO, Serve
from tests.tools.service import Service

from .subclasses import (
    HEAD,
)

Check = Callable[..., "subprocess.CompletedProcess[str]"]
Migrate = Callable[..., Service]


@pytest.fixture
def migrate(serve: Serve, tmp_path: Path) -> Migrate:
    """Start gunicorn with the class ``Mine`` of a source."""

    def start(subclass: str, *args: str, source: str = HELLO, **more: Any) -> Service:
        (tmp_path / "mine.py").write_text(HEAD + subclass)
        return serve(source, *args, worker="mine.Mine", **more)

    return start


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Run ``python -m uvworker check`` on the class ``Mine`` of a source."""

    def run(subclass: str, *args: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "mine.py").write_text(HEAD + subclass)
        (tmp_path / "main.py").write_text(HELLO)
        command = [sys.executable, "-m", "uvworker", "check", "-k", "mine.Mine"]
        return subprocess.run(
            [*command, *args, "main:app"],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
