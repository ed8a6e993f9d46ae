"""Files that an app names by their path: `http.response.pathsend`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from uvworker.http import files, service
from uvworker.http.limits import Limits

from .apps import body, start
from .conftest import DEADLINE, Client, until

SIZE = 20_000_000  # more than a kernel holds for a client that does not read
CONTENT = os.urandom(1 << 20) * (SIZE >> 20) + b"its end"

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


def pathsend(path: object) -> dict[str, object]:
    return {"type": "http.response.pathsend", "path": str(path)}


def sending(path: Path, *headers: tuple[bytes, bytes], status: int = 200):
    """Make an app that answers with a file, and notes what becomes of it."""

    async def app(_scope, _receive, send) -> None:
        app.ends = None
        await send(start(status, *headers))
        try:
            await send(pathsend(path))
        except BaseException as error:
            app.ends = type(error)
            raise
        app.ends = "sent"

    app.ends = None
    return app


@pytest.fixture(params=[True, False], ids=["sendfile", "read"])
def ways(request, loop):
    """Return the ways that a file can go."""
    return {"loop": loop, "sendfile": request.param}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def serve_file(serve, ways):
    """Serve an app, in one of the ways."""

    def start_it(app, **policy):
        config = {"loop": ways["loop"]}
        return serve(app, config=config, sendfile=ways["sendfile"], **policy)

    return start_it


def open_files() -> list[str]:
    """Return what each descriptor of this process is open on."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.append(str(fd.readlink()))
    return found


def copies() -> list[str]:
    """Return the sockets that this process has more than one descriptor on."""
    found = Counter(name for name in open_files() if name.startswith("socket:"))
    return [name for name, count in found.items() if count > 1]


@pytest.fixture(autouse=True)
def nothing_left_open(file: Path) -> Iterator[None]:
    yield
    until(lambda: not [name for name in open_files() if str(file) in name])
    until(lambda: not copies())


@pytest.mark.parametrize("size", [0, 1, files.READ, len(CONTENT)])
def test_a_file_is_the_body_and_the_next_request_is_answered(serve_file, file, size):
    os.truncate(file, size)
    client = serve_file(sending(file, length(size))).connect()
    for _ in range(2):
        answer = client.send(GET).answer()
        assert answer.status == 200
        assert answer.body == CONTENT[:size]


@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
def test_without_content_length_it_goes_in_one_chunk(serve_file, file, size):
    os.truncate(file, size)
    client = serve_file(sending(file)).connect()
    for _ in range(2):
        answer = client.send(GET).answer()
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == CONTENT[:size]


@pytest.mark.parametrize("headers", [[], [length(len(CONTENT))]])
def test_a_client_of_http_1_0_gets_it_too(serve_file, file, headers):
    answer = serve_file(sending(file, *headers)).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.body == CONTENT


def test_pipelined_requests_are_answered_in_order(serve_file, file):
    client = serve_file(sending(file, length(len(CONTENT)))).connect()
    client.send(GET * 3)
    assert [client.answer().body == CONTENT for _ in range(3)] == [True] * 3


def test_what_was_written_before_comes_before(serve_file, file):
    """A body of the app's own, which the transport still has when the file begins."""
    before = b"x" * 5_000_000

    async def app(_scope, _receive, send):
        await send(start(200, length(len(before) + len(CONTENT))))
        await send(body(before, more=True))
        await send(pathsend(file))

    # An app has one length for all; that of the file has to be what is left of it.
    assert serve_file(app).ask(GET).body == before + CONTENT


def test_head_gets_the_head_alone(serve_file, file):
    client = serve_file(sending(file, length(len(CONTENT)))).connect()
    head = client.send(GET.replace(b"GET", b"HEAD")).answer("HEAD")
    assert head.headers["content-length"] == str(len(CONTENT))
    assert client.send(GET).answer().body == CONTENT


def test_a_status_without_body_gets_none(serve_file, file):
    client = serve_file(sending(file, status=204)).connect()
    for _ in range(2):
        assert client.send(GET).answer().body == b""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "it is no regular file"),
        (os.mkfifo, "it is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"short"), "it has 5 bytes"),
        (lambda path: path.write_bytes(CONTENT + b"more"), "bytes, and content-length"),
    ],
    ids=["missing", "directory", "fifo", "device", "loop", "shorter", "longer"],
)
def test_what_cannot_be_sent_is_a_500_and_one_line(
    serve_file, tmp_path, caplog, make, said
):
    records = []
    path = tmp_path / "it"
    make(path)
    app = sending(path, length(len(CONTENT)))
    client = serve_file(app, record=records.append).connect()
    answer = client.send(GET).answer()
    assert (answer.status, answer.closing) == (500, True)
    [line] = caplog.messages
    assert repr(str(path)) in line
    assert said in line
    until(lambda: records)
    assert [(each.status, each.sent) for each in records] == [(500, 21)]
    until(lambda: app.ends)
    assert issubclass(app.ends, OSError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_500(serve_file, file, caplog):
    file.chmod(0)
    assert serve_file(sending(file, length(len(CONTENT)))).ask(GET).status == 500
    assert "Permission denied" in caplog.text


@pytest.mark.parametrize("path", ["nul\0byte", "", "a" * 5000])
def test_a_path_that_is_none_is_a_500(serve_file, path, caplog):
    assert serve_file(sending(path, length(1))).ask(GET).status == 500
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("version", "headers"),
    [(b"1.0", []), (b"1.1", []), (b"1.1", [length(len(CONTENT))])],
    ids=["until the end", "chunked", "content-length"],
)
def test_a_file_that_shrinks_is_cut(serve_file, file, caplog, version, headers):
    records = []
    client = serve_file(sending(file, *headers), record=records.append).connect()
    client.send(GET.replace(b"1.1", version))
    received = client.sock.recv(1000)
    os.truncate(file, 1_000_000)
    # Nothing but a reset tells a client which was told no length.
    reset = pytest.raises(ConnectionResetError)
    with reset if version == b"1.0" else contextlib.nullcontext():
        while more := client.sock.recv(1 << 20):
            received += more
    assert len(received) < len(CONTENT)
    assert not received.endswith(b"0\r\n\r\n")
    until(lambda: records)
    [line] = caplog.messages
    assert repr(str(file)) in line
    assert "bytes early" in line
    assert [each.status for each in records] == [200]
    assert records[0].sent < len(CONTENT)


def test_a_file_that_grows_meanwhile_ends_where_it_did(serve_file, file):
    client = serve_file(sending(file, length(len(CONTENT)))).connect()
    response = client.send(GET).response()
    with file.open("ab") as more:
        more.write(b"more")
    assert response.read() == CONTENT


def test_a_replaced_file_is_sent_as_it_was(serve_file, file):
    client = serve_file(sending(file, length(len(CONTENT)))).connect()
    response = client.send(GET).response()
    file.unlink()
    file.write_bytes(b"another one")
    assert response.read() == CONTENT


def test_the_record_has_the_bytes_of_the_file(serve_file, file):
    records = []
    service = serve_file(sending(file), record=records.append)
    service.ask(GET)
    until(lambda: records)
    assert [(each.status, each.sent) for each in records] == [(200, len(CONTENT))]


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_lets_go_of_the_file(serve_file, file, caplog, leave):
    records = []
    app = sending(file, length(len(CONTENT)))
    service = serve_file(app, record=records.append)
    client = service.connect()
    client.send(GET).sock.recv(1000)
    getattr(client, leave)()
    until(lambda: app.ends)
    assert app.ends == "sent"  # as with a body: ASGI 2.3 tells nobody
    until(lambda: not service.connections())
    [record] = records
    assert (record.status, record.sent < len(CONTENT)) == (200, True)
    assert not caplog.messages


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_client_that_takes_nothing_is_dropped(serve_file, file, monkeypatch):
    monkeypatch.setattr(service, "WRITE_STALL", 0.5)
    app = sending(file, length(len(CONTENT)))
    server = serve_file(app)
    server.connect().send(GET).sock.recv(1000)
    until(lambda: app.ends)
    until(lambda: not server.connections())


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_client_that_reads_slowly_gets_all_of_it(serve_file, file, monkeypatch):
    monkeypatch.setattr(service, "WRITE_STALL", 1)
    client = serve_file(sending(file, length(len(CONTENT)))).connect()
    response = client.send(GET).response()
    received = b""
    while len(received) < 1_500_000:
        received += response.read(100_000)
        threading.Event().wait(0.1)  # a slow client is what is tested
    assert received + response.read() == CONTENT


def test_a_slow_client_holds_up_nobody(serve_file, file):
    service = serve_file(sending(file, length(len(CONTENT))))
    service.connect().send(GET).sock.recv(1000)
    assert service.ask(GET).body == CONTENT


def test_a_slow_client_costs_no_memory(serve_file, file):
    app = sending(file, length(len(CONTENT)))
    service = serve_file(app)
    service.connect().send(GET).sock.recv(1000)
    [connection] = service.connections()
    assert connection.transport.get_write_buffer_size() <= 2 * files.READ
    assert app.ends is None


@pytest.mark.usefixtures("quick")
def test_request_timeout_cuts_it(serve_file, file):
    app = sending(file, length(len(CONTENT)))
    service = serve_file(app, limits=Limits(request_timeout=0.5))
    client = service.connect().send(GET)
    until(lambda: app.ends)
    assert app.ends is asyncio.CancelledError
    assert len(client.rest()) < len(CONTENT)


def test_a_stop_cuts_it(serve_file, file):
    app = sending(file, length(len(CONTENT)))
    service = serve_file(app)
    client = service.connect().send(GET)
    client.sock.recv(1000)
    service.do(lambda connection: connection.cut())
    assert len(client.rest()) < len(CONTENT)
    until(lambda: app.ends)


def test_a_drain_lets_it_arrive(serve_file, file):
    service = serve_file(sending(file, length(len(CONTENT))))
    client = service.connect()
    response = client.send(GET).response()
    service.do(lambda connection: connection.shutdown())
    assert response.read() == CONTENT


def test_an_app_that_gives_up_lets_go_of_the_file(serve_file, file):
    given_up = threading.Event()

    async def app(_scope, _receive, send):
        await send(start(200, length(len(CONTENT))))
        try:
            await asyncio.wait_for(send(pathsend(file)), 0.1)
        finally:
            given_up.set()

    client = serve_file(app).connect().send(GET)
    assert given_up.wait(DEADLINE)
    assert len(client.rest()) < len(CONTENT)


def test_nothing_else_may_be_sent_meanwhile(serve_file, file, caplog):
    async def app(_scope, _receive, send):
        await send(start(200, length(len(CONTENT))))
        sent = asyncio.ensure_future(send(pathsend(file)))
        await asyncio.sleep(0)
        try:
            for message in body(), pathsend(file), start():
                with pytest.raises(RuntimeError):
                    await send(message)
        finally:
            await sent

    assert serve_file(app).ask(GET).body == CONTENT
    assert not caplog.messages


@pytest.mark.parametrize("said", ["Invalid argument", "Function not implemented"])
def test_where_the_file_system_has_no_sendfile_it_is_read(
    serve, loop, file, monkeypatch, said
):
    numbers = {os.strerror(number): number for number in files.NOT_SENDABLE}

    def refuse(*_arguments):
        raise OSError(numbers[said], said)

    monkeypatch.setattr(os, "sendfile", refuse)
    service = serve(sending(file, length(len(CONTENT))), config={"loop": loop})
    assert service.ask(GET).body == CONTENT


def test_a_file_that_cannot_be_read_any_more_is_cut(
    serve, loop, file, monkeypatch, caplog
):
    def fail(*_arguments):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "sendfile", fail)
    service = serve(sending(file, length(len(CONTENT))), config={"loop": loop})
    client: Client = service.connect().send(GET)
    assert client.rest().endswith(b"\r\n\r\n")
    until(lambda: caplog.messages)
    [line] = caplog.messages
    assert "Input/output error" in line


def test_a_unix_socket_has_it_too(serve_file, file, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    service = serve_file(sending(file, length(len(CONTENT))), listener=listener)
    assert service.ask(GET).body == CONTENT
