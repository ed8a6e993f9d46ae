"""``python -m uvworker check``, run as a user runs it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import uvworker
from tests.tools.service import gunicorn_lacks
from uvworker import defaults
from uvworker.config.options import table
from uvworker.config.sources import variable_of

APP = "async def app(scope, receive, send): ...\n"
COMMAND = [sys.executable, "-m", "uvworker", "check", "-k", "uvworker.Worker"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def check(tmp_path):
    (tmp_path / "main.py").write_text(APP)

    def run(*args: str, conf: str = "", command=COMMAND, **environ: str):
        (tmp_path / "gunicorn.conf.py").write_text(conf)
        return subprocess.run(
            [*command, *(args or ["main:app"])],
            cwd=tmp_path,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_good_configuration_passes(check):
    done = check(conf="keepalive = 75", UVWORKER_MAX_RSS="512M")
    assert done.returncode == 0, done
    assert "keepalive = 75" in done.stdout
    assert "max_rss = 536870912" in done.stdout
    assert "would start" in done.stdout


def test_gunicorns_own_arguments_are_taken(check):
    done = check("main:app", "--threads", "8", GUNICORN_CMD_ARGS="--keep-alive 9")
    assert done.returncode == 0
    assert "threads = 8 is honoured in part" in done.stdout
    assert "keepalive = 9" in done.stdout


def test_a_slip_fails(check):
    done = check(conf="keep_alive = 75")
    assert done.returncode == 1
    assert "gunicorn.conf.py: keep_alive" in done.stdout


def test_every_message_ends_as_a_sentence_does(check):
    done = check(
        conf="keep_alive = 75\nmax_worker_memory = 1",
        UVICORN_HTTP="h11",
        UVWORKER_MAX_RS="1",
        UVWORKER_XYZ="1",
        UVICORN_WS_PING_INTERVL="1",
        UVICORN_PORT="1",
        UVICORN_WS_MAX_QUEUE="many",
    )
    assert done.returncode == 1
    problems = done.stdout.partition("No effect\n")[2].splitlines()
    lines = [line for line in problems if line not in ("", "Machine", "Problems")]
    assert len(lines) >= 7  # and what this machine lacks
    assert not [line for line in lines if not re.search(r"[\w)'\]][.?]$", line)]


def test_a_slip_in_a_configuration_module_fails(check, tmp_path):
    (tmp_path / "settings.py").write_text("keep_alive = 75\n")
    done = check("-c", "python:settings", "main:app")
    assert done.returncode == 1
    assert "settings.py: keep_alive" in done.stdout


def test_an_option_that_is_refused_fails(check):
    done = check("main:app", "--env", "UVWORKER_MAX_RSS=lots")
    assert done.returncode == 1
    assert "UVWORKER_MAX_RSS" in done.stdout


def test_all_that_is_refused_is_named_at_once(check, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import uvworker\n"
        "class Mine(uvworker.Worker):\n"
        "    CONFIG_KWARGS = {'reload': True, 'lifspan': 'off', 'ws': 'no',\n"
        "                     'workers': 1, 'use_colors': False}\n"
    )
    done = check(
        *("-k", "mine.Mine", "main:app"), command=COMMAND[:4], UVWORKER_MAX_RSS="lots"
    )
    assert done.returncode == 1
    said = done.stdout.partition("Problems")[2]
    for name in "reload", "lifspan", "ws", "UVWORKER_MAX_RSS":
        assert name in said, done
    assert len(said.strip().splitlines()) == 4, said


def test_env_file_without_python_dotenv_fails(check, tmp_path):
    (tmp_path / "dotenv.py").write_text("raise ModuleNotFoundError\n")  # as if
    done = check(UVICORN_ENV_FILE=".env")
    assert done.returncode == 1
    assert "pip install python-dotenv" in done.stdout


def test_a_refused_setting_fails(check):
    done = check(conf="limit_request_line = 100", UVICORN_HTTP="h11")
    assert done.returncode == 1
    assert "limit_request_line = 100" in done.stdout


def test_what_the_machine_lacks_fails(check):
    done = check(conf="worker_tmp_dir = '/no/such/directory'")
    assert done.returncode == 1
    assert "cannot hold the heartbeat files" in done.stdout


def test_a_subclass_is_checked(check, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import uvworker\n"
        "class Mine(uvworker.Worker):\n"
        "    CONFIG_KWARGS = {'lifspan': 'off'}\n"
    )
    done = check("-k", "mine.Mine", "main:app", command=COMMAND[:4])
    assert done.returncode == 1
    assert "did you mean lifespan?" in done.stdout


def test_an_app_that_does_not_import_fails_with_its_traceback(check, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    done = check("broken:app")
    assert done.returncode == 1
    assert "broken:app does not import" in done.stdout
    assert "ZeroDivisionError" in done.stderr


def test_an_app_that_is_not_there_fails_in_one_sentence(check):
    done = check("main:ap")
    assert done.returncode == 1
    assert "Failed to find attribute 'ap' in 'main'" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_factory_is_called_as_a_worker_calls_it(check, tmp_path):
    (tmp_path / "made.py").write_text(
        "async def app(scope, receive, send): ...\n"
        "def wsgi(environ, start_response): ...\n"
        "def create(): return app\n"
        "def create_wsgi(): return wsgi\n"
        "async def create_async(): return app\n"
    )
    assert check("made:create").returncode == 0
    assert "is a WSGI app" in check("made:create_wsgi").stdout
    assert "returned a coroutine" in check("made:create_async").stdout


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--worker-tmp-dir", "cannot hold the heartbeat files"),
        ("--certfile", "certfile no/such does not exist"),
        ("--ca-certs", "ca_certs no/such does not exist"),
    ],
)
def test_what_the_configuration_needs_and_is_missing_fails(check, argument, said):
    done = check("main:app", argument, "no/such")
    assert done.returncode == 1
    assert said in done.stdout


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("UVICORN_HTTP", "http_parser 'nowhere:Thing' cannot be imported: No module"),
        ("UVICORN_LOOP", "asgi_loop 'nowhere:Thing' cannot be imported: No module"),
        ("UVICORN_WS", "ws 'nowhere:Thing' cannot be imported: No module"),
    ],
)
def test_a_class_that_cannot_be_imported_fails(check, variable, said):
    done = check(**{variable: "nowhere:Thing"})
    assert done.returncode == 1
    assert said in done.stdout
    assert check(**{variable: "pathlib:Path"}).returncode == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("UVICORN_HTTP", "main:app", "which is not a class."),
        ("UVICORN_LOOP", "string:digits", "is '0123456789', which is not callable."),
        ("UVICORN_WS", "string:digits", "is '0123456789', which is not callable."),
    ],
)
def test_what_cannot_be_called_fails(check, variable, value, said):
    done = check(**{variable: value})
    assert done.returncode == 1
    assert said in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-b", "foo:bar"], "bind foo:bar: 'bar' is not a valid port number."),
        (["-b", "127.0.0.1:99999"], "99999: a port is at most 65535."),
        (["-b", "no.such.invalid:80"], "80: the host no.such.invalid has no address"),
        (["-b", "192.0.2.1:80"], "192.0.2.1 is not an address of this machine."),
        (["-b", "unix:no/such/a"], "/a: the directory no/such does not exist."),
        (["-b", "unix:main.py"], "main.py: there is a file that is not a socket."),
        (["-b", "unix:" + 99 * "long"], "the path of a unix socket has at most 107"),
        (["-p", "no/such/a"], "pidfile no/such/a: the directory no/such does not"),
        (["-p", "/tmp"], "pidfile /tmp: this is a directory."),
        (
            ["-e", "UVWORKER_OPS_BIND=unix:no/a"],
            "no/a: the directory no does not exist",
        ),
        (
            ["-e", "UVWORKER_OPS_BIND=no.invalid:80", "-e", "UVWORKER_OPS_PUBLIC=1"],
            "ops_bind no.invalid:80: the host no.invalid has no address",
        ),
    ],
)
def test_a_place_that_the_service_cannot_have_fails(check, arguments, said):
    done = check("main:app", *arguments)
    assert done.returncode == 1
    assert said in done.stdout.partition("Problems")[2]


def test_a_place_in_use_passes_and_nothing_is_left_in_it(check, tmp_path):
    before = {*tmp_path.iterdir()}
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket(socket.AF_UNIX) as theirs,
    ):
        theirs.bind(f"{tmp_path}/app.sock")
        port = taken.getsockname()[1]
        done = check(
            *("main:app", "-b", f"127.0.0.1:{port}", "-b", "unix:app.sock"),
            *("-b", "[::1]:0", "-b", "unix:new.sock", "-b", "fd://77", "-p", "app.pid"),
            *("-e", f"UVWORKER_OPS_BIND=localhost:{port}"),
        )
    assert done.returncode == 0, done
    made = {path.name for path in {*tmp_path.iterdir()} - before}
    assert made <= {"app.sock", "gunicorn.conf.py", "__pycache__"}


@gunicorn_lacks("http_protocols")
def test_http2_that_the_parser_does_not_speak_fails(check):
    done = check(conf="http_protocols = 'h2,h1'", UVICORN_HTTP="h11")
    assert done.returncode == 1
    assert "http_parser 'h11' does not speak HTTP/2" in done.stdout


def test_an_access_log_that_no_worker_can_write_fails(check):
    done = check("main:app", "--access-logfile", "-", "--access-logformat", "%(h)s %")
    assert done.returncode == 1
    assert "access_log_format '%(h)s %' is not usable: " in done.stdout


def test_a_wsgi_app_is_recognised(check, tmp_path):
    (tmp_path / "wsgi.py").write_text("def app(environ, start_response): ...\n")
    assert 'interface = "wsgi"' in check("wsgi:app").stdout
    assert check("wsgi:app", UVICORN_INTERFACE="wsgi").returncode == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sync", "SyncWorker"),
        ("mine.Other", "mine.Other"),
        ("uvworker.Workr", "There is no worker class uvworker.Workr"),
        ("mine.number", "The worker class is 3, which is not a class"),
        ("mine.function", "which is not a class; uvworker.Worker is one."),
    ],
)
def test_another_worker_class_fails(check, tmp_path, name, said):
    (tmp_path / "mine.py").write_text(
        "class Other:\n    CONFIG_KWARGS = {}\nnumber = 3\ndef function(): ...\n"
    )
    done = check("-k", name, "main:app", command=COMMAND[:4])
    assert done.returncode == 1
    assert said in done.stdout


def test_the_app_is_found_as_gunicorn_finds_it(check, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "inner.py").write_text(APP)
    assert check("--pythonpath", "lib", "inner:app").returncode == 0


def test_gunicorn_says_what_it_does_not_take(check):
    assert check("--no-such-flag", "main:app").returncode == 2
    done = check("-k", "no.such.Worker", "main:app")
    assert done.returncode == 1
    assert "no.such.Worker" in done.stderr


def test_a_password_is_not_shown(check):
    done = check(
        "main:app", "-e", "TOKEN=hunter2", UVICORN_SSL_KEYFILE_PASSWORD="s3cret"
    )
    assert done.returncode == 0
    assert "ssl_keyfile_password" in done.stdout
    assert "hunter2" not in done.stdout
    assert "s3cret" not in done.stdout


def test_the_generated_pages_are_in_step():
    script = str(ROOT / "docs" / "generate.py")
    done = subprocess.run([sys.executable, script, "--check"], check=False)
    assert done.returncode == 0


def test_the_reference_names_everything_public():
    page = (ROOT / "docs" / "reference.md").read_text()
    public = [
        *(f"uvworker.{name}" for name in uvworker.__all__),
        *defaults.__all__,
        *table(),
        *(variable_of(name, row) for name, row in table().items()),
    ]
    assert [name for name in public if f"`{name}`" not in page] == []
