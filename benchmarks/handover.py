"""A hand-over, event by event: what each worker and each client of a reload does.

Two workers serve eight clients, and get HUP; the new code takes a second to start. The
events are real, and their times are seconds since HUP.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from servers import PATIENCE, Fault, Server
from service import wait_for
from stage import Run

WORKERS = 2
CLIENTS = 8
BEFORE, AFTER = 0.6, 0.6  # seconds of service that are shown

COMMAND = (
    "gunicorn -w {workers} -b 127.0.0.1:{port} --no-control-socket"
    " -k uvworker.Worker main:app"
)

# Times are by CLOCK_MONOTONIC, which all processes share.
APP = """
import asyncio, os, time

def note(event):
    with open("events", "a") as events:
        events.write(f"{os.getpid()} {event} {time.monotonic()}\\n")

note("begins")
time.sleep(1)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        note("serves")
        await receive()
        note("ends")
        return await send({"type": "lifespan.shutdown.complete"})
    await asyncio.sleep(0.08)
    body = str(os.getpid()).encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})
"""

Request = dict[str, Any]  # client, worker (0: lost), start, end


def hand_over(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Return the workers and the requests of one reload of uvworker."""
    with TemporaryDirectory() as name, _serving(Path(name)) as server:
        directory = Path(name)
        old = _pids(directory, "serves")
        with _clients(server) as requests:
            time.sleep(2 * BEFORE)  # load, not a wait
            began = time.monotonic()
            os.kill(server.parent, signal.SIGHUP)
            if not wait_for(lambda: old <= _pids(directory, "ends"), PATIENCE):
                raise Fault("the hand-over is never over")
            time.sleep(AFTER)
        found = {
            "workers": _workers(directory, began),
            "requests": _shown(requests, began),
        }
    lost = sum(not request["worker"] for request in found["requests"])
    run.say(f"hand-over        {len(found['requests'])} requests, {lost} lost")
    return found


@contextmanager
def _serving(directory: Path) -> Iterator[Server]:
    (directory / "main.py").write_text(APP)
    (directory / "events").touch()
    server = Server("uvworker", COMMAND, directory / "log", directory, WORKERS)
    try:
        server.wait()
        yield server
    finally:
        server.tell()
        server.end()


def _events(directory: Path) -> list[tuple[int, str, float]]:
    lines = (directory / "events").read_text().splitlines()
    words = [line.split() for line in lines]
    return [(int(pid), event, float(at)) for pid, event, at in words]


def _pids(directory: Path, wanted: str) -> set[int]:
    return {pid for pid, event, _ in _events(directory) if event == wanted}


@contextmanager
def _clients(server: Server) -> Iterator[list[Request]]:
    """Let clients, which never retry, ask on for a ``with`` block."""
    requests: list[Request] = []
    over = threading.Event()
    threads = [
        threading.Thread(target=_ask_on, args=(server, number, requests, over))
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield requests
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _ask_on(
    server: Server, number: int, requests: list[Request], over: threading.Event
) -> None:
    client = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    while not over.wait(0.01):
        start = time.monotonic()
        try:
            client.request("GET", "/")
            worker = int(client.getresponse().read())
        except (OSError, HTTPException, ValueError):
            client.close()
            worker = 0
        end = time.monotonic()
        requests.append(
            {"client": number, "worker": worker, "start": start, "end": end}
        )
    client.close()


def _workers(directory: Path, began: float) -> list[dict[str, Any]]:
    workers: dict[int, dict[str, Any]] = {}
    for pid, event, at in _events(directory):
        workers.setdefault(pid, {"pid": pid})[event] = round(at - began, 3)
    return sorted(workers.values(), key=lambda worker: float(worker["begins"]))


def _shown(requests: list[Request], began: float) -> list[Request]:
    """Return the requests that are shown, with seconds since *began*."""
    return [
        {
            **request,
            "start": round(request["start"] - began, 3),
            "end": round(request["end"] - began, 3),
        }
        for request in requests
        if request["end"] > began - BEFORE
    ]
