"""What each server does when something happens: ``python benchmarks/promises.py``.

It measures the lines of the README's comparison that are not times: it starts several
workers, disturbs them, and records what clients see. It takes about ten minutes, and
needs Linux.

Every wait has a deadline far beyond what it takes on an idle machine: a busy machine
makes this slower, but no result worse.
"""

from __future__ import annotations

import argparse
import itertools
import os
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException

import report
from servers import PATIENCE
from service import COMMANDS, START, Service, serving, wait_for

STALL = START / 2  # seconds; a server whose clients wait so long waits for the start
WATCH = 25.0  # seconds in which a broken release or a lost worker has its effect
WHILE = 5.0  # seconds of service that are worth reporting
SETTLING = 90.0  # seconds for a reload, of which 10 may be a drain of each worker
NOTICE = 30.0  # seconds for a blocked loop to be noticed; gunicorn has 10
LEAVE = 15.0  # seconds for orphans to leave
HEAD = 60.0  # seconds after which an endless request head counts as not dropped
CONNECTIONS = 400
RELOADS = 4
CLIENTS = 12

Start = Callable[..., AbstractContextManager[Service]]  # `serving`, of one server


@dataclass(frozen=True)
class Exchange:
    began: float  # by time.monotonic()
    ended: float
    answered: bool


class Load:
    """Clients that keep their connection and never retry, for a ``with`` block."""

    def __init__(self, service: Service) -> None:
        self.exchanges: list[Exchange] = []
        self._service, self._over = service, threading.Event()
        self._clients = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:  # noqa: PYI034  not a base class
        for client in self._clients:
            client.start()
        self.go_on()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def go_on(self) -> None:
        """Wait until more requests are answered."""
        goal = len(self.exchanges) + 20 * CLIENTS
        wait_for(lambda: len(self.exchanges) > goal, PATIENCE)

    def lost(self) -> int:
        return sum(not one.answered for one in self.exchanges)

    def pause(self, since: float) -> float:
        """Return the longest wait of a client, or of all for an answer, in seconds."""
        late = [one for one in self.exchanges if one.ended > since]
        ends = [since, *sorted(one.ended for one in late if one.answered)]
        gaps = (after - before for before, after in itertools.pairwise(ends))
        return max(*gaps, *(one.ended - one.began for one in late))

    def _run(self) -> None:
        client = self._service.client()
        while not self._over.wait(0.01):
            began = time.monotonic()
            answered = exchange(client)
            self.exchanges.append(Exchange(began, time.monotonic(), answered))
        client.close()


def exchange(client: HTTPConnection) -> bool:
    """Return whether a request is answered, on the connection there is or a new one."""
    if client.sock and select.select([client.sock], [], [], 0)[0]:
        client.close()  # the server closed it before this request
    try:
        client.request("GET", "/")
        response = client.getresponse()
        return bool(response.read()) and response.status == 200  # noqa: PLR2004
    except (OSError, HTTPException):
        client.close()
        return False


def reload_with_slow_start(start: Start) -> str:
    with start() as service, Load(service) as load:
        asked_at = time.monotonic()
        service.reload("slow")
        over = wait_for(lambda: service.serves("slow"), SETTLING)
        pause = load.pause(asked_at)
    if not over:
        return "never over"
    return "yes" if pause < STALL else f"no: {pause:.1f} s pause"


def broken_release(start: Start, fault: str) -> str:
    with start() as service:
        service.reload(fault)
        served = serves_on(service)
        return describe(served) if service.who(f"{fault} begins") else "not tried"


def lost_worker(start: Start, fault: str) -> str:
    with start() as service:
        service.release(fault)
        victim = service.who("first serves")[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in service.living(), PATIENCE)
        return describe(serves_on(service))


def serves_on(service: Service) -> float:
    """Return for how long of `WATCH` requests are answered, in seconds."""
    began = last = time.monotonic()
    while last - began < WATCH and time.monotonic() - last < STALL:
        client = service.client()
        if exchange(client):
            last = time.monotonic()
        client.close()
        time.sleep(0.1)
    return last - began


def describe(served: float) -> str:
    if served >= WATCH:
        return "yes"
    return f"for {served:.0f} s" if served > WHILE else "no"


def blocked_loop(start: Start) -> str:
    with start() as service:
        client = service.client()
        client.request("GET", "/block")
        wait_for(lambda: service.who("first blocks"), PATIENCE)
        [blocked] = service.who("first blocks")
        if not wait_for(lambda: blocked not in service.living(), NOTICE):
            return "no"
        return "yes" if "block_the_loop" in service.log.read_text() else "noticed"


def killed_parent(start: Start) -> str:
    with start() as service:
        os.kill(service.parent, signal.SIGKILL)
        return "yes" if wait_for(service.refuses, LEAVE) else "no"


def spread(start: Start) -> str:
    return ", ".join(f"{fullest(start, at_once):.2f}" for at_once in (False, True))


def fullest(start: Start, at_once: bool) -> float:
    """Return the most connections that a worker has, as a multiple of its share.

    If all clients connect before the first request, workers are busy when they come. If
    they come one by one, workers are idle, and the kernel wakes one or all of them.
    """
    with ExitStack() as stack:
        service = stack.enter_context(start(4))
        clients = [service.client() for _ in range(CONNECTIONS)]
        for client in clients:
            stack.callback(client.close)
            if at_once:
                client.connect()
        pids = Counter(stay(client) for client in clients)
    return max(pids.values()) * service.workers / CONNECTIONS


def stay(client: HTTPConnection) -> bytes:
    """Request an endless response; return the worker's pid, with which it begins."""
    client.request("GET", "/stay")
    return client.getresponse().read1()


def endless_head(start: Start) -> str:
    with start() as service:
        client = socket.create_connection(("127.0.0.1", service.port))
        began = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n")
        while (taken := time.monotonic() - began) < HEAD:
            if not takes_more(client):
                return f"yes: {taken:.0f} s"
        return "no"


def takes_more(client: socket.socket) -> bool:
    """Send a field, and return whether the server sends nothing for a second."""
    try:
        client.sendall(b"X-More: 1\r\n")
        return not select.select([client], [], [], 1)[0]
    except OSError:
        return False


def lost_in_reloads(start: Start) -> str:
    with start() as service, Load(service) as load:
        for number in range(RELOADS):
            service.reload(f"next{number}")
            if not wait_for(partial(service.serves, f"next{number}"), SETTLING):
                return "never over"
            load.go_on()
    return f"{load.lost()} of {len(load.exchanges)}"


@dataclass(frozen=True)
class Promise:
    title: str
    keeps: Callable[[Start], str]
    alone: bool = False  # no other server runs beside it


PROMISES = {
    "reload": Promise(
        "a reload serves on while the new code starts", reload_with_slow_start, True
    ),
    "import": Promise(
        "a release that cannot be imported leaves the old one serving",
        partial(broken_release, fault="import"),
    ),
    "lifespan": Promise(
        "a release whose lifespan fails leaves the old one serving",
        partial(broken_release, fault="lifespan"),
    ),
    "lost-import": Promise(
        "a lost worker that cannot be imported again leaves the others serving",
        partial(lost_worker, fault="import"),
    ),
    "lost-lifespan": Promise(
        "a lost worker whose lifespan fails leaves the others serving",
        partial(lost_worker, fault="lifespan"),
    ),
    "blocked": Promise(
        "a blocked event loop is noticed, and its stack logged", blocked_loop
    ),
    "orphans": Promise("workers leave when their parent is killed", killed_parent),
    "spread": Promise(
        f"{CONNECTIONS} connections over 4 workers, one by one and at once:"
        " the fullest worker, times the mean",
        spread,
        True,
    ),
    "head": Promise("a request head that never ends is dropped", endless_head),
    "lost": Promise(f"requests lost in {RELOADS} reloads", lost_in_reloads, True),
}


def find_out(promise: Promise, names: list[str]) -> list[str]:
    """Return what each server does."""

    def one(name: str) -> str:
        verdict = promise.keeps(partial(serving, name))
        print(f"{promise.title}: {name}: {verdict}", flush=True)
        return verdict

    with ThreadPoolExecutor(1 if promise.alone else len(names)) as pool:
        return list(pool.map(one, names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", nargs="+", choices=COMMANDS, default=[*COMMANDS])
    parser.add_argument("--promises", nargs="+", choices=PROMISES, default=[*PROMISES])
    arguments = parser.parse_args()
    rows = [["", *arguments.servers]]
    for promise in (PROMISES[name] for name in arguments.promises):
        rows += [[promise.title, *find_out(promise, arguments.servers)]]
    print(report.markdown(rows))
    print(f"\n{report.where(report.machine())}")


if __name__ == "__main__":
    main()
