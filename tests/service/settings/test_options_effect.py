"""Options end to end: where they are set, what wins, and what a reload does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import uvworker
from tests.conftest import HELLO, Serve
from tests.tools.service import Service, wait_for

# Says by a header which source has won.
MARK = 'worker_class = uvworker.Worker.configured(headers=[("x-by", "{}")])'


def conf(by: str) -> str:
    return f"import uvworker\n{MARK.format(by)}\n"


def source_of(service: Service) -> str | None:
    return service.get().headers.get("x-by")


# Sources


def test_configured_in_gunicorn_conf_is_taken(serve: Serve) -> None:
    assert source_of(serve(HELLO, worker="", conf=conf("conf"))) == "conf"


def test_a_subclass_with_config_kwargs_is_taken(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import uvworker\n"
        "class Mine(uvworker.UvicornWorker):\n"
        "    CONFIG_KWARGS = {'headers': [('x-by', 'subclass')]}\n"
    )
    assert source_of(serve(HELLO, worker="mine.Mine")) == "subclass"


def test_the_environment_is_taken_and_wins(serve: Serve) -> None:
    service = serve(
        HELLO, worker="", conf=conf("conf"), env={"UVICORN_HEADERS": "x-by:env"}
    )
    assert source_of(service) == "env"


def test_gunicorns_env_setting_is_taken_and_wins(serve: Serve) -> None:
    service = serve(
        HELLO, "--env", "UVICORN_HEADERS=x-by:raw", worker="", conf=conf("conf")
    )
    assert source_of(service) == "raw"


def test_a_reload_reads_options_again(serve: Serve, tmp_path: Path) -> None:
    service = serve(HELLO, worker="", conf=conf("first"))
    assert source_of(service) == "first"
    (tmp_path / "gunicorn.conf.py").write_text(
        "control_socket_disable = True\n" + conf("second")
    )
    service.kill(signal.SIGHUP)
    service.ready(2)
    wait_for(lambda: source_of(service) == "second", "the options of the new file")


# What is refused, and what is said


def test_an_option_that_cannot_be_taken_refuses_the_start(serve: Serve) -> None:
    service = serve(HELLO, env={"UVWORKER_MAX_RSS": "lots"}, wait=0)
    assert service.wait_exit() == 1
    assert "UVWORKER_MAX_RSS is 'lots'; allowed: bytes" in service.log + service.out
    assert "Booting worker" not in service.log


def test_a_setting_that_cannot_be_kept_refuses_the_start(serve: Serve) -> None:
    service = serve(
        HELLO, "--limit-request-line", "99", env={"UVICORN_HTTP": "h11"}, wait=0
    )
    assert service.wait_exit() == 1
    assert "limit_request_line = 99" in service.log + service.out
    assert "Booting worker" not in service.log


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("keep_alive = 75", r"keep_alive .*did you mean keepalive"),
        ("graceful_timout = 9", r"graceful_timout .*did you mean graceful_timeout"),
        ("Timeout = 9", r"Timeout .*did you mean timeout"),
        ("threads = 4", r"threads = 4 is honoured in part: .*AnyIO"),
        ("tmp_upload_dir = '/tmp'", r"tmp_upload_dir .* is not honoured: .*TMPDIR"),
    ],
)
def test_what_does_not_hold_is_said_once_however_many_workers(
    serve: Serve, line: str, sentence: str
) -> None:
    service = serve(HELLO, "-w", "2", conf=line, wait=2)
    assert len(service.wait_log(rf"\[WARNING\] .*{sentence}")) == 1


def test_what_does_not_hold_after_a_reload_is_said_then(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(HELLO)
    assert "WARNING" not in service.log
    (tmp_path / "gunicorn.conf.py").write_text(
        "control_socket_disable = True\nthreads = 4\n"
    )
    service.kill(signal.SIGHUP)
    service.wait_log(r"\[WARNING\] threads = 4 is honoured in part")
    service.ready(2)


def test_what_is_refused_after_a_reload_leaves_the_old_workers_serving(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve(HELLO, "--graceful-timeout", "3", env={"UVICORN_HTTP": "h11"})
    old = service.workers()
    (tmp_path / "gunicorn.conf.py").write_text(
        "control_socket_disable = True\nlimit_request_line = 99\n"
    )
    service.kill(signal.SIGHUP)
    service.wait_log(r"\[ERROR\] Worker \d cannot start: limit_request_line = 99")
    service.wait_log("serves on instead")
    assert service.get().status_code == 200
    assert service.workers() == old


def test_json_access_lines_name_the_worker(serve: Serve) -> None:
    service = serve(
        HELLO, "--access-logfile", "-", env={"UVWORKER_ACCESS_LOG_JSON": "1"}
    )
    service.get("/")
    line = wait_for(lambda: service.out, "an access line")
    entry = json.loads(line)
    assert (entry["pid"], entry["worker_id"]) == (service.workers()[0], 0)


def test_a_variable_that_does_not_apply_is_said(serve: Serve) -> None:
    service = serve(HELLO, env={"UVICORN_PORT": "80"})
    service.wait_log(r"\[WARNING\] UVICORN_PORT does not apply: use gunicorn's bind")


# WSGI


WSGI = """
from wsgiref.validate import validator

def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    told = (environ["REQUEST_METHOD"], environ["SCRIPT_NAME"], environ["PATH_INFO"],
            environ["QUERY_STRING"], environ["REMOTE_ADDR"], body.decode())
    return [" ".join(told).encode()]

app = validator(application)  # of the standard library: PEP 3333 to the letter
"""


def test_a_wsgi_app_is_served_by_option(serve: Serve) -> None:
    service = serve(WSGI, env={"UVICORN_INTERFACE": "wsgi"})
    assert service.get("/a?b=c").text == "GET  /a b=c 127.0.0.1 "
    assert "Deprecat" not in service.log
    assert "Traceback" not in service.log
    assert service.stop() == 0


THREADED = """
import threading

together = threading.Barrier(3)

def app(environ, start_response):
    together.wait(20)  # seconds; raises where fewer threads than that run
    start_response("200 OK", [])
    return [threading.current_thread().name.encode()]
"""


def test_threads_is_the_size_of_a_wsgi_apps_pool(serve: Serve) -> None:
    service = serve(THREADED, "--threads", "3", env={"UVICORN_INTERFACE": "wsgi"})
    names = {service.begin().getresponse for _ in range(6)}
    bodies = [response().read() for response in names]
    assert len(set(bodies)) == 3
    assert "threads" not in service.log


IMPATIENCE = """
import sys

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/exit":
        sys.exit("enough")
    if path == "/upload":
        try:
            environ["wsgi.input"].read()
        except OSError:
            print("cut", flush=True)
            raise
    write = start_response("200 OK", [])
    return endless(write) if path == "/endless" else [path.encode()]

def endless(write):
    try:
        while True:
            yield bytes(65536)
    finally:
        print("closed", flush=True)
"""


def closed(service: Service, times: int) -> bool:
    return service.out.count("closed") == times


@pytest.mark.parametrize("timeout", ["0", "1"])
def test_a_wsgi_app_stops_for_who_has_left(serve: Serve, timeout: str) -> None:
    """Whether the client goes, or the server ends what has taken too long."""
    service = serve(
        IMPATIENCE,
        "--threads",
        "2",
        env={"UVICORN_INTERFACE": "wsgi", "UVWORKER_REQUEST_TIMEOUT": timeout},
    )
    for number in range(1, 4):
        with service.connect() as client:
            client.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            client.recv(1)
            if timeout == "0":
                client.close()
            assert wait_for(partial(closed, service, number), "the app's end")
    assert service.get("/served").text == "/served"
    assert "Traceback" not in service.log


def test_half_a_body_is_no_whole_one_for_a_wsgi_app(serve: Serve) -> None:
    service = serve(IMPATIENCE, env={"UVICORN_INTERFACE": "wsgi"})
    with service.connect() as client:
        client.sendall(
            b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"4\r\nhalf\r\n"
        )
    wait_for(lambda: "cut" in service.out, "an error in the app")
    assert service.get("/served").text == "/served"
    assert "Traceback" not in service.log


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("UVICORN_LOOP", "nowhere:Loop", "asgi_loop 'nowhere:Loop' cannot be imported"),
        ("UVICORN_LOOP", "string:digits", "asgi_loop 'string:digits' is '0123456789',"),
        ("UVICORN_HTTP", "string:digits", "http_parser 'string:digits' is '01234567"),
    ],
)
def test_a_class_that_no_worker_can_use_is_named(
    serve: Serve, variable: str, value: str, said: str
) -> None:
    service = serve(HELLO, env={variable: value}, wait=0)
    assert service.wait_exit() == 3
    service.wait_log(f"cannot start: {said}")


def test_a_wsgi_app_that_exits_ends_its_request_only(serve: Serve) -> None:
    service = serve(IMPATIENCE, env={"UVICORN_INTERFACE": "wsgi"})
    assert service.get("/exit").status_code == 500
    assert service.get("/served").text == "/served"
    assert len(service.wait_log("Booting worker")) == 1


def test_a_wsgi_app_without_the_option_says_what_to_set(serve: Serve) -> None:
    service = serve(WSGI, app="main:application", wait=0)
    assert service.wait_exit() == 4
    service.wait_log(r'cannot start: .*WSGI app.* interface = "wsgi"')


def test_a_wsgi_app_without_a2wsgi_says_what_to_install(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "a2wsgi.py").write_text("raise ModuleNotFoundError")  # as if
    service = serve(WSGI, env={"UVICORN_INTERFACE": "wsgi"}, wait=0)
    assert service.wait_exit() == 4
    service.wait_log(r"cannot start: .*pip install 'uvworker\[wsgi\]'")


# env_file

# What is asked of python-dotenv.
DOTENV = """
import os

def load_dotenv(dotenv_path):
    with open(dotenv_path) as lines:
        for line in lines:
            name, _, value = line.strip().partition("=")
            os.environ.setdefault(name, value)
"""
READS = f"""
import os
AT_IMPORT = os.environ.get("FROM_FILE", "nothing")
{HELLO}
os.write(1, f"{{os.getpid()}} {{AT_IMPORT}}\\n".encode())
"""
ENV_FILE = {"UVICORN_ENV_FILE": "settings.env"}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    (tmp_path / "dotenv.py").write_text(DOTENV)
    path = tmp_path / "settings.env"
    path.write_text("FROM_FILE=file\n")
    return path


@pytest.mark.usefixtures("env_file")
def test_the_variables_of_env_file_are_there_when_the_app_is_imported(
    serve: Serve,
) -> None:
    serve(READS, env=ENV_FILE).wait_said("file")


@pytest.mark.usefixtures("env_file")
def test_what_is_set_wins_over_env_file(serve: Serve) -> None:
    serve(READS, env={**ENV_FILE, "FROM_FILE": "set"}).wait_said("set")


def test_a_reload_reads_env_file_again(serve: Serve, env_file: Path) -> None:
    service = serve(READS, env=ENV_FILE)
    service.wait_said("file")
    env_file.write_text("FROM_FILE=changed\n")
    service.kill(signal.SIGHUP)
    service.wait_said("changed")


def test_env_file_without_python_dotenv_says_what_to_install(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "dotenv.py").write_text("raise ModuleNotFoundError")  # as if
    service = serve(READS, env=ENV_FILE, wait=0)
    assert service.wait_exit() == 1
    assert "pip install python-dotenv" in service.log + service.out
    assert "Booting worker" not in service.log


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((), r"settings.env' does not exist"),
        (("--preload",), r"preload_app has imported"),
    ],
)
def test_an_env_file_that_sets_nothing_for_the_import_is_named(
    serve: Serve, env_file: Path, args: tuple[str, ...], sentence: str
) -> None:
    if not args:
        env_file.unlink()
        (env_file.parent / "dotenv.py").write_text("def load_dotenv(dotenv_path): ...")
    serve(READS, *args, env=ENV_FILE).wait_log(sentence)


# Types


TYPED = """
import uvworker
from uvworker import H11Worker, UvicornWorker, Worker

class Mine(UvicornWorker):
    CONFIG_KWARGS = {"ws_ping_interval": 5.0}

worker_class: type[Worker] = uvworker.Worker.configured(
    ws_ping_interval=10,
    ws_ping_timeout=None,
    max_rss="512M",
    max_body_size=1 << 20,
    headers=[("x-frame-options", "deny")],
    interface="asgi3",
    forwarded_header="rfc7239",
)
other: type[Worker] = H11Worker.configured(drain_delay=5)

def post_fork(server: object, worker: Worker) -> None:
    print(worker.pid)
"""

MISTAKES = """
import uvworker
worker_class = uvworker.Worker.configured(ws_ping_intervall=10)
worker_class = uvworker.Worker.configured(interface="asgi4")
worker_class = uvworker.Worker.configured(drain_delay="5")
"""


def mypy(directory: Path, source: str) -> str:
    """Return what ``mypy --strict`` says of a user's gunicorn.conf.py."""
    conf = directory / "gunicorn.conf.py"
    conf.write_text(source)
    environ = {**os.environ, "MYPY_CACHE_DIR": str(directory / "cache")}
    home = Path(uvworker.__file__).parents[1]
    if home.name != "site-packages":  # mypy does not find an editable installation
        environ["MYPYPATH"] = str(home)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, "--config-file=", str(conf)],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout


def test_strict_mypy_passes_for_a_users_gunicorn_conf(tmp_path: Path) -> None:
    assert mypy(tmp_path, TYPED).startswith("Success")


def test_strict_mypy_finds_a_users_mistakes(tmp_path: Path) -> None:
    said = mypy(tmp_path, MISTAKES)
    lines = {line.split(":")[1] for line in said.splitlines() if ": error:" in line}
    assert lines == {"3", "4", "5"}, said


def test_uvicorns_access_log_option_turns_the_lines_off(serve: Serve) -> None:
    args = ("--access-logfile", "access.log")
    service = serve(HELLO, *args, env={"UVICORN_ACCESS_LOG": "false"})
    service.get()
    assert service.stop() == 0
    assert (service.directory / "access.log").read_text() == ""
