"""``--reload``: what is saved is served, and what is broken is shown."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.tools.service import PATIENCE, Service, gunicorn_lacks, wait_for

APP = """
import os
import greeting

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = f"{greeting.TEXT} from {os.getpid()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where the app lives: apart from the logs, whose growth inotify reports too."""
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "hello.py").write_text(APP)
    (directory / "greeting.py").write_text("TEXT = 'good morning'")
    return directory


def reloading(serve: Serve, source: Path, *args: str, conf: str = "") -> Service:
    options = "--reload", "--chdir", str(source)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}  # or inotify reports the first cache file
    return serve("", *options, *args, app="hello:app", env=env, conf=conf)


def save(path: Path, text: str) -> None:
    """Save in one event, or a reload could fall between two of them."""
    draft = path.parents[1] / "logs" / path.name  # where no reloader watches
    draft.write_text(text)
    draft.replace(path)


def save_and_see(service: Service, path: Path, text: str, words: str) -> str:
    """Save *text*, and return the answer with *words* in it.

    gunicorn's polling engine learns a file's age at its first look, which may come
    after the first answer on a crowded machine: it cannot see a save before that.
    """
    seen = service.log.count("Worker reloading")
    save(path, text)
    try:
        return wait_served(service, words, PATIENCE / 2)
    except AssertionError:
        assert service.log.count("Worker reloading") == seen
        save(path, text)
        return wait_served(service, words)


def wait_served(service: Service, words: str, patience: float = PATIENCE) -> str:
    def served() -> str:
        try:
            text = service.get().text
        except (httpx.RemoteProtocolError, httpx.NetworkError):
            # A reload cuts what is in flight: before, in or after the sending.
            return ""
        return text if words in text else ""

    return wait_for(served, f"{words!r} in the answer", patience)


@pytest.mark.parametrize("engine", ["auto", "poll", "inotify"])
def test_a_saved_file_is_served(serve: Serve, source: Path, engine: str) -> None:
    service = reloading(serve, source, "--reload-engine", engine, "-w", "2")
    service.ready(2)
    wait_served(service, "good morning")
    save_and_see(service, source / "greeting.py", "TEXT = 'good night'", "good night")
    service.wait_log(r"Worker reloading: .*greeting\.\w+ modified")


def test_an_extra_file_is_watched(serve: Serve, source: Path) -> None:
    page = source / "page.html"
    page.write_text("good morning")
    (source / "greeting.py").write_text("TEXT = open('page.html').read()")
    service = reloading(serve, source, "--reload-extra-file", str(page))
    wait_served(service, "good morning")
    save_and_see(service, page, "good night", "good night")


@pytest.mark.parametrize("engine", ["poll", "inotify"])
@pytest.mark.parametrize(
    ("broken", "words"),
    [("TEXT = 'good", "SyntaxError"), ("TEXT = 1 / 0", "ZeroDivisionError")],
)
def test_a_broken_file_is_shown_and_the_next_save_recovers(
    serve: Serve, source: Path, engine: str, broken: str, words: str
) -> None:
    service = reloading(serve, source, "--reload-engine", engine)
    wait_served(service, "good morning")
    page = save_and_see(service, source / "greeting.py", broken, words)
    assert "greeting.py" in page
    assert broken in page
    assert service.get().status_code == 500
    save_and_see(service, source / "greeting.py", "TEXT = 'good night'", "good night")


def test_a_file_that_is_broken_from_the_start_recovers(
    serve: Serve, source: Path
) -> None:
    (source / "hello.py").write_text("def app(:")
    service = reloading(serve, source)
    wait_served(service, "SyntaxError")
    save_and_see(service, source / "hello.py", APP, "good morning")


BROKEN_LIFESPAN = """
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    raise ValueError("no database")
"""


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (BROKEN_LIFESPAN, "ValueError: no database"),
        (
            BROKEN_LIFESPAN.replace(
                "raise",
                "await send({'type': "
                "'lifespan.startup.failed', 'message': 'no database'})\n    return",
            ),
            "application startup failed: no database",
        ),
        ("def app(environ, start_response): ...", "it is a WSGI app"),
    ],
    ids=["raises", "says so", "WSGI"],
)
def test_an_app_that_does_not_start_is_shown_and_the_next_save_recovers(
    serve: Serve, source: Path, broken: str, words: str
) -> None:
    service = reloading(serve, source)
    wait_served(service, "good morning")
    save_and_see(service, source / "hello.py", broken, words)
    assert service.get().status_code == 500
    save_and_see(
        service,
        source / "hello.py",
        APP.replace("greeting.TEXT", "'good night'"),
        "good night",
    )
    assert service.stop() == 0


@gunicorn_lacks("asgi_lifespan")
def test_a_broken_file_is_shown_where_the_app_must_have_a_lifespan(
    serve: Serve, source: Path
) -> None:
    (source / "hello.py").write_text("def app(:")
    service = reloading(serve, source, conf="asgi_lifespan = 'on'")
    wait_served(service, "SyntaxError")


def test_a_reload_runs_worker_int_and_the_lifespan_shutdown(
    serve: Serve, source: Path
) -> None:
    lifespan = """
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan closed", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
"""
    (source / "hello.py").write_text(
        APP.replace('    assert scope["type"] == "http"\n', lifespan)
    )
    hook = "def worker_int(worker): print('interrupted', flush=True)"
    service = reloading(serve, source, conf=hook)
    wait_served(service, "good morning")
    save_and_see(service, source / "greeting.py", "TEXT = 'good night'", "good night")
    assert service.out.count("interrupted") == 1
    assert service.out.count("lifespan closed") == 1
    assert "ERROR" not in service.log
