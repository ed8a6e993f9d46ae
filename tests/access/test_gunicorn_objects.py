"""The same line as gunicorn's own workers, and gunicorn's loggers and hooks fed."""

from __future__ import annotations

import importlib.util
import logging
import re
import signal
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gunicorn.config import Config, PostRequest
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from tests.conftest import Serve
from tests.tools.service import PATIENCE, wait_for
from uvworker.access.format import compile_format
from uvworker.access.gunicorn_objects import Hooked, Response
from uvworker.access.log import AccessLog
from uvworker.access.record import AccessRecord

WSGI = """
def app(environ, start_response):
    start_response("201 Created", [("Content-Type", "text/plain"), ("X-A", 'say "a"'),
                                   ("Content-Length", "13")])
    return [b"Hello, world!"] * (environ["REQUEST_METHOD"] != "HEAD")
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"Content-Type", b"text/plain"), (b"X-A", b'say "a"'),
                   (b"Content-Length", b"13")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        body = b"Hello, world!" * (scope["method"] != "HEAD")
        await send({"type": "http.response.body", "body": body})
"""
ANSWER = [
    (b"Content-Type", b"text/plain"),
    (b"X-A", b'say "a"'),
    (b"Content-Length", b"13"),
]
# All but the environ's value of a field sent twice, in which gunicorn's workers differ.
LINE = (
    "%(h)s|%(l)s|%(u)s|%(r)s|%(s)s|%(m)s|%(U)s|%(q)s|%(H)s|%(b)s|%(B)s|%(f)s|%(a)s|"
    "%({Host}i)s|%({x-b}i)s|%({x-A}o)s|%({content-type}o)s|%({nosuch}o)s|"
    "%({raw_uri}e)s|%({path_info}e)s|%({http_user_agent}e)s|%({nosuch}e)s|%(nosuch)s"
)
TIMES = " %(t)s|%(T)s|%(D)s|%(M)s|%(L)s|%(p)s|"
REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a%20b/%22?c=d&e=%0a HTTP/1.1\r\nHost: a\r\nX-B: 1\r\nX-B: two\r\n\r\n",
    b'GET /? HTTP/1.0\r\nUser-Agent: the "agent" \\ 99%\r\nReferer: \xe9\r\n\r\n',
    b"HEAD //x HTTP/1.1\r\nHost: a\r\nAuthorization: Basic dTpw\r\n\r\n",
    b"PURGE /x;y HTTP/1.1\r\nHost: a\r\nAuthorization: basic !\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer dTpw\r\n\r\n",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worker", "source"), [("sync", WSGI), ("asgi", ASGI), ("uvworker.Worker", ASGI)]
)
def test_the_line_is_that_of_gunicorns_own_worker(
    serve: Serve, tmp_path: Path, worker: str, source: str
) -> None:
    if worker == "asgi" and importlib.util.find_spec("gunicorn.asgi") is None:
        pytest.skip("this gunicorn has no asgi worker")
    log = tmp_path / "access.log"
    options = ["--access-logfile", str(log), "--access-logformat", LINE + TIMES]
    service = serve(source, *options, worker=worker, wait=0)
    for request in REQUESTS:
        send_raw(service.port, request)
    lines = wait_for(lambda: lines_of(log, len(REQUESTS)), "all access lines")

    ours = [compile_format(LINE + TIMES)(record_of(request)) for request in REQUESTS]
    assert [masked(line) for line in ours] == [masked(line) for line in lines]


@pytest.mark.slow
def test_usr1_under_load_loses_and_doubles_no_line(
    serve: Serve, tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    options = ["--access-logfile", str(log), "--access-logformat", "%(q)s"]
    service = serve(ASGI, "-w", "2", *options, wait=2)
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        for number in range(300):
            client.get(f"/?{number}")
            if number % 60 == 30:
                log.rename(tmp_path / f"old-{number:03}.log")
                service.kill(signal.SIGUSR1)
                wait_for(log.exists, "the log reopened")
    assert service.stop() == 0
    files = tmp_path.glob("*.log")
    lines = [line for path in files for line in path.read_text().splitlines()]
    assert sorted(int(line) for line in lines if line.isdigit()) == list(range(300))


def send_raw(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        while client.recv(65536):
            pass


def lines_of(path: Path, count: int) -> list[str] | None:
    lines = path.read_text().splitlines() if path.exists() else []
    return lines if len(lines) == count else None


def masked(line: str) -> str:
    """Return *line* with the digits of its last field, time and pid, as nines."""
    line, _, times = line.partition(" [")
    times = re.sub(r"[A-Z][a-z]{2}", "Mon", times)
    return line + " [" + re.sub(r"\d+(?=[|>])", "9", re.sub(r"\d", "9", times))


def record_of(raw: bytes, peer: tuple[str, int] | None = ("127.0.0.1", 5)) -> Any:
    """Read the raw request into a record by the shortest way."""
    first, *fields = raw.decode("latin-1").split("\r\n")[:-2]
    method, target, protocol = first.split(" ")
    pairs = [field.partition(": ") for field in fields]
    scope = {
        "type": "http",
        "method": method,
        "http_version": protocol[5:],
        "scheme": "http",
        "client": peer,
        "headers": [(n.lower().encode(), v.encode("latin-1")) for n, _, v in pairs],
    }
    sent = 0 if method == "HEAD" else 13
    return AccessRecord(scope, peer, 201, ANSWER, sent, 0.0012, target.encode())


@pytest.fixture
def gunicorn_logging() -> Iterator[None]:
    """Take off the process's `gunicorn.*` loggers what a test has put on them."""
    yield
    for name in ("gunicorn.access", "gunicorn.error"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()


def logger_of(logger_class: Any = Logger, **settings: Any) -> Any:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return logger_class(cfg)


@pytest.mark.usefixtures("gunicorn_logging")
@pytest.mark.parametrize("request_", REQUESTS)
def test_a_custom_logger_class_writes_the_same_line(
    request_: bytes, tmp_path: Path
) -> None:
    class Custom(Logger):  # type: ignore[misc]
        pass

    log = tmp_path / "access.log"
    logger = logger_of(Custom, accesslog=str(log), access_log_format=LINE)
    access_log = AccessLog(logger, "custom", LINE)
    assert access_log.record
    access_log.record(record_of(request_))
    assert log.read_text() == compile_format(LINE)(record_of(request_)) + "\n"


@pytest.mark.usefixtures("gunicorn_logging")
def test_a_custom_logger_class_gets_gunicorns_shapes() -> None:
    calls = []

    class Custom(Logger):  # type: ignore[misc]
        def access(self, *args: Any) -> None:
            calls.append(args)

    access_log = AccessLog(logger_of(Custom), "custom", LINE)
    assert access_log.record
    access_log.record(record_of(REQUESTS[1]))
    (response, request, environ, elapsed) = calls[0]
    assert (response.status, response.status_code) == ("201 Created", 201)
    assert response.headers == [(n.decode(), v.decode()) for n, v in ANSWER]
    assert response.sent == 13
    assert (request.method, request.version, request.scheme) == ("GET", (1, 1), "http")
    assert request.uri == "/a%20b/%22?c=d&e=%0a"
    assert (request.path, request.query) == ('/a b/"', "c=d&e=%0a")
    assert request.headers == [("HOST", "a"), ("X-B", "1"), ("X-B", "two")]
    assert request.remote_addr == ("127.0.0.1", 5)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["HTTP_X_B"] == "two"
    assert elapsed == timedelta(milliseconds=1.2)


@pytest.mark.usefixtures("gunicorn_logging")
def test_a_custom_logger_class_cannot_be_made_to_forge_a_line(tmp_path: Path) -> None:
    class Custom(Logger):  # type: ignore[misc]
        pass

    log = tmp_path / "access.log"
    logger = logger_of(Custom, accesslog=str(log), access_log_format="%(u)s %(U)s")
    access_log = AccessLog(logger, "custom", LINE)
    assert access_log.record
    forging = b"GET /%0aforged HTTP/1.1\r\nAuthorization: Basic YQpiOg==\r\n\r\n"
    access_log.record(record_of(forging))
    assert log.read_text() == r"a\nb /\nforged" + "\n"


@pytest.mark.usefixtures("gunicorn_logging")
def test_an_error_of_a_custom_logger_class_is_logged_and_goes_no_further(
    tmp_path: Path,
) -> None:
    class Custom(Logger):  # type: ignore[misc]
        def access(self, *_: Any) -> None:
            raise LookupError("mine")

    errors = tmp_path / "error.log"
    access_log = AccessLog(logger_of(Custom, errorlog=str(errors)), "custom", LINE)
    assert access_log.record
    access_log.record(record_of(REQUESTS[0]))
    assert "LookupError: mine" in errors.read_text()


@pytest.mark.usefixtures("gunicorn_logging")
def test_a_duration_of_days_is_not_cut_to_hours(tmp_path: Path) -> None:
    class Custom(Logger):  # type: ignore[misc]
        pass

    log = tmp_path / "access.log"
    line = "%(T)s %(D)s %(M)s %(L)s"
    logger = logger_of(Custom, accesslog=str(log), access_log_format=line)
    record = record_of(REQUESTS[0])
    record.duration = 200_000.25
    access_log = AccessLog(logger, "custom", line)
    assert access_log.record
    access_log.record(record)
    assert log.read_text() == "200000 200000250000 200000250 200000.250000\n"
    assert log.read_text() == compile_format(line)(record) + "\n"


@pytest.mark.usefixtures("gunicorn_logging")
def test_json_is_refused_where_the_logger_class_writes_its_own_lines() -> None:
    class Custom(Logger):  # type: ignore[misc]
        def access(self, *_: Any) -> None:
            pass

    with pytest.raises(ValueError, match=r"access_log_json: logger_class Custom"):
        AccessLog(logger_of(Custom), "custom", LINE, as_json=True)


@pytest.mark.usefixtures("gunicorn_logging")
def test_nothing_records_where_nothing_was_asked_for() -> None:
    class Custom(Logger):  # type: ignore[misc]
        error_fmt = "%(message)s"

    assert AccessLog(logger_of(), "gunicorn", LINE).record is None
    assert AccessLog(logger_of(Custom), "custom", LINE).record is None


@pytest.mark.usefixtures("gunicorn_logging")
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("accesslog", [True, False])
def test_statsd_gets_what_gunicorns_own_access_sends(
    tmp_path: Path, accesslog: bool, as_json: bool
) -> None:
    log = tmp_path / "access.log"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(20)
        host = f"127.0.0.1:{statsd.getsockname()[1]}"
        settings = {"accesslog": str(log)} if accesslog else {}
        logger = logger_of(Statsd, statsd_host=host, access_log_format=LINE, **settings)
        record = record_of(REQUESTS[1])
        access_log = AccessLog(logger, "statsd", LINE, as_json=as_json)
        assert access_log.record
        # Outside a loop's turn, as with syslog: through the logger itself.
        logger.access_log.addFilter(lambda _: True)
        access_log.record(record)
        logger.access_log.filters.clear()
        ours = sent_until_now(statsd, logger)
        written = log.read_text() if accesslog else ""
        elapsed = timedelta(microseconds=record.microseconds())
        Logger.access, access = lambda *_: None, Logger.access
        try:
            logger.access(Response(record), None, None, elapsed)
        finally:
            Logger.access = access
        assert ours == sent_until_now(statsd, logger)
        assert len(ours) == 3
        assert written.count("\n") == accesslog
        assert written.startswith("{") == (accesslog and as_json)
        logger.sock.close()


def sent_until_now(statsd: socket.socket, logger: Any) -> list[bytes]:
    logger.increment("end", 1)
    return list(iter(lambda: statsd.recv(512), b"end:1|c|@1.0"))


# Hooks


def scope_of(**extra: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/root/a b",
        "raw_path": b"/root/a%20b",
        "root_path": "/root",
        "query_string": b"q=1",
        "http_version": "1.1",
        "headers": [(b"x-a", b"1")],
        "client": ("127.0.0.1", 5),
        "scheme": "https",
        **extra,
    }


def run_hooked(hooked: Hooked, scope: dict[str, Any]) -> None:
    """Let *hooked* serve a request, and feed it the record of it."""
    coroutine: Any = hooked(scope, None, None)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        coroutine.send(None)
    hooked.record(AccessRecord(scope, ("192.0.2.1", 9), 204, [], 0, 0.5))


async def app(scope: Any, _receive: Any, _send: Any) -> None:
    """Do to the scope what a framework does that mounts an app."""
    scope["root_path"], scope["path"] = "/root/a b", "/"


def test_hooks_get_one_request_and_see_what_the_client_asked_for() -> None:
    seen: list[Any] = []

    def pre_request(worker: Any, req: Any) -> None:
        req.mark = "set by a hook"
        seen.extend([worker, req.method, req.uri, req.path, req.query, req.scheme])

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        seen.extend([worker, req.mark, environ["PATH_INFO"], environ["REMOTE_ADDR"]])
        seen.append(resp.status)

    run_hooked(Hooked("worker", pre_request, post_request).around(app), scope_of())
    assert seen == [
        *("worker", "GET", "/a%20b?q=1", "/a b", "q=1", "https"),
        *("worker", "set by a hook", "/a b", "192.0.2.1", "204 No Content"),
    ]


@pytest.mark.parametrize(
    "hook",
    [
        lambda worker, req: req.seen.append(worker),
        lambda worker, req, _environ: req.seen.append(worker),
        lambda worker, req, _environ, _resp: req.seen.append(worker),
    ],
)
def test_post_request_may_take_two_to_four_arguments(hook: Any) -> None:
    """As gunicorn's validator wraps it."""
    seen: list[Any] = []

    def pre_request(_worker: Any, req: Any) -> None:
        req.seen = seen

    post_request = PostRequest().validator(hook)
    run_hooked(Hooked("worker", pre_request, post_request).around(app), scope_of())
    assert seen == ["worker"]


def test_a_websocket_has_its_hooks_too() -> None:
    seen = []
    scope = scope_of(type="websocket", scheme="wss")
    del scope["method"]

    def hook(_worker: Any, req: Any, _environ: Any, _resp: Any) -> None:
        seen.append((req.method, req.scheme))

    run_hooked(Hooked(None, None, hook).around(app), scope)
    assert seen == [("GET", "wss")]


def never(*_: Any) -> None:
    pytest.fail("called")


def test_a_request_that_never_came_to_the_app_has_no_hooks() -> None:
    hooked = Hooked(None, never, never).around(app)
    hooked.record(AccessRecord(scope_of(), None, 431, [], 0, 0.0))


def test_a_lifespan_has_no_hooks() -> None:
    hooked = Hooked(None, never, never).around(app)
    coroutine: Any = hooked({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    coroutine.close()


def test_an_error_in_post_request_is_logged_and_goes_no_further() -> None:
    said: list[str] = []
    worker = SimpleNamespace(log=SimpleNamespace(exception=said.append))

    def post_request(*_: Any) -> None:
        raise LookupError

    run_hooked(Hooked(worker, None, post_request).around(app), scope_of())
    assert said == ["Exception in post_request hook"]


def test_an_error_in_pre_request_fails_the_request() -> None:
    def pre_request(*_: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        Hooked(None, pre_request, None).around(app)(scope_of(), None, None)  # type: ignore[arg-type]
