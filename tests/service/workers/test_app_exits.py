"""An app that ends or cancels what it did not start ends a worker at most."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import Serve
from tests.tools.apps import HOOKS, SAY
from tests.tools.service import wait_for

# What the app does is the path of a request, or of its lifespan the variable WAY.
APP = (
    SAY
    + """
import anyio, asyncio, atexit, signal, sys, threading

atexit.register(say, "atexit")
held = set()

async def leave(code):
    sys.exit(code)

async def interrupt():
    raise KeyboardInterrupt

def task(work):
    held.add(asyncio.create_task(work))

def thread():
    threading.Thread(target=sys.exit, args=[3]).start()

def alarm(handler):
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)

async def cancel_all(wait):
    others = asyncio.all_tasks() - {asyncio.current_task()}
    say(f"others {len(others)}")
    for other in others:
        other.cancel()
    if wait:
        await asyncio.gather(*others, return_exceptions=True)

async def do(way):
    loop = asyncio.get_running_loop()
    result = {
        "": lambda: None,
        "/task/0": lambda: task(leave(0)),
        "/task/3": lambda: task(leave(3)),
        "/task/4": lambda: task(leave(4)),
        "/task/259": lambda: task(leave(259)),
        "/task/text": lambda: task(leave("the end")),
        "/interrupt": lambda: task(interrupt()),
        "/callback": lambda: loop.call_soon(sys.exit, 3),
        "/stop": loop.stop,
        "/handler": lambda: alarm(lambda *_: sys.exit(3)),
        "/request": lambda: sys.exit(3),
        "/thread": thread,
        "/cancel": lambda: cancel_all(False),
        "/cancel/wait": lambda: cancel_all(True),
    }[way]()
    if asyncio.iscoroutine(result):
        await result

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await do(os.environ.get("AT_STARTUP", ""))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await do(os.environ.get("AT_SHUTDOWN", ""))
        say("closed")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await do(scope["path"].rstrip("/"))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
)

LOOPS = pytest.mark.parametrize(
    "worker", ["uvworker.Worker", "uvworker.H11Worker"], ids=["uvloop", "asyncio"]
)


@pytest.mark.parametrize(
    ("worker", "way", "code"),
    [
        ("Worker", "/task/0", 0),
        ("Worker", "/task/3", 1),
        ("Worker", "/task/259", 1),  # which Python makes 3
        ("Worker", "/task/text", 1),
        ("Worker", "/interrupt", 1),
        ("Worker", "/callback", 1),
        ("Worker", "/stop", 0),
        ("Worker", "/handler", 1),
        ("H11Worker", "/task/4", 1),
        ("H11Worker", "/stop", 0),
        ("H11Worker", "/handler", 1),
    ],
)
def test_an_app_that_ends_the_loop_ends_one_worker_cleanly(
    serve: Serve, worker: str, way: str, code: int
) -> None:
    service = serve(APP, worker=f"uvworker.{worker}", conf=HOOKS)
    [before] = service.workers()
    service.begin(way)
    service.wait_said("worker_exit")
    service.wait_gone(before)
    wait_for(lambda: len(service.workers()) == 1, "another worker")
    assert int(service.get().text) == service.workers()[0]
    assert service.said("closed") == service.said("atexit") == [before]
    assert "worker 0 drains and is replaced" in service.log
    assert (f"exited with code {code}" in service.log) == bool(code)


@pytest.mark.parametrize("way", ["/request", "/thread", "/cancel", "/cancel/wait"])
def test_what_ends_a_request_or_a_thread_ends_no_worker(serve: Serve, way: str) -> None:
    service = serve(APP, conf=HOOKS)
    [before] = service.workers()
    service.begin(way).getresponse().read()
    assert int(service.get().text) == before
    assert service.stop() == 0
    assert service.said("closed") == service.said("worker_exit") == [before]


@LOOPS
@pytest.mark.parametrize("when", ["AT_STARTUP", "AT_SHUTDOWN"])
@pytest.mark.parametrize("way", ["/cancel", "/cancel/wait"])
def test_an_app_finds_no_task_of_the_worker_to_cancel(
    serve: Serve, worker: str, when: str, way: str
) -> None:
    service = serve(APP, worker=worker, conf=HOOKS, env={when: way})
    [before] = service.workers()
    service.get()
    service.kill(signal.SIGTERM, before)
    service.wait_gone(before)
    ending = ["others 0", "closed", "worker_exit", "atexit"]
    assert all(service.said(what)[0] == before for what in ending)
    assert "Traceback" not in service.log
    assert "exited with code" not in service.log


@pytest.mark.parametrize("way", ["/task/3", "/stop", "/request"])
def test_an_exit_in_the_shutdown_is_the_end_of_the_shutdown(
    serve: Serve, way: str
) -> None:
    service = serve(APP, conf=HOOKS, env={"AT_SHUTDOWN": way})
    [before] = service.workers()
    service.kill(signal.SIGTERM, before)
    service.wait_gone(before)
    wait_for(lambda: len(service.workers()) == 1, "another worker")
    service.wait_said("worker_exit")
    assert "exited with code" not in service.log
