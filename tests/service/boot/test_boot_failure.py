"""A boot that fails: one clear message, gunicorn's exit code, and no loop."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.service import Service, gunicorn_lacks

BOOT_FAILED, APP_NOT_LOADED = 3, 4  # gunicorn's Arbiter.WORKER_BOOT_ERROR, ...

# What is wrong with the app: source, the app's own words that must be in the log, the
# sentence that says what happened, and the exit code.
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        {startup}
"""
COMPLETE = "await send({'type': 'lifespan.startup.complete'}); await receive()"
BROKEN = {
    "import error": (
        "import no_such_module",
        ["Traceback", "main.py", "No module named 'no_such_module'"],
        r"Worker \d cannot start: ModuleNotFoundError",
        BOOT_FAILED,
    ),
    "syntax error": (
        "def app(:",
        ["main.py", "def app(:", "SyntaxError"],
        r"Worker \d cannot start: SyntaxError",
        BOOT_FAILED,
    ),
    "missing attribute": (
        "application = None",
        ["Failed to find attribute 'app' in 'main'"],
        r"Worker \d cannot start: Failed to find attribute",
        APP_NOT_LOADED,
    ),
    "not callable": (
        "app = 'hello'",
        [],
        r"Worker \d cannot start: Application object must be callable",
        APP_NOT_LOADED,
    ),
    "factory of a coroutine": (
        "async def app(): ...",
        [],
        r"Worker \d cannot start: the factory returned a coroutine, which is not call",
        APP_NOT_LOADED,
    ),
    "factory of nothing": (
        "def app(): ...",
        [],
        r"Worker \d cannot start: the factory returned a NoneType, which is not call",
        APP_NOT_LOADED,
    ),
    "WSGI app": (
        "def app(environ, start_response): ...",
        ["-k gthread", "UVICORN_INTERFACE=wsgi"],
        r"Worker \d cannot start: .* it is a WSGI app",
        APP_NOT_LOADED,
    ),
    "startup fails": (
        ASGI.format(
            startup="await send({'type': 'lifespan.startup.failed',"
            " 'message': 'no database'})"
        ),
        ["no database"],
        r"Worker \d cannot start: application startup failed",
        BOOT_FAILED,
    ),
    "startup fails without a reason": (
        ASGI.format(startup="await send({'type': 'lifespan.startup.failed'})"),
        [],
        r"Worker \d cannot start: application startup failed; .* gives no reason\.",
        BOOT_FAILED,
    ),
    "startup raises": (
        ASGI.format(startup="raise ValueError('no database')"),
        ["Traceback", "main.py", "no database"],
        r"Worker \d cannot start: application startup failed",
        BOOT_FAILED,
    ),
    "startup fails with what it handles": (
        ASGI.format(
            startup="""
        try:
            raise ValueError('no database')
        except ValueError:
            await send({'type': 'lifespan.startup.failed'})"""
        ),
        ["Traceback", "main.py", "no database"],
        r"Worker \d cannot start: application startup failed; .* gives no reason\.",
        BOOT_FAILED,
    ),
    "startup misspells its answer": (
        ASGI.format(startup="await send({'type': 'lifespan.startup.completed'})"),
        ["Traceback", "main.py", "expected lifespan.startup.complete or"],
        r"Worker \d cannot start: application startup failed",
        BOOT_FAILED,
    ),
    "exit at import": (
        "import sys; sys.exit(0)",
        ["main.py", "SystemExit(0)"],
        r"Worker \d cannot start: SystemExit",
        BOOT_FAILED,
    ),
    "exit in startup": (
        ASGI.format(startup="raise SystemExit(7)"),
        ["main.py", "SystemExit(7)"],
        r"Worker \d cannot start: SystemExit",
        BOOT_FAILED,
    ),
    "interrupt at import": (
        "raise KeyboardInterrupt",
        ["main.py", "KeyboardInterrupt()"],
        r"Worker \d cannot start: KeyboardInterrupt",
        BOOT_FAILED,
    ),
    "cancelled at import": (
        "import asyncio; raise asyncio.CancelledError",
        ["main.py", "CancelledError()"],
        r"Worker \d cannot start: CancelledError",
        BOOT_FAILED,
    ),
    "cancelled in startup": (
        ASGI.format(startup="import asyncio; raise asyncio.CancelledError"),
        [],
        r"Worker \d cannot start: application startup failed: CancelledError",
        BOOT_FAILED,
    ),
}


def assert_boot_failed_once(
    service: Service, workers: int, words: list[str], sentence: str, code: int
) -> None:
    assert service.wait_exit() == code
    log = service.log
    for word in words:
        assert word in log
    said = service.wait_log(r"\[ERROR\] " + sentence)
    # gunicorn 23 halts by an exception in a signal handler, which is lost if it comes
    # at the very end of a fork. The next worker to fail halts then.
    if "Exception ignored in" not in log:
        assert len(said) == 1
        assert log.count("Booting worker") <= workers, "a crash loop"
    assert not service.session()


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_app_is_named_and_halts_the_service(serve: Serve, fault: str) -> None:
    source, words, sentence, code = BROKEN[fault]
    service = serve(source, wait=0)
    assert_boot_failed_once(service, 1, words, sentence, code)


@pytest.mark.parametrize(
    "fault", ["import error", "missing attribute", "startup raises", "exit in startup"]
)
def test_eight_workers_name_a_broken_app_once(serve: Serve, fault: str) -> None:
    """And not with exit code 1, for workers that fail while the arbiter halts."""
    source, words, sentence, code = BROKEN[fault]
    service = serve(source, "-w", "8", wait=0)
    assert_boot_failed_once(service, 8, words, sentence, code)


def test_a_worker_that_dies_at_its_boot_is_tried_again_with_growing_pauses(
    serve: Serve,
) -> None:
    """By os._exit, a crash in C code, or the kernel: no code tells the arbiter why."""
    service = serve("import os; os._exit(9)", "-w", "2", wait=0)
    service.wait_log("died while it booted; worker . boots in 2 s", 2)
    assert service.log.count("Booting worker") <= 2 * 3
    assert service.stop() == 0


def test_threads_of_the_app_do_not_delay_the_halt(serve: Serve) -> None:
    """The interpreter waits for threads at its exit; a failed boot must not."""
    thread = "import threading; threading.Thread(target=threading.Event().wait).start()"
    startup = ASGI.format(startup="raise ValueError('no database')")
    service = serve(f"{thread}\n{startup}", "-w", "2", wait=0)
    assert service.wait_exit() == BOOT_FAILED


def test_a_slow_end_of_the_interpreter_keeps_the_exit_code(serve: Serve) -> None:
    """When the objects of the app are destroyed, no handler is left for an alarm."""
    slow = """
import sys, time

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(3)

sys.slow = Slow()  # where it lives to the end
"""
    service = serve(
        slow + ASGI.format(startup="raise ValueError('no database')"), wait=0
    )
    assert service.wait_exit() == BOOT_FAILED
    assert service.log.count("Booting worker") == 1


@pytest.mark.alone  # among many processes, one may be silent for that second
def test_a_worker_between_two_attempts_beats_and_leaves_at_once(
    serve: Serve, tmp_path: Path
) -> None:
    """While siblings serve; also when the loop that ran left TERM ignored."""
    options = "--timeout", "1", "--graceful-timeout", "1"
    service = serve(ASGI.format(startup=COMPLETE), *options)
    (tmp_path / "main.py").write_text(ASGI.format(startup="raise ValueError"))
    service.kill(signal.SIGTTIN)
    service.wait_log("the next attempt is in 4 s")
    assert service.stop() == 0
    assert "WORKER TIMEOUT" not in service.log


@pytest.mark.parametrize("workers", [1, 8])
def test_an_app_that_does_not_start_is_told_so_in_preload(
    serve: Serve, workers: int
) -> None:
    source, words, sentence, code = BROKEN["startup raises"]
    service = serve(source, "--preload", "-w", str(workers), wait=0)
    assert_boot_failed_once(service, workers, words, sentence, code)


# asgi_lifespan

SILENT = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""

DEAF = SILENT.replace(
    'assert scope["type"] == "http"',
    """
    if scope["type"] == "lifespan":
        return
""",
)

LAME = SILENT.replace(
    'assert scope["type"] == "http"',
    """
    if scope["type"] == "lifespan":
        await receive()
        raise ValueError("no database")
""",
)


# Each takes the lifespan's scope for a request's, in its own way.
ANSWER = """
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""
WITHOUT_LIFESPAN = {
    "raises": SILENT,
    "returns": DEAF,
    "answers": f"async def app(scope, receive, send):{ANSWER}",
    "reads a body": f"""
async def app(scope, receive, send):
    more = True
    while more:
        more = (await receive()).get("more_body", False)
{ANSWER}
""",
    "trips over the event": f"""
async def app(scope, receive, send):
    body = (await receive())["body"]
{ANSWER}
""",
    "checks the event": f"""
async def app(scope, receive, send):
    assert (await receive())["type"] == "http.request"
{ANSWER}
""",
    "closes a WebSocket": f"""
async def app(scope, receive, send):
    if scope["type"] != "http":
        return await send({{"type": "websocket.close"}})
{ANSWER}
""",
    "goes on after the refusal": f"""
import asyncio

async def app(scope, receive, send):
    try:
{textwrap.indent(ANSWER, "    ")}
    except RuntimeError:
        await asyncio.Event().wait()
""",
    "answers in no form": f"""
async def app(scope, receive, send):
    if "path" not in scope:
        await send(b"hello")
{ANSWER}
""",
}


@pytest.mark.parametrize("kind", WITHOUT_LIFESPAN)
def test_an_app_without_lifespan_serves(serve: Serve, kind: str) -> None:
    service = serve(WITHOUT_LIFESPAN[kind])
    assert service.get().text == "served"
    assert service.stop() == 0
    assert "ERROR" not in service.log
    assert "Traceback" not in service.log


@gunicorn_lacks("asgi_lifespan")
@pytest.mark.parametrize("source", [SILENT, DEAF], ids=["raises", "returns"])
def test_an_app_without_lifespan_does_not_serve_where_it_must_have_one(
    serve: Serve, source: str
) -> None:
    service = serve(source, conf="asgi_lifespan = 'on'", wait=0)
    assert service.wait_exit() == BOOT_FAILED
    service.wait_log(r"application startup failed")


@gunicorn_lacks("asgi_lifespan")
def test_lifespan_is_not_asked_where_it_is_off(serve: Serve) -> None:
    service = serve(LAME, conf="asgi_lifespan = 'off'")
    assert service.get().text == "served"
    assert service.stop() == 0
    assert "ERROR" not in service.log


def test_config_kwargs_of_a_subclass_are_honoured(serve: Serve, tmp_path: Path) -> None:
    subclass(tmp_path, {"lifespan": "off", "headers": [("x-kwargs", "yes")]})
    service = serve(LAME, worker="mine.Mine")
    assert service.get().headers["x-kwargs"] == "yes"


def test_an_unknown_name_in_config_kwargs_is_refused_at_start(
    serve: Serve, tmp_path: Path
) -> None:
    subclass(tmp_path, {"keep_alive": 5})
    service = serve(LAME, worker="mine.Mine", wait=0)
    assert service.wait_exit() == 1
    service.wait_log(r"Error: .*CONFIG_KWARGS.*keep_alive")
    assert "Booting worker" not in service.log


def subclass(directory: Path, kwargs: dict[str, object]) -> None:
    (directory / "mine.py").write_text(
        "import uvworker\n"
        "class Mine(uvworker.UvicornWorker):\n"
        f"    CONFIG_KWARGS = {kwargs!r}\n"
    )
