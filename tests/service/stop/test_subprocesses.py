"""Processes that the app starts are its own: their codes, descriptors and signals."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import Serve
from tests.tools.service import PATIENCE, wait_for

APP = """
import asyncio, json, multiprocessing, os, subprocess, sys, time

EXIT = [sys.executable, "-c", "raise SystemExit(7)"]
LIST = '''
import json, os
names = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        names[fd] = os.readlink("/proc/self/fd/" + fd)
    except FileNotFoundError:
        pass  # the one of this listing
print(json.dumps(names))
'''

def run():
    return subprocess.run(EXIT).returncode

async def run_async():
    return await (await asyncio.create_subprocess_exec(*EXIT)).wait()

async def run_in_thread():
    return await asyncio.get_running_loop().run_in_executor(None, run)

def system():
    return os.waitstatus_to_exitcode(os.system("exit 7"))

def leave():
    sys.exit(7)

def process(method):
    child = multiprocessing.get_context(method).Process(target=leave)
    child.start()
    child.join()
    return child.exitcode

def terminated():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
    child.start()
    child.terminate()
    child.join()
    return child.exitcode

def stopped():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.terminate()
    return child.wait()

def descriptors():
    listing = subprocess.run(
        [sys.executable, "-c", LIST], close_fds=False, stdout=subprocess.PIPE
    )
    return json.loads(listing.stdout)

WAYS = {
    "/run": run,
    "/async": run_async,
    "/thread": run_in_thread,
    "/system": system,
    "/fork": lambda: process("fork"),
    "/spawn": lambda: process("spawn"),
    "/terminated": terminated,
    "/stopped": stopped,
    "/descriptors": descriptors,
    "/pid": os.getpid,
}

async def app(scope, receive, send):
    assert scope["type"] == "http"
    result = WAYS[scope["path"]]()
    if asyncio.iscoroutine(result):
        result = await result
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(result).encode()})
"""

LOOPS = pytest.mark.parametrize(
    "worker", ["uvworker.Worker", "uvworker.H11Worker"], ids=["uvloop", "asyncio"]
)


@LOOPS
def test_processes_end_with_their_own_return_codes(serve: Serve, worker: str) -> None:
    service = serve(APP, worker=worker)
    for way in ("/run", "/async", "/thread", "/system", "/fork", "/spawn"):
        assert (way, service.get(way).json()) == (way, 7)
    assert service.stop() == 0
    # The tracker that "spawn" has started ends when it sees that the worker has.
    wait_for(lambda: not service.session(), "the end of the tracker")


@LOOPS
def test_a_signal_to_a_process_of_the_app_is_none_to_the_worker(
    serve: Serve, worker: str
) -> None:
    """A fork shares the descriptor through which a loop wakes up for its signals."""
    service = serve(APP, worker=worker)
    before = service.get("/pid").json()
    assert service.get("/stopped").json() == -15
    assert service.get("/terminated").json() == -15
    assert service.get("/pid").json() == before
    assert "exiting" not in service.log


@pytest.mark.parametrize("args", [[], ["--reuse-port"]], ids=["shared", "reuse-port"])
def test_programs_inherit_no_listener_and_no_heartbeat(
    serve: Serve, port: int, args: list[str]
) -> None:
    bind = f"127.0.0.1:{port}"
    serve(APP, "-w", "2", *args, bind=bind, wait=2)
    url = f"http://{bind}/descriptors"
    inherited = httpx.get(url, timeout=PATIENCE).json()
    assert {int(fd) for fd in inherited} <= {0, 1, 2, 3}  # 3: the listing's own
    assert not [name for name in inherited.values() if "socket" in name]
