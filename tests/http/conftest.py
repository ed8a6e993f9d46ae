"""A real uvicorn server in a thread, with our protocol, and a client of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from http.client import HTTPResponse
from typing import Any

import pytest
import uvicorn

from uvworker.http import deadlines
from uvworker.http.protocol import HTTPProtocol

DEADLINE = 10.0  # seconds until a fact that was waited for counts as missing


class Answer:
    """A response as the standard library reads it."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.names = [name.lower() for name, _ in response.getheaders()]
        self.body = response.read()

    @property
    def closing(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """One connection; it reads as many bytes as a response has, and not one more."""

    def __init__(self, address: Any, family: int = socket.AF_INET) -> None:
        self.sock = socket.socket(family)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(address)
        self._file = self.sock.makefile("rb", buffering=0)

    def send(self, data: bytes) -> Client:
        self.sock.sendall(data)
        return self

    def flood(self) -> None:
        """Send until that fails; `flooded` bytes went out."""
        self.flooded = 0
        while True:
            self.flooded += self.sock.send(b"a" * 65536)

    def answer(self, method: str = "GET") -> Answer:
        return Answer(self.response(method))

    def response(self, method: str = "GET") -> HTTPResponse:
        response = HTTPResponse(self, method=method)  # type: ignore[arg-type]
        response.begin()
        return response

    def makefile(self, *_: Any) -> Any:
        """Lend the file to an `HTTPResponse`, which would close its own."""
        return _Lent(self._file)

    def rest(self) -> bytes:
        """Read until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: self.sock.recv(65536), b""))
        return b""

    def line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self.sock.recv(1)
        return line

    def is_open(self) -> bool:
        self.sock.setblocking(False)
        try:
            return self.sock.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(DEADLINE)

    def reset(self) -> None:
        """Leave with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        self._file.close()
        self.sock.close()


class _Lent:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return bytes(self._file.readall())
        parts = b""
        while len(parts) < size:
            part = self._file.read(size - len(parts))
            if not part:
                break
            parts += part
        return parts

    read1 = read

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readline(self, _limit: int = -1) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = self._file.read(1)
            if not byte:
                break
            line += byte
        return line

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Server(uvicorn.Server):
    """uvicorn's, looking more often whether it should end: there are many tests."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await asyncio.sleep(0.01)


class Service:
    """A server and the clients that were made for it."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self.server = server
        self.listener = listener
        self.clients: list[Client] = []
        self.thread = threading.Thread(target=server.run, args=([listener],))

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def connect(self) -> Client:
        client = Client(self.listener.getsockname(), self.listener.family)
        self.clients.append(client)
        return client

    def ask(self, request: bytes, method: str = "GET") -> Answer:
        return self.connect().send(request).answer(method)

    def do(self, function: Any) -> None:
        """Call *function* for each connection, on the loop."""
        for connection in list(self.server.server_state.connections):
            connection.loop.call_soon_threadsafe(function, connection)

    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    def start(self) -> None:
        self.thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.server.should_exit = True
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()


def until(fact: Any) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + DEADLINE
    while not fact():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.005)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    return request.param


@pytest.fixture
def quick(monkeypatch):
    """Let the clock tick ten times a second, so that no test waits for seconds."""
    monkeypatch.setattr(deadlines, "PERIOD", 0.1)


@pytest.fixture
def serve():
    """Start servers: `serve(app, limits=..., loop=..., ws=...)`."""
    services: list[Service] = []

    def start(app, *, listener=None, http=None, config=None, **policy) -> Service:
        listener = listener or socket.create_server(("127.0.0.1", 0))
        settings: dict[str, Any] = {
            "http": http or HTTPProtocol.configured(**policy),
            "proxy_headers": False,
            "access_log": False,
            "lifespan": "off",
            "log_config": None,
            "timeout_keep_alive": 30,
            "timeout_graceful_shutdown": 1,
            "loop": "asyncio",
            "ws": "websockets-sansio",  # the default of uvicorn 0.36 is deprecated
            **(config or {}),
        }
        service = Service(Server(uvicorn.Config(app, **settings)), listener)
        services.append(service)
        service.start()
        return service

    yield start
    for service in services:
        service.stop()
