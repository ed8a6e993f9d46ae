"""What workers and uvicorn say goes where gunicorn's logs go, once."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.tools.service import PATIENCE, READY, Service, wait_for

# An app that fails makes uvicorn's own logger speak; `/say` lets the app speak.
APP = """
import logging, sys

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/fail":
        raise ValueError("the app is broken")
    if scope["path"] == "/say":
        print("on stdout", flush=True)
        print("on stderr", file=sys.stderr, flush=True)
        logging.getLogger("app").warning("by the app's logger")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""
FAILED = "Exception in ASGI application"


class Speaker:
    """A service whose address is known without its log; what it is asked, it says."""

    def __init__(self, service: Service, address: Path) -> None:
        self.service = service
        self.address = address
        wait_for(self._listens, "a listener")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.address)) == 0

    def get(self, path: str) -> int:
        transport = httpx.HTTPTransport(uds=str(self.address))
        with httpx.Client(transport=transport, timeout=PATIENCE) as client:
            return client.get("http://app" + path).status_code

    def fail(self) -> None:
        """Let uvicorn report the failure of the app."""
        assert self.get("/fail") == 500

    def say(self) -> None:
        assert self.get("/say") == 200


Speak = Callable[..., Speaker]


@pytest.fixture
def speak(serve: Serve, tmp_path: Path) -> Speak:
    """Serve the app with the given arguments; the first answer may take its boot."""

    def start(*args: str, conf: str = "") -> Speaker:
        address = tmp_path / "app.sock"
        service = serve(APP, *args, conf=conf, bind=f"unix:{address}", wait=0)
        return Speaker(service, address)

    return start


def wait_in(path: Path, words: str, count: int = 1) -> str:
    """Return the text of *path* once *words* stand in it."""

    def text() -> str:
        text = path.read_text() if path.exists() else ""
        return text if text.count(words) >= count else ""

    return wait_for(text, f"{words!r} in {path.name}")


def assert_once(text: str) -> None:
    """Both the worker and uvicorn spoke, and nothing stands there twice."""
    assert text.count(READY) == 1
    assert text.count(FAILED) == 1
    assert text.count("ValueError: the app is broken") == 1


# Levels, files and classes


def test_uvicorn_speaks_once_in_gunicorns_error_log(speak: Speak) -> None:
    speaker = speak()
    speaker.fail()
    service = speaker.service
    service.wait_log(rf"\[{service.workers()[0]}\] \[ERROR\] {FAILED}\n")
    assert service.stop() == 0
    assert_once(service.log)
    assert FAILED not in service.out


def test_uvicorn_speaks_at_gunicorns_level(speak: Speak) -> None:
    speaker = speak("--log-level", "error")
    speaker.fail()
    speaker.service.wait_log(FAILED)
    assert speaker.service.stop() == 0
    assert "INFO" not in speaker.service.log


def test_the_error_log_is_gunicorns_file(speak: Speak, tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    speaker = speak("--error-logfile", str(log))
    speaker.fail()
    assert_once(wait_in(log, FAILED))
    assert speaker.service.log == ""


def test_captured_output_is_in_the_error_log(speak: Speak, tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    speaker = speak("--capture-output", "--error-logfile", str(log))
    speaker.say()
    speaker.fail()
    text = wait_in(log, FAILED)
    assert_once(text)
    for words in ("on stdout", "on stderr", "by the app's logger"):
        assert text.count(words) == 1


def test_a_logger_class_of_ones_own_hears_uvicorn(speak: Speak) -> None:
    conf = """
        from gunicorn.glogging import Logger

        class logger_class(Logger):
            def info(self, message, *args, **kwargs):
                super().info(f"heard {message}", *args, **kwargs)

            def error(self, message, *args, **kwargs):
                super().error(f"heard {message}", *args, **kwargs)
    """
    speaker = speak(conf=conf)
    speaker.fail()
    speaker.service.wait_log(rf"\[ERROR\] heard {FAILED}")
    speaker.service.wait_log(rf"\[INFO\] heard {READY}")
    assert_once(speaker.service.log)


# An app logs to uvicorn's logger, and watches what loggers handle, as Sentry does.
GIVING = (
    """
import logging

call_handlers = logging.Logger.callHandlers

def watched(self, record):
    print("SEEN", record.name, record.msg, flush=True)
    call_handlers(self, record)

logging.Logger.callHandlers = watched
logging.getLogger("uvicorn.error").info("GIVEN by %s", "anna", extra={"order": 7})
"""
    + APP
)
IN_PARTS = """
import logging
from gunicorn.glogging import Logger

class Parts(logging.Formatter):
    def format(self, record):
        order = getattr(record, "order", None)
        return f"{record.name} {record.filename} {record.getMessage()} {order}"
"""
OVERRIDES = """
class logger_class(Logger):
    def info(self, *args, **kwargs):
        super().info(*args, **kwargs)
"""


@pytest.mark.parametrize(
    ("conf", "begins", "seen"),
    [
        ("", "uvicorn.error main.py ", ["uvicorn.error"]),
        ("statsd_host = '127.0.0.1:9'", "", ["uvicorn.error", "gunicorn.error"]),
        (OVERRIDES, "", ["uvicorn.error", "gunicorn.error"]),
    ],
    ids=["gunicorn", "statsd", "overrides"],
)
def test_a_record_keeps_what_an_app_gave_it(
    serve: Serve, tmp_path: Path, conf: str, begins: str, seen: list[str]
) -> None:
    config = to_root()
    config["handlers"]["file"]["formatter"] = "parts"
    conf += f"\nlogconfig_dict = {config!r}\n"
    conf += "logconfig_dict['formatters'] = {'parts': {'()': Parts}}\n"
    service = serve(GIVING, conf=IN_PARTS + conf, wait=0)
    text = wait_in(tmp_path / "config.log", READY)
    assert text.count("GIVEN") == text.count(f"{begins}GIVEN by anna 7\n") == 1
    said = (line.split() for line in service.out.splitlines() if "GIVEN by" in line)
    assert [words[1] for words in said] == seen


MASKING = """
import copy, logging

class Masking(logging.Filter):
    def filter(self, record):
        masked = copy.copy(record)
        masked.msg = record.getMessage().replace("anna", "***")
        masked.args = ()
        return masked

def on_starting(server):
    server.log.error_log.addFilter(Masking())
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a filter only says yes or no")
def test_a_filter_of_gunicorns_logger_may_replace_a_record(serve: Serve) -> None:
    service = serve(GIVING, conf=MASKING, wait=0)
    service.wait_log(READY)
    assert service.log.count("GIVEN by") == service.log.count("GIVEN by ***") == 1


# syslog


def heard(receiver: socket.socket) -> str:
    """Return what has come until the app's failure did."""
    receiver.settimeout(PATIENCE)
    text = ""
    while FAILED not in text:
        text += receiver.recv(65536).decode()
    return text


def test_syslog_hears_uvicorn_over_udp(speak: Speak) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
        speaker = speak("--log-syslog", "--log-syslog-to", address)
        speaker.fail()
        text = heard(receiver)
    assert_once(text)
    assert f"gunicorn.main.app.error: [{speaker.service.workers()[0]}]" in text


def test_syslog_hears_uvicorn_over_a_unix_socket(speak: Speak, tmp_path: Path) -> None:
    address = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(address))
        speaker = speak("--log-syslog", "--log-syslog-to", f"unix://{address}#dgram")
        speaker.fail()
        assert_once(heard(receiver))


# logconfig, logconfig_dict, logconfig_json

INI = """
[loggers]
keys = root, error, access
[handlers]
keys = file
[formatters]
keys = plain
[logger_root]
level = INFO
handlers = file
[logger_error]
level = INFO
qualname = gunicorn.error
handlers =
propagate = 1
[logger_access]
level = INFO
qualname = gunicorn.access
handlers =
propagate = 1
[handler_file]
class = FileHandler
args = ("config.log",)
formatter = plain
[formatter_plain]
format = %(name)s %(process)d %(message)s
"""


def to_root(**more: Any) -> dict[str, Any]:
    """Return a configuration of `logging` with one file, of which root has the key."""
    quiet = {"level": "INFO", "handlers": [], "propagate": True}
    handler = {"class": "logging.FileHandler", "filename": "config.log"}
    config = {
        "version": 1,
        "formatters": {},
        "handlers": {"file": handler},
        "root": {"level": "INFO", "handlers": ["file"]},
        "loggers": {"gunicorn.error": quiet, "gunicorn.access": quiet},
    }
    return {**config, **more}


def configured_by(kind: str, directory: Path) -> str:
    """Return lines of ``gunicorn.conf.py`` that send all to ``config.log``."""
    if kind == "logconfig":
        (directory / "log.ini").write_text(INI)
        return "logconfig = 'log.ini'"
    if kind == "logconfig_json":
        (directory / "log.json").write_text(json.dumps(to_root()))
        return "logconfig_json = 'log.json'"
    return f"logconfig_dict = {to_root()!r}"


@pytest.mark.parametrize("kind", ["logconfig", "logconfig_dict", "logconfig_json"])
def test_root_hears_all_once_where_gunicorns_loggers_propagate(
    speak: Speak, tmp_path: Path, kind: str
) -> None:
    speaker = speak("--access-logfile", "-", conf=configured_by(kind, tmp_path))
    speaker.fail()
    speaker.say()
    text = wait_in(tmp_path / "config.log", '"GET /say HTTP/1.1" 200')
    assert_once(text)
    assert text.count("by the app's logger") == 1
    assert text.count('"GET /fail HTTP/1.1" 500') == 1


def test_uvicorns_own_handlers_are_left_to_it(speak: Speak, tmp_path: Path) -> None:
    handlers = {
        "file": {"class": "logging.FileHandler", "filename": "config.log"},
        "own": {"class": "logging.FileHandler", "filename": "uvicorn.log"},
    }
    loggers = {"uvicorn": {"level": "INFO", "handlers": ["own"], "propagate": False}}
    config = to_root(handlers=handlers)
    config["loggers"] |= loggers
    speaker = speak(conf=f"logconfig_dict = {config!r}")
    speaker.fail()
    assert wait_in(tmp_path / "uvicorn.log", FAILED).count(FAILED) == 1
    assert FAILED not in (tmp_path / "config.log").read_text()


def test_uvicorns_own_level_is_left_to_it(speak: Speak, tmp_path: Path) -> None:
    config = to_root()
    config["loggers"]["uvicorn.error"] = {"level": "CRITICAL"}
    speaker = speak(conf=f"logconfig_dict = {config!r}")
    speaker.fail()
    assert speaker.service.stop() == 0
    text = (tmp_path / "config.log").read_text()
    assert READY in text
    assert FAILED not in text


def test_a_level_of_gunicorns_logger_is_also_uvicorns(
    speak: Speak, tmp_path: Path
) -> None:
    """A logconfig sets it after ``loglevel``, and wins."""
    conf = f"{SAYING_HOOKS}logconfig_dict = {to_root()!r}"
    speaker = speak("--log-level", "error", conf=conf)
    text = wait_in(tmp_path / "config.log", READY)
    assert text.count("SAID in post_fork") == 1
    assert speaker.service.stop() == 0


def test_a_log_file_that_is_opened_late_delays_no_boot(
    speak: Speak, tmp_path: Path
) -> None:
    """With ``delay``, the file is opened by its first line, which comes after it."""
    late = {"class": "logging.FileHandler", "filename": "late.log", "delay": True}
    logger = {"level": "ERROR", "handlers": ["late"], "propagate": False}
    config = {
        "version": 1,
        "root": {"handlers": []},
        "handlers": {"late": late},
        "loggers": {"gunicorn.error": logger},
    }
    speaker = speak(conf=f"logconfig_dict = {config!r}")
    speaker.fail()
    assert wait_in(tmp_path / "late.log", FAILED).count(FAILED) == 1


def test_a_reloaded_configuration_silences_nobody(speak: Speak, tmp_path: Path) -> None:
    """By then uvicorn's loggers exist, and `logging` disables those not named."""
    config = to_root(disable_existing_loggers=True)
    speaker = speak(conf=f"logconfig_dict = {config!r}")
    wait_in(tmp_path / "config.log", READY)
    old = speaker.service.workers()[0]
    speaker.service.kill(signal.SIGHUP)
    wait_in(tmp_path / "config.log", READY, count=2)
    wait_for(lambda: old not in speaker.service.workers(), "the old worker gone")
    speaker.fail()
    text = wait_in(tmp_path / "config.log", FAILED)
    assert text.count(FAILED) == 1


def test_a_configuration_for_other_loggers_silences_no_worker(speak: Speak) -> None:
    """Written for uvicorn, say: `logging` then disables gunicorn's."""
    config = to_root(
        loggers={"uvicorn": {"level": "INFO"}}, disable_existing_loggers=True
    )
    speaker = speak("--access-logfile", "-", conf=f"logconfig_dict = {config!r}")
    speaker.fail()
    service = speaker.service
    service.wait_log(FAILED)
    assert_once(service.log)
    wait_for(lambda: '"GET /fail HTTP/1.1" 500' in service.out, "an access line")


# What is said before the loop turns

SAYS = (
    """
import logging
logging.getLogger("uvicorn.error").info("SAID in import")
"""
    + APP
)
SAYING_HOOKS = """
import logging, uvworker

def say(where):
    logging.getLogger("uvicorn.error").info("SAID in %s", where)

def pre_fork(server, worker):
    say("pre_fork")

def post_fork(server, worker):
    say("post_fork")

def post_worker_init(worker):
    say("post_worker_init")

class worker_class(uvworker.Worker):
    def init_signals(self):
        super().init_signals()
        say("init_signals")
"""
BEFORE = ("pre_fork", "post_fork", "init_signals", "import", "post_worker_init")


@pytest.mark.parametrize("preload", ["", "preload_app = True"])
def test_what_is_said_before_the_loop_turns_is_in_gunicorns_log(
    serve: Serve, preload: str
) -> None:
    service = serve(SAYS, conf=SAYING_HOOKS + preload, worker="")
    for where in BEFORE:
        assert f"[INFO] SAID in {where}\n" in service.log
    assert service.log.count("SAID in import") == 1


BOTH = """
import logging, logging.config
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": %s,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {%s},
})
"""
OF_UVICORN = '"uvicorn": {"level": "INFO", "handlers": ["console"]}'
OF_ITS_ERROR = '"uvicorn.error": {"level": "INFO", "handlers": ["console"]}'


@pytest.mark.parametrize("disable", ["True", "False"])
@pytest.mark.parametrize(
    "loggers", ["", OF_UVICORN, OF_ITS_ERROR, f"{OF_UVICORN}, {OF_ITS_ERROR}"]
)
def test_an_app_that_configures_logging_loses_and_doubles_nothing(
    serve: Serve, loggers: str, disable: str
) -> None:
    """As Django and others do; `logging` disables all other loggers by default."""
    service = serve(BOTH % (disable, loggers) + APP)
    service.get("/fail")
    service.wait_log("ValueError: the app is broken")
    assert service.stop() == 0
    assert_once(service.log)


FORMATTING = """
import logging
for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
    for handler in logging.getLogger(name).handlers:
        handler.setFormatter(logging.Formatter("MINE %(message)s"))
"""


def test_an_app_that_formats_uvicorns_handlers_formats_gunicorns_log(
    serve: Serve,
) -> None:
    """With uvicorn's worker they were gunicorn's own."""
    service = serve(FORMATTING + APP, wait=0)
    service.wait_log(f"(?m)^MINE {READY}")
    service.get("/fail")
    service.wait_log(f"(?m)^MINE {FAILED}")


def test_an_app_that_configures_logging_and_does_not_import_says_why(
    serve: Serve,
) -> None:
    service = serve(BOTH % ("True", "") + "raise LookupError('mine')", wait=0)
    service.wait_log("LookupError: mine")


def test_a_logconfig_with_handlers_on_uvicorn_and_root_doubles_nothing(
    speak: Speak, tmp_path: Path
) -> None:
    config = to_root()
    config["loggers"]["uvicorn"] = {"level": "INFO", "handlers": ["file"]}
    speaker = speak(conf=SAYING_HOOKS + f"logconfig_dict = {config!r}")
    speaker.fail()
    text = wait_in(tmp_path / "config.log", FAILED)
    assert_once(text)
    assert text.count("SAID in post_fork") == 1


def test_an_app_that_sends_uvicorns_loggers_to_root_has_them_there(
    serve: Serve, tmp_path: Path
) -> None:
    """As those do who format all lines with structlog or loguru."""
    app = """
import logging
logging.basicConfig(filename="root.log", level="INFO", force=True)
for name in ("uvicorn", "uvicorn.error"):
    logging.getLogger(name).handlers.clear()
    logging.getLogger(name).propagate = True
"""
    service = serve(app + APP)
    service.get("/fail")
    text = wait_in(tmp_path / "root.log", FAILED)
    assert text.count(FAILED) == 1
    assert FAILED not in service.log
