"""Processes that the app forks hold nothing of the service, and end as children."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.tools.apps import HOOKS, SAY
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, alive, open_files, wait_for

HELPED = """
import multiprocessing, time

def help():
    time.sleep(600)

def on_starting(server):
    helper = multiprocessing.get_context("fork").Process(target=help, daemon=True)
    helper.start()
    print("helper", helper.pid, flush=True)
"""


def test_a_worker_that_leaves_ends_no_child_of_the_arbiters(serve: Serve) -> None:
    service = serve(conf=HELPED)
    helper = int(service.out.split()[1])
    [old] = set(service.workers()) - {helper}
    service.kill(signal.SIGHUP)
    service.ready(2)
    service.wait_gone(old)
    assert alive(helper)
    assert "can only join a child process" not in service.log
    os.kill(helper, signal.SIGKILL)


# Forks where the first part of the path says; the child does what the second says.
APP = (
    SAY
    + """
import asyncio, atexit, concurrent.futures, multiprocessing, signal, subprocess
import sys, threading, time

atexit.register(say, "atexit")
held = []

def linger():
    say("lingers")
    time.sleep(60)

def fork(how):
    pid = os.fork()
    if pid:
        return pid
    if how == "linger":
        linger()
    elif how == "exit":
        sys.exit(7)
    elif how == "fail":
        raise ValueError("the child")
    return 0

async def in_request(how):
    return fork(how)

async def in_thread(how):
    return await asyncio.to_thread(fork, how)

async def in_task(how):
    async def work():
        return fork(how) or how == "await" and await asyncio.sleep(60)
    return await asyncio.create_task(work())

async def in_callback(how):
    pids = []
    asyncio.get_running_loop().call_soon(lambda: pids.append(fork(how)))
    while not pids:
        await asyncio.sleep(0.01)
    return pids[0]

def process(method):
    child = multiprocessing.get_context(method).Process(target=linger, daemon=True)
    child.start()
    held.append(child)
    return child.pid

async def in_pool(how):
    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
    held.append(pool)
    pool.submit(linger)
    return next(iter(pool._processes))

async def in_preexec(how):
    line = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
    child = subprocess.Popen(line, preexec_fn=os.setsid, close_fds=False, stdout=-1)
    held.append(child)
    child.stdout.readline()
    say("lingers")
    return child.pid

async def in_fork(how): return process("fork")
async def in_forkserver(how): return process("forkserver")
async def in_spawn(how): return process("spawn")

async def answer(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(body).encode()})

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.environ.get("AT_STARTUP"):
            say(f"forked {fork('linger')}")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("closed")
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/":
        return await answer(send, os.getpid())
    _, where, how = scope["path"].split("/")
    pid = await globals()["in_" + where](how)
    if how == "linger":
        return await answer(send, pid)
    if pid == 0 and how != "answer":
        return
    status = (0, 0)
    while pid and not status[0]:
        status = os.waitpid(pid, os.WNOHANG)
        await asyncio.sleep(0.01)
    await answer(send, os.waitstatus_to_exitcode(status[1]))
"""
)

LOOPS = pytest.mark.parametrize(
    "worker", ["uvworker.Worker", "uvworker.H11Worker"], ids=["uvloop", "asyncio"]
)


@contextmanager
def killed(pid: int) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid), "the end of the child")


def last_answer(service: Service, path: str) -> bytes:
    """Return the body that comes until the end of the connection, which must come."""
    with service.connect() as connection:
        return read_all(connection, path)


def read_all(connection: socket.socket, path: str) -> bytes:
    connection.settimeout(PATIENCE)
    connection.sendall(b"GET %b HTTP/1.0\r\nHost: a\r\n\r\n" % path.encode())
    return b"".join(iter(lambda: connection.recv(4096), b"")).rpartition(b"\r\n")[2]


def held(child: int, port: int) -> set[str]:
    """Return the sockets of the service's port that the child has."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    sockets = {
        f"socket:[{fields[9]}]"
        for fields in map(str.split, lines)
        if int(fields[1].rpartition(":")[2], 16) == port
    }
    assert sockets
    return sockets & set(open_files(child).values())


def assert_free(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        pass


WHERE = ("request", "thread", "task", "fork", "pool", "preexec", "spawn", "forkserver")


@pytest.mark.parametrize(
    ("worker", "where"),
    [
        *(("uvworker.Worker", where) for where in WHERE),
        *(("uvworker.H11Worker", where) for where in WHERE[:4]),
    ],
)
def test_a_child_that_lives_on_holds_no_client_and_no_port(
    serve: Serve, worker: str, where: str
) -> None:
    service = serve(APP, worker=worker)
    with service.connect() as other:
        other.sendall(b"GET / HTTP/1.0\r\n")  # half a request, while the child forks
        child = int(last_answer(service, f"/{where}/linger"))
        with killed(child):
            service.wait_said("lingers")
            assert held(service.workers()[0], service.port)
            assert not held(child, service.port)
            other.sendall(b"\r\n")
            other.settimeout(PATIENCE)
            assert b"200 OK" in b"".join(iter(lambda: other.recv(4096), b""))
    assert service.stop() == 0
    # The servers of multiprocessing end when they see that the worker is gone.
    wait_for(lambda: not service.session(), "the end of all processes")


@LOOPS
def test_the_port_is_free_after_a_stop_beside_a_child(
    serve: Serve, worker: str
) -> None:
    service = serve(APP, worker=worker)
    port, child = service.port, int(service.get("/request/linger").text)
    with killed(child):
        assert service.stop() == 0
        assert_free(port)
        assert alive(child)


def test_a_child_of_the_startup_holds_no_port(serve: Serve, port: int) -> None:
    bind, env = f"127.0.0.1:{port}", {"AT_STARTUP": "1"}
    service = serve(APP, "--reuse-port", env=env, bind=bind)
    [line] = wait_for(
        lambda: [x for x in service.out.splitlines() if "forked" in x], "the fork"
    )
    child = int(line.split()[-1])
    with killed(child):
        service.wait_said("lingers")
        assert not held(child, port)
        assert service.stop() == 0
        assert alive(child)


def test_a_child_holds_no_tls_connection(
    serve: Serve, certificates: Certificates
) -> None:
    service = serve(APP, *certificates.arguments)
    with service.connect():  # in its handshake
        with certificates.connect(service.port) as connection:
            child = int(read_all(connection, "/request/linger"))
        with killed(child):
            service.wait_said("lingers")
            assert not held(child, service.port)


@LOOPS
@pytest.mark.parametrize(
    ("where", "how", "code"),
    [
        ("request", "exit", b"7"),
        ("request", "fail", b"1"),
        ("request", "return", b"0"),
        ("request", "answer", b"0"),
        ("thread", "exit", b"7"),
        ("thread", "fail", b"1"),
        ("thread", "return", b"0"),
        ("task", "exit", b"7"),
        ("task", "fail", b"1"),
        ("task", "return", b"0"),
        ("task", "await", b"1"),  # no loop of its own turns
        ("callback", "exit", b"7"),
        ("callback", "return", b"0"),
    ],
)
def test_a_child_that_the_app_lets_go_of_ends_as_a_child(
    serve: Serve, worker: str, where: str, how: str, code: bytes
) -> None:
    service = serve(APP, "--access-logfile", "-", worker=worker, conf=HOOKS)
    [pid] = service.workers()
    assert last_answer(service, f"/{where}/{how}") == code
    assert {int(service.get().text) for _ in range(5)} == {pid}
    assert service.stop() == 0
    for once in "closed", "worker_exit", "atexit":
        assert service.said(once) == [pid]
    assert service.out.count(f"GET /{where}/{how} ") == 1
    assert ("ValueError: the child" in service.log) == (how == "fail")


def test_a_child_of_the_import_is_no_second_worker(serve: Serve) -> None:
    service = serve("import os\nchild = os.fork()\n" + APP, conf=HOOKS, wait=1)
    [pid] = service.workers()
    assert {int(service.get().text) for _ in range(5)} == {pid}
    assert service.stop() == 0
    assert service.said("worker_exit") == service.said("atexit") == [pid]


IN_LIFESPAN = (
    SAY
    + """
import atexit, sys

atexit.register(say, "atexit")
place, how = os.environ["PLACE"], os.environ["HOW"]

def reach(there):
    if there != place or os.fork():
        return True
    if how == "exit":
        sys.exit(7)
    if how == "fail":
        raise ValueError("the child")
    return how == "answer"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for event in "startup", "shutdown":
            await receive()
            if not reach("before " + event):
                return
            await send({"type": f"lifespan.{event}.complete"})
            if not reach("after " + event):
                return
            say(event)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
)


@LOOPS
@pytest.mark.parametrize(
    ("place", "how"),
    [
        ("before startup", "fail"),
        ("before startup", "answer"),
        ("after startup", "return"),
        ("after startup", "exit"),
        ("before shutdown", "fail"),
        ("after shutdown", "answer"),
    ],
)
def test_a_child_of_the_lifespan_ends_as_a_child(
    serve: Serve, worker: str, place: str, how: str
) -> None:
    env = {"PLACE": place, "HOW": how}
    service = serve(IN_LIFESPAN, worker=worker, conf=HOOKS, env=env)
    [pid] = service.workers()
    assert int(service.get().text) == pid
    assert service.stop() == 0
    assert service.said("worker_exit") == service.said("atexit") == [pid]
    assert service.log.count("startup complete") == 1
    for trouble in "[ERROR]", "[WARNING]", "has no lifespan":
        assert trouble not in service.log
    assert ("ValueError: the child" in service.log) == (how == "fail")
