"""Fixtures: a real gunicorn for each test, which leaves nothing behind."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.tools.certificates import Certificates
from tests.tools.service import CONF, Service, reserved_port

HELLO = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""

# On a busy machine an example, or its generation, may take longer than the defaults.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

Serve = Callable[..., Service]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start gunicorn on ``main.py`` with the given source; stop it afterwards.

    ``serve(source, *args, conf="", wait=1, **Service arguments)``: *conf* is added to
    ``gunicorn.conf.py``; *wait* is the number of workers to wait for. After the test
    every service must have stopped by a TERM and left no process behind.
    """
    services: list[Service] = []

    def start(
        source: str = HELLO, *args: str, conf: str = "", wait: int = 1, **kwargs: Any
    ) -> Service:
        (tmp_path / "main.py").write_text(textwrap.dedent(source))
        (tmp_path / "gunicorn.conf.py").write_text(CONF + textwrap.dedent(conf))
        service = Service(tmp_path, *args, **kwargs)
        services.append(service)
        if wait:
            service.ready(wait)
        return service

    yield start

    for service in services:
        if service.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                service.stop()
        left = service.sweep()
        print(f"--- stderr of {service.pid}\n{service.log}")  # noqa: T201  on failure
        print(f"--- stdout of {service.pid}\n{service.out}")  # noqa: T201
        assert not left, f"processes left behind: {left}"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port that nobody listens on, for a bind that must be known before."""
    with reserved_port() as port:
        yield port
