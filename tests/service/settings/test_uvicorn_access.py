"""The logger `uvicorn.access`, as apps and log configurations set it up."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import Serve
from tests.tools.service import PATIENCE, Service, wait_for

# `SETUP` configures logging: at import, in the startup, or when /setup is asked for.
APP = """
import logging, logging.config, sys

class Mine(logging.Formatter):
    def format(self, record):
        return f"MINE {record.getMessage()} {record.args!r}"

class Healthless(logging.Filter):
    def filter(self, record):
        return record.args[2] != "/health"

class Wordless(logging.Filter):
    def filter(self, record):
        return record.getMessage().find("/health") == -1

def mine():
    handler = logging.StreamHandler()
    handler.setFormatter(Mine())
    return handler

access = logging.getLogger("uvicorn.access")

def setup():
    SETUP

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if WHEN == "startup":
            setup()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/setup":
        setup()
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

if WHEN == "import":
    setup()
"""
ACCEPTING = """
plain = app

async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return await plain(scope, receive, send)
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    while (await receive())["type"] != "websocket.disconnect":  # as the client wants
        pass
"""
WRITTEN = ("--access-logfile", "-", "--access-logformat", "THEIRS %(r)s")


def app_with(setup: str, when: str = "import") -> str:
    setup = setup.replace("\n", "\n    ")
    return f"WHEN = {when!r}\n" + APP.replace("SETUP", setup)


def ask(service: Service, *paths: str) -> None:
    for path in paths:
        assert service.get(path).status_code == 201


def said(service: Service) -> str:
    """Return all that was written until a request of ours was heard of, and stop."""
    assert service.stop() == 0
    return service.log + service.out


MINE = "access.addHandler(mine())"
KEPT = "access.handlers = [mine()]"


@pytest.mark.parametrize("worker", ["uvworker.Worker", "uvworker.H11Worker"])
@pytest.mark.parametrize("when", ["import", "startup", "run time"])
@pytest.mark.parametrize("setup", [MINE, KEPT])
def test_a_handler_gets_uvicorns_record(
    serve: Serve, setup: str, when: str, worker: str
) -> None:
    service = serve(app_with(setup, when), worker=worker)
    if when == "run time":
        ask(service, "/setup")
    httpx.post(service.url + "/a%20b?c=%20d", timeout=PATIENCE)
    text = said(service)
    [line] = [line for line in text.splitlines() if "/a%20b" in line]
    assert line.startswith("MINE 127.0.0.1:")
    assert '"POST /a%20b?c=%20d HTTP/1.1" 201 (' in line
    assert line.endswith("'POST', '/a%20b?c=%20d', '1.1', 201)")


def test_a_client_that_a_proxy_names_is_in_uvicorns_record(serve: Serve) -> None:
    service = serve(app_with(MINE), "--forwarded-allow-ips", "127.0.0.1")
    service.get("/", headers={"X-Forwarded-For": "192.0.2.9"})
    assert "MINE 192.0.2.9:0 - " in said(service)


def test_a_refused_request_is_recorded_too(serve: Serve) -> None:
    service = serve(app_with(MINE), "--limit-request-line", "100")
    assert service.get("/" + "x" * 200).status_code == 414
    assert ", 414)" in said(service)


@pytest.mark.parametrize("worker", ["uvworker.Worker", "uvworker.H11Worker"])
@pytest.mark.parametrize("when", ["import", "startup", "run time"])
@pytest.mark.parametrize(
    "setup",
    [
        "access.addFilter(Healthless())",
        "access.addFilter(Wordless())",
        "access.handlers[0].addFilter(Healthless())",
    ],
)
def test_a_filter_drops_health_checks_from_gunicorns_access_log(
    serve: Serve, setup: str, when: str, worker: str
) -> None:
    service = serve(app_with(setup, when), *WRITTEN, worker=worker)
    if when == "run time":
        ask(service, "/setup")
    ask(service, "/health", "/seen", "/health", "/seen?x")
    text = said(service)
    assert "/health" not in text
    assert text.count("THEIRS GET /seen HTTP/1.1\n") == 1
    assert text.count("THEIRS GET /seen?x HTTP/1.1\n") == 1


def test_a_websocket_is_in_gunicorns_access_log_alone(serve: Serve) -> None:
    """Uvicorn speaks of one through uvicorn.error."""
    setup = f"{MINE}\naccess.addFilter(lambda record: True)"
    service = serve(app_with(setup) + ACCEPTING, *WRITTEN)
    with connect(service.url.replace("http", "ws") + "/ws") as websocket:
        websocket.recv()
    text = said(service)
    assert text.count("THEIRS GET /ws HTTP/1.1") == 1
    assert "MINE" not in text


@pytest.mark.parametrize(
    "setup",
    [
        "access.disabled = True",
        "access.setLevel(logging.WARNING)",
        "access.handlers.clear()",
        "logging.disable(logging.INFO)",
    ],
)
def test_who_silences_the_logger_has_no_access_log(serve: Serve, setup: str) -> None:
    service = serve(app_with(setup, "run time"), *WRITTEN)
    ask(service, "/setup", "/quiet")
    assert "/quiet" not in said(service)


SHARED = """
import logging

def post_fork(server, worker):
    theirs = logging.getLogger("gunicorn.access")
    logging.getLogger("uvicorn.access").handlers = theirs.handlers
"""


def test_who_gives_the_logger_gunicorns_handlers_has_gunicorns_lines(
    serve: Serve,
) -> None:
    """As uvicorn's own worker did; the two share one list then."""
    service = serve(app_with("pass"), *WRITTEN, conf=SHARED)
    ask(service, "/seen")
    text = said(service)
    assert text.count("THEIRS GET /seen HTTP/1.1\n") == 1
    assert "writes to the same place" not in text


DISABLED = """
import logging
logging.getLogger("uvicorn.access").disabled = True
"""


def test_a_logger_that_is_disabled_in_the_configuration_stays_so(serve: Serve) -> None:
    service = serve(app_with("pass"), *WRITTEN, conf=DISABLED)
    ask(service, "/quiet")
    assert "/quiet" not in said(service)


ON_GUNICORNS = "logging.getLogger('gunicorn.access').addHandler(mine())"
SILENT = "gunicorn.access has a handler and gets no lines: set accesslog"


@pytest.mark.parametrize(
    ("setup", "options", "count"),
    [
        (ON_GUNICORNS, (), 1),
        (ON_GUNICORNS, WRITTEN, 0),
        (ON_GUNICORNS.replace("mine()", "logging.NullHandler()"), (), 0),
        (MINE, (), 0),
    ],
)
def test_a_handler_of_an_access_log_that_is_off_is_named(
    serve: Serve, setup: str, options: tuple[str, ...], count: int
) -> None:
    service = serve(app_with(setup), *options)
    ask(service, "/seen")
    assert said(service).count(SILENT) == count


@pytest.mark.parametrize(("stream", "theirs"), [("stderr", 1), ("stdout", 0)])
def test_a_handler_beside_gunicorns_access_log_doubles_no_stream(
    serve: Serve, stream: str, theirs: int
) -> None:
    setup = f"{MINE}\naccess.handlers[-1].setStream(sys.{stream})"
    service = serve(app_with(setup), *WRITTEN)
    ask(service, "/seen")
    text = said(service)
    assert text.count("THEIRS GET /seen") == theirs
    assert text.count("MINE") == 1


OWN_LINE = "access.info('user %s came', 7)"


@pytest.mark.parametrize("conf", ["", "logger_class"])
def test_what_an_app_logs_there_itself_is_in_the_access_log(
    serve: Serve, conf: str
) -> None:
    if conf:
        conf = "from gunicorn.glogging import Logger\nclass logger_class(Logger): ..."
    service = serve(app_with(OWN_LINE, "run time"), *WRITTEN, conf=conf)
    ask(service, "/setup", "/seen")
    text = said(service)
    assert service.out.count("user 7 came\n") == 1
    assert text.count("user 7 came") == text.count("THEIRS GET /seen") == 1


def test_a_formatter_on_the_handler_formats_what_an_app_logs_there_itself(
    serve: Serve,
) -> None:
    setup = f"access.handlers[0].setFormatter(Mine())\n{OWN_LINE}"
    service = serve(app_with(setup, "run time"), *WRITTEN)
    ask(service, "/setup")
    assert "MINE user 7 came (7,)\n" in said(service)


PASSING = """
import logging
from gunicorn.glogging import Logger

class Passing(logging.Handler):  # to loguru, say
    def __init__(self, place):
        super().__init__()
        self.place = place
    def emit(self, record):
        print("PASSED", self.place, record.getMessage(), flush=True)

class logger_class(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        for name in "gunicorn.access", "uvicorn.access":
            logging.getLogger(name).handlers = [Passing(PLACE)]
"""


@pytest.mark.parametrize(("place", "count"), [("'one'", 1), ("name", 2)])
def test_handlers_of_one_kind_with_one_place_have_each_request_once(
    serve: Serve, place: str, count: int
) -> None:
    conf = PASSING.replace("PLACE", place)
    service = serve(app_with("pass"), *WRITTEN, conf=conf)
    ask(service, "/seen")
    passed = [line for line in said(service).splitlines() if "PASSED" in line]
    assert len([line for line in passed if "GET /seen" in line]) == count


def test_a_handler_in_the_place_of_gunicorns_has_the_log_alone_and_it_is_said(
    serve: Serve,
) -> None:
    service = serve(app_with(KEPT), *WRITTEN)
    ask(service, "/seen")
    text = said(service)
    assert "THEIRS" not in text
    assert text.count("MINE") == 1
    assert text.count("access log is not written: the app removed its handler") == 1


def test_a_formatter_on_the_handler_that_stands_there_holds(serve: Serve) -> None:
    service = serve(app_with("access.handlers[0].setFormatter(Mine())"), *WRITTEN)
    ask(service, "/seen")
    text = said(service)
    assert text.count("/seen HTTP/1.1") == 1
    assert "MINE 127.0.0.1" in service.out


@pytest.mark.parametrize("options", [(), WRITTEN])
def test_roots_handlers_get_no_access_lines_unasked(
    serve: Serve, options: tuple[str, ...]
) -> None:
    service = serve(app_with("logging.basicConfig(level='INFO')"), *options)
    ask(service, "/seen")
    assert said(service).count("/seen") == len(options) // 4


@pytest.mark.parametrize("options", [(), WRITTEN])
def test_who_lets_all_loggers_propagate_to_root_has_each_line_once(
    serve: Serve, options: tuple[str, ...]
) -> None:
    """As the recipes for loguru do."""
    setup = """logging.root.handlers = [mine()]
for name in logging.root.manager.loggerDict:
    logging.getLogger(name).handlers = []
    logging.getLogger(name).propagate = True"""
    service = serve(app_with(setup), *options)
    ask(service, "/seen")
    text = said(service)
    assert text.count("/seen HTTP/1.1") == 1
    assert text.count("MINE 127.0.0.1:") == 1


def test_a_filter_that_fails_fails_no_request_and_is_said_once(serve: Serve) -> None:
    setup = f"{MINE}\naccess.addFilter(lambda record: record.args['U'])"
    service = serve(app_with(setup))
    ask(service, "/1", "/2", "/3")
    text = said(service)
    assert text.count("Traceback") == 1
    assert text.count("A filter of the logger uvicorn.access raised") == 1


def test_a_logger_class_that_is_none_of_gunicorns_has_uvicorns_record_beside_it(
    serve: Serve,
) -> None:
    conf = """
import logging

class logger_class:
    def __init__(self, cfg):
        logging.basicConfig(level="INFO")

    def __getattr__(self, name):
        if name in ("debug", "info", "warning", "error", "critical", "exception"):
            return getattr(logging.getLogger("theirs"), name)
        raise AttributeError(name)

    def access(self, resp, req, environ, request_time):
        self.info("THEIRS %s", req.path)

    def reopen_files(self):
        pass

    close_on_exec = reopen_files
"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = serve(app_with(MINE), conf=conf, bind=f"127.0.0.1:{port}")
    httpx.get(f"http://127.0.0.1:{port}/seen", timeout=PATIENCE)
    text = said(service)
    assert text.count("THEIRS /seen") == 1
    assert text.count("MINE 127.0.0.1") == 1


# logconfig


def configured(**loggers: Any) -> str:
    """Return a `logconfig_dict` with two handlers; `__` stands for a dot."""
    handlers = {
        name: {"class": "logging.FileHandler", "filename": f"{name}.log"}
        for name in ("one", "two")
    }
    handlers["stderr"] = {"class": "logging.StreamHandler"}
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "uvicorns": {
                "()": "uvicorn.logging.AccessFormatter",
                "fmt": "LINE %(client_addr)s %(request_line)s %(status_code)s",
                "use_colors": False,
            }
        },
        "handlers": handlers | {"five": {**handlers["one"], "formatter": "uvicorns"}},
        "root": {"level": "INFO", **loggers.pop("root", {"handlers": []})},
        "loggers": {
            name.replace("__", "."): {"level": "INFO", "propagate": False, **logger}
            for name, logger in loggers.items()
        },
    }
    return f"logconfig_dict = {config!r}\n"


def lines_in(directory: Path, name: str) -> list[str]:
    path = directory / f"{name}.log"
    text = path.read_text() if path.exists() else ""
    return [line for line in text.splitlines() if "/seen" in line]


ONE, TWO = {"handlers": ["one"]}, {"handlers": ["two"]}


@pytest.mark.parametrize(
    ("loggers", "in_one", "in_two"),
    [
        ({"uvicorn__access": ONE}, 1, 0),
        ({"uvicorn__access": ONE, "gunicorn__access": TWO}, 1, 1),
        ({"uvicorn__access": ONE, "gunicorn__access": ONE}, 1, 0),
        ({"uvicorn__access": {"propagate": True}, "uvicorn": ONE}, 1, 0),
        (
            {"uvicorn__access": {"propagate": True}, "root": ONE}
            | {"gunicorn__access": {"propagate": True}},
            1,
            0,
        ),
        ({"uvicorn": ONE}, 0, 0),
        ({"uvicorn__access": {**ONE, "level": "ERROR"}, "gunicorn__access": TWO}, 0, 1),
        ({"uvicorn__access": {"handlers": ["five"]}}, 1, 0),
    ],
)
def test_a_logconfig_has_each_request_once_in_each_handler(
    serve: Serve, tmp_path: Path, loggers: dict[str, Any], in_one: int, in_two: int
) -> None:
    service = serve(app_with("pass"), conf=configured(**loggers))
    ask(service, "/seen")
    assert service.stop() == 0
    assert len(lines_in(tmp_path, "one")) == in_one
    assert len(lines_in(tmp_path, "two")) == in_two


INHERITS = "enables the access log"


@pytest.mark.parametrize(
    ("loggers", "env", "count"),
    [
        ({"gunicorn": ONE}, {}, 1),
        ({"gunicorn": ONE}, {"UVICORN_ACCESS_LOG": "false"}, 0),
        ({"gunicorn__access": ONE}, {}, 0),
        ({"uvicorn": ONE}, {}, 0),
    ],
)
def test_an_access_log_that_nobody_named_is_spoken_of(
    serve: Serve,
    tmp_path: Path,
    loggers: dict[str, Any],
    env: dict[str, str | None],
    count: int,
) -> None:
    loggers = {"gunicorn__error": {"handlers": ["stderr"]}, **loggers}
    service = serve(app_with("pass"), conf=configured(**loggers), env=env)
    ask(service, "/seen")
    assert said(service).count(INHERITS) == count
    lines = 0 if env or "uvicorn" in loggers else 1
    assert len(lines_in(tmp_path, "one")) == lines


# What was written for uvicorn's record, on gunicorn's logger

FILTERED = """
import logging

class Healthless(logging.Filter):
    def filter(self, record):
        return len(record.args) >= 3 and record.args[2] != "/health"

def post_worker_init(worker):
    logging.getLogger("gunicorn.access").addFilter(Healthless())
"""
MISFIT = "reads uvicorn's record"


@pytest.mark.parametrize("as_json", ["", "1"])
def test_uvicorns_formatter_on_gunicorns_logger_writes_and_is_told_once(
    serve: Serve, tmp_path: Path, as_json: str
) -> None:
    conf = configured(gunicorn__access={"handlers": ["five"]})
    env = {"UVWORKER_ACCESS_LOG_JSON": as_json}
    service = serve(app_with("pass"), conf=conf, env=env)
    ask(service, "/seen?1", "/seen?2", "/seen?3")
    text = said(service)
    assert text.count(MISFIT) == 1
    assert "Traceback" not in text
    lines = lines_in(tmp_path, "one")
    assert len(lines) == 3
    assert lines[0].startswith("LINE 127.0.0.1:")
    assert lines[0].endswith(" GET /seen?1 HTTP/1.1 201 Created")


CLASS = "from gunicorn.glogging import Logger\nclass logger_class(Logger): pass"


@pytest.mark.parametrize(("more", "as_json"), [("", ""), ("", "1"), (CLASS, "")])
def test_a_filter_for_uvicorns_record_on_gunicorns_logger_holds_and_is_told_once(
    serve: Serve, more: str, as_json: str
) -> None:
    env = {"UVWORKER_ACCESS_LOG_JSON": as_json}
    options = ("--access-logfile", "-")
    service = serve(app_with("pass"), *options, conf=FILTERED + more, env=env)
    ask(service, "/seen", "/health", "/seen", "/health")
    text = said(service)
    assert text.count(MISFIT) == 1
    assert "Traceback" not in text
    assert text.count("/seen") == 2
    assert "/health" not in text


def test_a_filter_for_gunicorns_record_is_told_nothing(serve: Serve) -> None:
    conf = FILTERED.replace("record.args[2]", "record.args['U']")
    service = serve(app_with("pass"), "--access-logfile", "-", conf=conf)
    ask(service, "/seen", "/health")
    text = said(service)
    assert MISFIT not in text
    assert text.count("/seen") == 1
    assert "/health" not in text


def test_a_filter_that_fails_on_gunicorns_logger_is_said_once(serve: Serve) -> None:
    conf = FILTERED.replace("record.args[2]", "record.args.path")
    service = serve(app_with("pass"), "--access-logfile", "-", conf=conf)
    ask(service, "/1", "/2", "/3")
    wait_for(lambda: "Traceback" in service.log, "the traceback")
    assert said(service).count("Traceback") == 1
