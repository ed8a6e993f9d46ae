"""Who accepts: forked workers on shared sockets, with real clients."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import logging
import os
import resource
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from uvworker.accept import acceptor as acceptor_module
from uvworker.accept import handshakes
from uvworker.accept.acceptor import Acceptor, Connections
from uvworker.accept.handshakes import Handshakes
from uvworker.accept.tls import Certificates, Files
from uvworker.process.siblings import SILENT
from uvworker.shared_memory.scoreboard import State

from .fleet import LOOPS, Greeter, fleet, until

on_both_loops = pytest.mark.parametrize("loop", LOOPS)

Clients = list[socket.socket]
Connect = Callable[[socket.socket], socket.socket]


@pytest.fixture(params=["tcp", "ipv6", "unix"])
def any_listener(request, tmp_path) -> Iterator[socket.socket]:
    with listening(request.param, tmp_path) as listener:
        yield listener


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listening("tcp") as listener:
        yield listener


@contextlib.contextmanager
def listening(kind: str, path: Path | None = None) -> Iterator[socket.socket]:
    family, address = {
        "tcp": (socket.AF_INET, ("127.0.0.1", 0)),
        "ipv6": (socket.AF_INET6, ("::1", 0)),
        "unix": (socket.AF_UNIX, f"{path}/socket"),
    }[kind]
    with socket.socket(family) as listener:
        listener.bind(address)
        if kind != "unix":  # as gunicorn does it; what is accepted inherits it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.listen(1024)
        listener.setblocking(False)
        yield listener


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect a client that stays until the test is over."""
    with contextlib.ExitStack() as open_clients:

        def connect(listener: socket.socket) -> socket.socket:
            client = open_clients.enter_context(socket.socket(listener.family))
            client.settimeout(20)
            client.connect(listener.getsockname())
            return client

        yield connect


def accepted_by(client: socket.socket) -> int:
    return int(client.recv(3, socket.MSG_WAITALL))


def is_greeted(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(3, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(20)


def fullest(clients: Clients) -> int:
    return max(collections.Counter(map(accepted_by, clients)).values())


# Even accept


@pytest.mark.alone
@on_both_loops
def test_a_burst_spreads_evenly(any_listener, connect, loop):
    with fleet(4, [any_listener], loop=loop):
        clients = [connect(any_listener) for _ in range(400)]
        assert fullest(clients) <= 1.1 * 100


@pytest.mark.alone
@on_both_loops
def test_connections_one_by_one_spread_evenly(any_listener, connect, loop):
    with fleet(4, [any_listener], loop=loop):
        clients = []
        for _ in range(200):
            clients.append(connect(any_listener))
            until(lambda: is_greeted(clients[-1]))
        assert fullest(clients) <= 1.1 * 50


@pytest.mark.alone
@on_both_loops
def test_tls_connections_spread_evenly(listener, connect, loop):
    server, trusting = tls_contexts()
    with fleet(4, [listener], loop=loop, certificates=server):
        clients = [
            trusting.wrap_socket(connect(listener), server_hostname="localhost")
            for _ in range(80)
        ]
        by_worker = collections.Counter(int(client.recv(3)) for client in clients)
        for client in clients:
            client.close()
        assert max(by_worker.values()) <= 1.1 * 20


@pytest.mark.alone
def test_few_connections_spread_as_evenly_as_many(listener, connect):
    with fleet(4, [listener]):
        clients = []
        for _ in range(8):
            clients.append(connect(listener))
            until(lambda: is_greeted(clients[-1]))
        assert fullest(clients) <= 3


@pytest.mark.alone
@on_both_loops
def test_a_stopped_sibling_keeps_nobody_waiting(listener, connect, loop):
    with fleet(3, [listener], loop=loop) as board:
        stopped, *_ = board.workers()
        os.kill(stopped.pid, signal.SIGSTOP)
        at = time.monotonic()
        by_worker = collections.Counter(
            accepted_by(client) for client in [connect(listener) for _ in range(100)]
        )
        # Before its silence is noticed: they were not kept until then.
        assert time.monotonic() - at < SILENT
        assert set(by_worker) == {1, 2}
        assert max(by_worker.values()) <= 60


@pytest.mark.alone
def test_a_draining_sibling_leaves_its_share_to_the_others(listener, connect):
    with fleet(3, [listener]) as board:
        draining, *_ = board.workers()
        os.kill(draining.pid, signal.SIGTERM)
        until(lambda: board.workers()[0].state is State.DRAINING)
        by_worker = collections.Counter(
            accepted_by(client) for client in [connect(listener) for _ in range(60)]
        )
        assert set(by_worker) == {1, 2}
        assert max(by_worker.values()) <= 33


# The ceiling


@on_both_loops
def test_full_workers_leave_connections_in_the_backlog(listener, connect, loop):
    with fleet(2, [listener], loop=loop, ceiling=5) as board:
        clients = [connect(listener) for _ in range(14)]
        until(lambda: sum(map(is_greeted, clients)) == 10)
        assert [worker.connections for worker in board.workers()] == [5, 5]

        greeted = [client for client in clients if is_greeted(client)]
        for client in greeted[:4]:
            client.close()
        waiting = [client for client in clients if client not in greeted]
        until(lambda: all(map(is_greeted, waiting)))
        assert [worker.connections for worker in board.workers()] == [5, 5]


@on_both_loops
def test_a_full_worker_says_so_once(listener, connect, loop, caplog):
    async def main() -> None:
        async with greeting(listener, ceiling=2) as (acceptor, connections):
            acceptor.resume()
            for _ in range(3):
                clients = [connect(listener) for _ in range(3)]
                await true(lambda: len(connections) == 2)
                for client in clients:
                    client.close()
                await true(lambda: not connections)

    run(loop, main())
    assert caplog.text.count("as many as worker_connections allows") == 1


# One worker on its own


def test_the_backlog_stays_what_it_was(connect):
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells the backlog of a socket")

    async def main(listener: socket.socket) -> None:
        async with greeting(listener) as (acceptor, connections):
            acceptor.resume()
            connect(listener)
            await true(lambda: len(connections) == 1)
            info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            assert struct.unpack_from("8B24I", info)[8 + 5] == 77  # tcpi_sacked

    with socket.create_server(("127.0.0.1", 0), backlog=77) as listener:
        listener.setblocking(False)
        run("uvloop", main(listener))


@on_both_loops
def test_accepted_sockets_do_not_delay_small_writes(listener, connect, loop):
    async def main() -> None:
        async with greeting(listener) as (acceptor, connections):
            acceptor.resume()
            connect(listener)
            await true(lambda: connections)
            (connection,) = connections
            accepted = connection.transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(loop, main())


@on_both_loops
def test_a_pause_leaves_the_backlog_and_its_drain_takes_it(listener, connect, loop):
    async def main() -> None:
        async with greeting(listener, ceiling=2) as (acceptor, connections):
            acceptor.resume()
            connect(listener)
            await true(lambda: len(connections) == 1)
            acceptor.pause()
            clients = [connect(listener) for _ in range(5)]
            await asyncio.sleep(0.05)
            assert len(connections) == 1
            assert acceptor.drain_backlog() == 5
            await true(lambda: len(connections) == 6)
            assert [accepted_by(client) for client in clients] == [0] * 5

    run(loop, main())


# Python 3.10's own transport does not hear that its handshake failed.
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
@on_both_loops
def test_a_failed_tls_handshake_frees_its_place_quietly(listener, connect, loop):
    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: complaints.append(context)
        )
        server, trusting = tls_contexts()
        async with greeting(listener, ceiling=1, certificates=server) as (
            acceptor,
            connections,
        ):
            acceptor.resume()
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", b""):
                client = connect(listener)
                client.sendall(garbage)
                if not garbage:
                    await true(lambda: acceptor.open == 1)
                    client.close()
                await true(lambda: acceptor.open == 0)
            address = listener.getsockname()
            reader, writer = await asyncio.open_connection(
                *address, ssl=trusting, server_hostname="localhost"
            )
            assert await reader.read(3) == b"000"
            writer.close()
            await true(lambda: not connections)

    run(loop, main())
    assert not complaints


@on_both_loops
def test_no_file_descriptor_left_neither_spins_nor_stops(
    listener, connect, loop, caplog
):
    """Also with a real limit, that of this process, which is put back."""
    looks = 0

    class Counting(Acceptor):
        def readable(self, watched: Any) -> None:
            nonlocal looks
            looks += 1
            super().readable(watched)

    async def main() -> None:
        async with greeting(listener, kind=Counting) as (acceptor, connections):
            clients = [connect(listener) for _ in range(4)]
            with no_more_files():
                acceptor.resume()
                await true(lambda: looks >= 3)
                assert not connections
                before = looks
                await asyncio.sleep(0.5)
                assert looks - before <= 5
            await true(lambda: len(connections) == len(clients))

    run(loop, main())
    (line,) = [r.message for r in caplog.records if "Cannot accept" in r.message]
    assert "ulimit -n" in line


@on_both_loops
def test_a_stalled_handshake_does_not_hold_a_stop(
    listener, connect, loop, monkeypatch, caplog
):
    monkeypatch.setattr(handshakes, "HANDSHAKE_TIMEOUT", 3600.0)
    monkeypatch.setattr(acceptor_module, "LAST_HANDSHAKES", 0.2)

    async def main() -> None:
        server, _ = tls_contexts()
        async with greeting(listener, certificates=server) as (acceptor, _connections):
            acceptor.resume()
            silent, begun = connect(listener), connect(listener)
            begun.sendall(b"\x16\x03\x01")
            await true(lambda: acceptor.open == 2)
            acceptor.close()
            await true(lambda: acceptor.open == 0)
            for client in silent, begun:
                await true(partial(has_ended, client))

    run(loop, main())
    assert not [r for r in caplog.records if r.levelno > logging.DEBUG]


@on_both_loops
@pytest.mark.parametrize("kind", ["tcp", "ipv6", "unix"])
def test_the_kernel_asks_silent_peers_whether_they_live(tmp_path, loop, kind):
    async def main() -> None:
        with listening(kind, tmp_path) as listener:
            async with greeting(listener) as (acceptor, connections):
                acceptor.resume()
                with socket.socket(listener.family) as client:
                    client.connect(listener.getsockname())
                    await true(lambda: connections)
                    (connection,) = connections
                    accepted = connection.transport.get_extra_info("socket")
                    assert probes(accepted) == (1, 60, 15, 4) or kind == "unix"

    run(loop, main())


def test_probes_that_were_set_up_already_stay_as_they_are(listener):
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)
    before = probes(listener)

    async def main() -> None:
        async with greeting(listener):
            assert probes(listener) == before

    run("asyncio", main())


def test_a_dead_listener_does_not_spin(listener, caplog):
    async def main() -> None:
        async with greeting(listener) as (acceptor, _connections):
            acceptor.resume()
            listener.shutdown(
                socket.SHUT_RDWR
            )  # readable from now on, never acceptable
            await true(lambda: "Cannot accept" in caplog.text)

    run("asyncio", main())
    assert os.strerror(errno.EINVAL) in caplog.text


# Tools


@contextlib.asynccontextmanager
async def greeting(
    listener: socket.socket,
    *,
    kind: type[Acceptor] = Acceptor,
    certificates: Certificates | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Acceptor, Connections]]:
    """One worker's acceptor on the running loop, and its connections."""
    connections = Connections(lambda _count: acceptor.connection_closed())
    acceptor = kind(
        Handshakes(lambda: Greeter(connections, 0), certificates=certificates),
        [listener],
        connections=connections.__len__,
        **options,
    )
    try:
        yield acceptor, connections
    finally:
        acceptor.close()
        for connection in connections:
            connection.transport.abort()
        await true(lambda: not acceptor.open)


def run(loop: str, main: Coroutine[Any, Any, None]) -> None:
    with contextlib.closing(LOOPS[loop]()) as new_loop:
        new_loop.run_until_complete(asyncio.wait_for(main, 30))


def probes(sock: Any) -> tuple[int, ...]:
    """Return whether silent peers are probed, after how long, how often."""
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    if sock.family == socket.AF_UNIX:
        return ()
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(sock.getsockopt(socket.IPPROTO_TCP, name) for name in names),
    )


def has_ended(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:  # what it sent was not read
        return True


async def true(fact: Callable[[], object]) -> None:
    while not fact():
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def tls_contexts() -> tuple[Certificates, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Certificates(lambda: server, Files()), client


@pytest.fixture(autouse=True)
def _log_everything(caplog) -> None:
    caplog.set_level(logging.DEBUG, "uvicorn.error")
