"""What real apps answer, seen by their clients, and what becomes of clients that leave.

The apps are FastAPI's and a WSGI app; `http/test_protocol_departures.py` and
`http/test_protocol_responses.py` have every kind of each.
"""

from __future__ import annotations

import re
import socket
import struct
from itertools import product

import httpx
import pytest

from tests.conftest import Serve
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, wait_for

FASTAPI = """
import asyncio
from pathlib import Path

from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

app = FastAPI()
live = 0

def say(what):
    print(what, flush=True)

def session():
    try:
        yield
        say("committed")
    except BaseException:
        say("rolled back")
        raise

@app.post("/order")
async def order(tasks: BackgroundTasks, _=Depends(session)):
    say("ordering")
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    tasks.add_task(say, "mailed")
    return {}

@app.api_route("/events", methods=["GET", "HEAD"])
async def events():
    async def body():
        global live
        live += 1
        try:
            yield ": hello"
            await asyncio.Event().wait()
        finally:
            live -= 1
    return StreamingResponse(body(), media_type="text/event-stream")

@app.get("/live")
async def count():
    return live

@app.delete("/item")
async def item():
    return JSONResponse({"deleted": True}, status_code=204)

@app.get("/split")
async def split():
    return PlainTextResponse("x", headers={"x-note": "a\\r\\nset-cookie: b"})

@app.get("/proxied")
async def proxied():
    return PlainTextResponse("x", headers={"Server": "theirs", "Date": "then"})
"""

WSGI = """
def app(environ, start_response):
    path = environ["PATH_INFO"]
    status = "204 No Content" if path == "/empty" else "200 OK"
    headers = [("X-Note", "a\\r\\nb")] if path == "/split" else []
    if path.startswith("/length"):
        headers += [("Content-Length", path.rpartition("/")[2])]
    write = start_response("1000 What" if path == "/status" else status, headers)
    if path.startswith("/length/write"):
        for _ in range(100):
            write(b"piece")
        return []
    return (b"piece" for _ in range(100))
"""

LOGGED = "--access-logfile", "-", "--access-logformat", "%(m)s %(U)s %(s)s %(B)s"


def leave(service: Service, request: bytes, until: bytes = b"") -> None:
    """Send a request, read until something comes, and go."""
    with service.connect() as client:
        client.sendall(request)
        received = b""
        while until not in received:
            received += client.recv(4096)


def logged(service: Service, line: str) -> None:
    wait_for(lambda: line in service.out.splitlines(), f"{line!r} in the access log")


def request(line: str) -> bytes:
    return f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()


def test_what_a_client_set_going_is_done_when_it_has_left(serve: Serve) -> None:
    service = serve(FASTAPI, *LOGGED)
    with service.connect() as client:
        client.sendall(request("POST /order"))
        wait_for(lambda: "ordering" in service.out, "the request in the app")
        reset = struct.pack("ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    logged(service, "POST /order 499 0")
    (service.directory / "go").touch()
    wait_for(lambda: "mailed" in service.out, "the background task")
    wait_for(lambda: "committed" in service.out, "the dependency's commit")
    assert "rolled back" not in service.out
    assert service.out.count("/order") == 1
    assert "ERROR" not in service.log


def test_no_silent_stream_outlives_its_client(serve: Serve) -> None:
    service = serve(FASTAPI, *LOGGED)
    for _ in range(5):
        leave(service, request("GET /events"), until=b"hello")
    wait_for(lambda: service.get("/live").text == "0", "the streams' ends")
    wait_for(lambda: service.out.count("GET /events 200 7") == 5, "access lines")
    assert service.stop() == 0
    assert "Cancelling" not in service.log


def test_head_of_an_event_stream_leaves_the_connection_free(serve: Serve) -> None:
    service = serve(FASTAPI)
    with service.connect() as client:
        client.sendall(request("HEAD /events"))
        assert client.recv(4096).endswith(b"\r\n\r\n")
        client.sendall(request("GET /live"))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
    wait_for(lambda: service.get("/live").text == "0", "the stream's end")


def test_a_204_with_a_body_costs_one_warning_and_no_connection(serve: Serve) -> None:
    service = serve(FASTAPI, *LOGGED)
    with service.connect() as client:
        for _ in range(3):
            client.sendall(request("DELETE /item"))
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 204 ")
            assert answer.endswith(b"\r\n\r\n")
    wait_for(lambda: service.out.count("DELETE /item 204 0") == 3, "access lines")
    assert len(re.findall("DELETE '/item' with status 204", service.log)) == 1
    assert "Traceback" not in service.log


def test_a_head_that_cannot_be_sent_is_a_500(serve: Serve) -> None:
    service = serve(FASTAPI)
    assert service.get("/split").status_code == 500
    service.wait_log("GET '/split' cannot be sent: the value of its header b'x-note'")


def test_an_app_that_proxies_sends_its_own_server_and_date(serve: Serve) -> None:
    conf = """
    def post_request(worker, req, environ, resp):
        print(sorted(n.lower() for n, _ in resp.headers), flush=True)
    """
    service = serve(FASTAPI, conf=conf)
    headers = service.get("/proxied").headers
    assert headers.get_list("server") == ["theirs"]
    assert headers.get_list("date") == ["then"]
    sent = "['content-length', 'content-type', 'date', 'server']"
    wait_for(lambda: sent in service.out, "headers as sent, in the hook")


BUFFER = """
async def app(scope, receive, send):
    buffer = bytearray(50_000)
    view = memoryview(buffer).cast("I")
    await send({"type": "http.response.start", "status": 200})
    for number in range(100):
        buffer[:] = bytes([number]) * len(buffer)
        await send({"type": "http.response.body", "body": view, "more_body": True})
    buffer[:] = bytes(len(buffer))
    await send({"type": "http.response.body"})
"""


def test_a_buffer_that_is_filled_anew_arrives_over_tls(
    serve: Serve, certificates: Certificates
) -> None:
    """Whole and well framed, to a client that begins to read late."""
    service = serve(BUFFER, *certificates.arguments)
    with certificates.connect(service.port, certificates.client()) as client:
        client.settimeout(PATIENCE)
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(65536), b""))
    body = received.partition(b"\r\n\r\n")[2]
    assert body == b"".join(bytes([number]) * 50_000 for number in range(100))


@pytest.mark.parametrize("path", ["/split", "/status"])
def test_a_wsgi_head_that_cannot_be_sent_is_a_500(serve: Serve, path: str) -> None:
    """And its thread is free again: there is one."""
    service = serve(WSGI, "--threads", "1", env={"UVICORN_INTERFACE": "wsgi"})
    for _ in range(2):
        assert service.get(path).status_code == 500
    service.wait_log(f"GET '{path}' cannot be sent", 2)
    assert service.get("/").text == "piece" * 100


def test_a_wsgi_app_may_send_a_body_where_none_may_be(serve: Serve) -> None:
    service = serve(WSGI, "--threads", "1", env={"UVICORN_INTERFACE": "wsgi"})
    with service.connect() as client:
        for line in "GET /empty", "HEAD /", "GET /empty":
            client.sendall(request(line))
            assert client.recv(4096).endswith(b"\r\n\r\n")
    service.wait_log("GET '/empty' with status 204")
    assert "Traceback" not in service.log


def test_a_wsgi_body_ends_at_its_content_length(serve: Serve) -> None:
    service = serve(WSGI, "--threads", "1", env={"UVICORN_INTERFACE": "wsgi"})
    with httpx.Client(timeout=PATIENCE, base_url=service.url) as client:
        for how, length in product(("length", "length/write"), (0, 3, 5, 499, 500)):
            path, body = f"/{how}/{length}", ("piece" * 100)[:length]
            assert [client.get(path).text for _ in range(2)] == [body, body]
            assert client.head(path).headers["content-length"] == str(length)
            assert service.log.count(f"longer body to GET {path!r}") == (length < 500)
    assert "Traceback" not in service.log
