"""Settings that are kept, seen from outside: what a client gets, and what a log says.

Whole rooms of behaviour have files of their own; `config/test_promises.py` says where
the effect of each setting is seen.
"""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import HELLO, Serve
from tests.tools.apps import IMPORTED, SAY, SCOPE
from tests.tools.service import PATIENCE, Service, gunicorn_lacks, wait_for

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def exchange(service: Service, request: bytes) -> tuple[int, bytes]:
    """Send *request* and return the status and the body of the response."""
    with service.connect() as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def told(service: Service, *lines: str) -> Any:
    """Return what the app is told of a request with these further lines."""
    head = "\r\n".join(("GET / HTTP/1.1", "Host: x", "Connection: close", *lines))
    status, body = exchange(service, f"{head}\r\n\r\n".encode())
    assert status == 200, body
    return json.loads(body)


# Connections


def test_worker_connections_is_a_ceiling(serve: Serve) -> None:
    service = serve(HELLO, "--worker-connections", "1", "--keep-alive", "60")
    with service.connect() as first, service.connect() as second:
        first.sendall(GET.replace(b"close", b"keep-alive"))
        assert first.recv(4096).startswith(b"HTTP/1.1 200")
        second.sendall(GET)
        second.settimeout(1.0)
        with pytest.raises(TimeoutError):
            second.recv(1)
        first.close()
        second.settimeout(PATIENCE)
        assert second.recv(4096).startswith(b"HTTP/1.1 200")


def test_keepalive_is_how_long_a_connection_may_be_idle(serve: Serve) -> None:
    service = serve(HELLO, "--keep-alive", "1")
    with service.connect() as connection:
        connection.sendall(GET.replace(b"close", b"keep-alive"))
        assert b"connection: close" not in connection.recv(4096)
        assert connection.recv(4096) == b""


def test_keepalive_0_announces_the_close(serve: Serve) -> None:
    service = serve(HELLO, "--keep-alive", "0")
    assert service.get().headers["connection"] == "close"


LEFT = (
    SAY
    + """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    say("begun")
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
        say("left")
        await asyncio.sleep(4)  # longer than gunicorn's default, 3 s
        say("finished")
    except asyncio.CancelledError:
        say("cancelled")
        raise
"""
)


@gunicorn_lacks("asgi_disconnect_grace_period")
@pytest.mark.parametrize(
    ("arguments", "end"),
    [((), "finished"), (("--asgi-disconnect-grace-period", "0"), "cancelled")],
)
def test_only_a_grace_period_that_is_set_cancels_the_app_of_a_client_that_left(
    serve: Serve, arguments: tuple[str, ...], end: str
) -> None:
    service = serve(LEFT, *arguments)
    with service.connect() as connection:
        connection.sendall(GET)
        service.wait_said("begun")
    service.wait_said(end)
    assert len(service.said("finished")) + len(service.said("cancelled")) == 1


@gunicorn_lacks("websocket_max_message_size")
def test_websocket_max_message_size_closes_with_1009(serve: Serve) -> None:
    app = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(len(message["text"]))})
"""
    service = serve(app, "--websocket-max-message-size", "1000")
    with connect(f"ws://127.0.0.1:{service.port}/", open_timeout=PATIENCE) as websocket:
        websocket.send("a" * 1000)
        assert websocket.recv(PATIENCE) == "1000"
        websocket.send("a" * 1001)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@gunicorn_lacks("http_parser")
@pytest.mark.parametrize(("parser", "status"), [("fast", 400), ("python", 200)])
def test_http_parser_chooses_who_reads(serve: Serve, parser: str, status: int) -> None:
    """h11 takes any method, and httptools those that it knows."""
    service = serve(HELLO, "--http-parser", parser)
    assert exchange(service, GET.replace(b"GET", b"BREW"))[0] == status
    assert service.get().text == "Hello, world!"


# The request's head


@pytest.mark.parametrize(
    ("setting", "lines", "status"),
    [
        ("limit_request_line = 60", "GET /{} HTTP/1.1\r\n".format("a" * 60), 414),
        ("limit_request_fields = 8", "GET / HTTP/1.1\r\n" + "a: b\r\n" * 8, 431),
        (
            "limit_request_field_size = 60",
            "GET / HTTP/1.1\r\na: {}\r\n".format("b" * 60),
            431,
        ),
        ("", "GET / HTTP/1.1\r\na: b\r\n c\r\n", 400),
        ("permit_obsolete_folding = True", "GET / HTTP/1.1\r\na: b\r\n c\r\n", 200),
        ("", "GET / HTTP/1.2\r\n", 400),
        ("permit_unconventional_http_version = True", "GET / HTTP/1.2\r\n", 200),
        ("", "BREW / HTTP/1.1\r\n", 400),
        ("", "get / HTTP/1.1\r\n", 400),
        ("casefold_http_method = True", "get / HTTP/1.1\r\n", 200),
    ],
)
def test_a_head_is_taken_or_refused_as_the_settings_say(
    serve: Serve, setting: str, lines: str, status: int
) -> None:
    service = serve(SCOPE, conf=setting)
    request = f"{lines}Host: x\r\nConnection: close\r\n\r\n"
    assert exchange(service, request.encode())[0] == status
    assert service.get().status_code == 200


@pytest.mark.parametrize("value", ["drop", "dangerous"])
def test_header_map_says_what_becomes_of_underscores(serve: Serve, value: str) -> None:
    service = serve(SCOPE, "--header-map", value, "--forwarded-allow-ips", "192.0.2.1")
    names = dict(told(service, "X_Real_Ip: 192.0.2.2")["headers"])
    assert ("x_real_ip" in names) == (value == "dangerous")


def test_header_map_refuse_is_answered_400(serve: Serve) -> None:
    service = serve(SCOPE, "--header-map", "refuse")
    request = GET.replace(b"Host", b"X_Sly: 1\r\nHost")
    assert exchange(service, request)[0] == 400


# Who the client is


def test_secure_scheme_headers_are_the_ones_that_count(serve: Serve) -> None:
    service = serve(SCOPE, conf="secure_scheme_headers = {'X-SSL': 'yes'}")
    assert told(service, "X-SSL: yes")["scheme"] == "https"
    assert told(service, "X-Forwarded-Proto: https")["scheme"] == "http"


def test_script_name_and_path_info_are_forwarder_headers(serve: Serve) -> None:
    scope = told(serve(SCOPE), "SCRIPT_NAME: /a", "PATH_INFO: /b")
    assert (scope["root_path"], scope["path"]) == ("/a", "/a/b")


def test_forwarder_headers_are_the_ones_that_count(serve: Serve) -> None:
    service = serve(SCOPE, "--forwarder-headers", "X_MINE")
    scope = told(service, "SCRIPT_NAME: /a", "PATH_INFO: /a/b", "X_MINE: 1")
    assert (scope["root_path"], scope["path"]) == ("", "/")
    assert dict(scope["headers"])["x_mine"] == "1"


@gunicorn_lacks("root_path")
def test_root_path_is_in_front_of_the_path(serve: Serve) -> None:
    scope = told(serve(SCOPE, "--root-path", "/api"))
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/")


KEPT_NAME = """
import uvworker

class Worker(uvworker.UvicornWorker):
    CONFIG_KWARGS = {"root_path": "/api/"}
"""


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        pytest.param(
            {"args": ("--root-path", "/api/")}, "", marks=gunicorn_lacks("root_path")
        ),
        ({"env": {"UVICORN_ROOT_PATH": "/api/"}}, ""),
        ({"env": {"UVICORN_ROOT_PATH": "/api//"}}, ""),
        ({"env": {"UVICORN_ROOT_PATH": "api"}}, ""),
        ({"worker": "main.Worker"}, KEPT_NAME),
    ],
)
def test_a_root_path_begins_with_one_slash_and_ends_with_none(
    serve: Serve, arguments: dict[str, Any], source: str
) -> None:
    service = serve(source + SCOPE, *arguments.pop("args", ()), **arguments)
    scope = told(service)
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/")


@pytest.mark.parametrize("root", ["/", ""])
def test_a_root_path_of_one_slash_is_none(serve: Serve, root: str) -> None:
    scope = told(serve(SCOPE, env={"UVICORN_ROOT_PATH": root}))
    assert (scope["root_path"], scope["path"]) == ("", "/")


def test_a_script_name_that_ends_in_a_slash_doubles_none(serve: Serve) -> None:
    service = serve(SCOPE, "--forwarder-headers", "SCRIPT_NAME")
    headers = {"SCRIPT_NAME": "/api/"}
    scope = service.get("/api/x", headers=headers).json()
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/x")


# The process

OWNER = """
import json, os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    owner = json.dumps([os.getuid(), os.getgid(), os.getgroups()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": owner})
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change the user")
def test_initgroups_takes_all_groups_and_the_primary_one(serve: Serve) -> None:
    owner = ("--user", "nobody", "--group", "nogroup", "--initgroups", "--preload")
    service = serve(IMPORTED + OWNER, *owner)
    uid, gid, groups = service.get().json()
    assert uid != 0
    assert gid == groups[0] != 0


# Logs and metrics


def test_the_access_log_has_the_format_that_is_set(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(
        HELLO,
        *("--access-logfile", "access.log"),
        *("--access-logformat", "%(m)s %(U)s %(q)s %(s)s %(B)s %({x-id}i)s"),
    )
    service.get("/a?b", headers={"x-id": "7"})
    log = tmp_path / "access.log"
    wait_for(lambda: log.read_text() == "GET /a b 200 13 7\n", "the line")


LOGGER = """
from gunicorn.glogging import Logger
class logger_class(Logger): pass
"""


@pytest.mark.parametrize("http", ["auto", "h11"])
@pytest.mark.parametrize("conf", ["", LOGGER], ids=["gunicorns", "own"])
def test_an_atom_names_the_client_that_a_trusted_proxy_names(
    serve: Serve, tmp_path: Path, http: str, conf: str
) -> None:
    service = serve(
        HELLO,
        *("--access-logfile", "access.log"),
        *("--access-logformat", "%(h)s %({client_addr}e)s"),
        conf=conf,
        env={"UVICORN_HTTP": http},
    )
    service.get(headers={"x-forwarded-for": "203.0.113.9"})
    log = tmp_path / "access.log"
    wait_for(log.read_text, "the line")
    assert log.read_text() == "127.0.0.1 203.0.113.9\n"


@pytest.mark.parametrize("how", ["file", "dict", "json"])
def test_logconfig_says_where_access_lines_go(
    serve: Serve, tmp_path: Path, how: str
) -> None:
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"mine": {"format": "MINE %(message)s"}},
        "handlers": {
            "access": {
                "class": "logging.FileHandler",
                "filename": "mine.log",
                "formatter": "mine",
            },
            "console": {"class": "logging.StreamHandler"},
        },
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": ["console"]},
            "gunicorn.access": {
                "level": "INFO",
                "handlers": ["access"],
                "propagate": False,
            },
        },
    }
    if how == "file":
        (tmp_path / "log.ini").write_text(INI)
        conf = "logconfig = 'log.ini'"
    elif how == "json":
        (tmp_path / "log.json").write_text(json.dumps(config))
        conf = "logconfig_json = 'log.json'"
    else:
        conf = f"logconfig_dict = {config!r}"
    service = serve(HELLO, conf=conf, wait=0)
    service.wait_log("Application startup complete|Started server")
    service.wait_log("Listening at")
    service.get()
    log = tmp_path / "mine.log"
    wait_for(lambda: log.exists() and log.read_text(), "a line in mine.log")
    assert re.fullmatch(
        r'MINE 127\.0\.0\.1 .*"GET / HTTP/1\.1" 200 .*\n', log.read_text()
    )


INI = """
[loggers]
keys=root,gunicorn.error,gunicorn.access
[handlers]
keys=console,access
[formatters]
keys=mine
[logger_root]
level=INFO
handlers=console
[logger_gunicorn.error]
level=INFO
handlers=console
propagate=0
qualname=gunicorn.error
[logger_gunicorn.access]
level=INFO
handlers=access
propagate=0
qualname=gunicorn.access
[handler_console]
class=StreamHandler
args=(sys.stderr,)
[handler_access]
class=FileHandler
args=("mine.log",)
formatter=mine
[formatter_mine]
format=MINE %(message)s
"""


def test_statsd_counts_requests_without_an_access_log(serve: Serve) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(PATIENCE)
        host, port = statsd.getsockname()
        service = serve(HELLO, "--statsd-host", f"{host}:{port}")
        service.get()
        seen: set[bytes] = set()
        while not {b"gunicorn.requests", b"gunicorn.request.status.200"} <= seen:
            seen.add(statsd.recv(4096).partition(b":")[0])


def test_a_request_whose_client_left_is_counted_and_told_to_the_hook(
    serve: Serve, tmp_path: Path
) -> None:
    app = """
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 202, "headers": []})
        print("asked", flush=True)
        while (await receive())["type"] != "http.disconnect":
            pass
    """
    conf = """
def post_request(worker, req, environ, resp):
    print("post", req.path, resp.status_code, flush=True)
"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(PATIENCE)
        host, port = statsd.getsockname()
        log = "--access-logfile", "access.log", "--access-logformat", "%(U)s %(s)s"
        service = serve(app, "--statsd-host", f"{host}:{port}", *log, conf=conf)
        for number, path in enumerate(["/begun", "/silent"], 1):
            with service.connect() as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                wait_for(lambda n=number: service.out.count("asked") == n, "the app")
        wait_for(lambda: service.out.count("post") == 2, "the hook")
        counted: set[bytes] = set()
        while not {b"request.status.202", b"request.status.499"} <= counted:
            name = statsd.recv(4096).partition(b":")[0]
            counted.add(name.removeprefix(b"gunicorn."))
    posts = [line for line in service.out.splitlines() if line.startswith("post")]
    assert posts == ["post /begun 202", "post /silent 499"]
    lines = tmp_path / "access.log"
    wait_for(lambda: lines.read_text() == "/begun 202\n/silent 499\n", "the log")


def test_request_hooks_are_called_around_the_app(serve: Serve) -> None:
    conf = """
def pre_request(worker, req):
    print("pre", req.method, req.path, flush=True)

def post_request(worker, req, environ, resp):
    print("post", environ["QUERY_STRING"], resp.status, flush=True)
"""
    service = serve(HELLO, conf=conf)
    service.get("/a?b")
    assert service.stop() == 0
    assert service.out.splitlines() == ["pre GET /a", "post b 200 OK"]
