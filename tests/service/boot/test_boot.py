"""How a worker boots: its loop, its app, its listeners, its user, its logs."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.tools.service import PATIENCE, READY, alive, gunicorn_lacks, wait_for

# Answers with what the worker's process is like.
REPORT = """
import asyncio, json, os, sys

loaded_by = os.getpid()

async def app(scope, receive, send):
    assert scope["type"] == "http"
    report = {
        "loop": type(asyncio.get_running_loop()).__module__,
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "loaded_by": loaded_by,
        "cwd": os.getcwd(),
        "server": scope["server"],
        "uid": os.getuid(),
        "gid": os.getgid(),
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(report).encode()})
"""

FACTORY = """
def create_app(name="nobody"):
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": name.encode()})
    return app

def create_named(name):
    return create_app(name)
"""

# Becomes gunicorn with a listener as descriptor 3, as systemd starts a service.
SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def over(address: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(address))
    return httpx.Client(transport=transport, base_url="http://unix", timeout=PATIENCE)


# Logs and the loop


def test_every_worker_says_under_its_pid_that_the_app_is_up(serve: Serve) -> None:
    service = serve(REPORT, "-w", "2", wait=2)
    booting = service.wait_log(r"\[(\d+)\] \[INFO\] Booting worker with pid: \1\n", 2)
    up = service.wait_log(
        r"\[(\d+)\] \[INFO\] Application startup complete \(worker [01]\)\.\n", 2
    )
    assert {line[1] for line in booting} == {line[1] for line in up}
    assert {int(line[1]) for line in up} == set(service.workers())


def test_the_loop_is_uvloop_where_it_is_installed(serve: Serve) -> None:
    assert serve(REPORT).get().json()["loop"] == "uvloop"


def test_the_loop_is_asyncio_where_uvloop_is_missing(serve: Serve) -> None:
    service = serve(REPORT, conf="import sys; sys.modules['uvloop'] = None")
    assert service.get().json()["loop"].startswith("asyncio")


@gunicorn_lacks("asgi_loop")
def test_the_loop_is_asyncio_where_it_is_asked_for(serve: Serve) -> None:
    service = serve(REPORT, conf="asgi_loop = 'asyncio'")
    assert service.get().json()["loop"].startswith("asyncio")


def test_h11_worker_needs_nothing_compiled(serve: Serve) -> None:
    without = "import sys; sys.modules.update(uvloop=None, httptools=None)"
    service = serve(REPORT, conf=without, worker="uvworker.H11Worker")
    assert service.get().json()["loop"].startswith("asyncio")


def test_the_loop_is_fresh_when_the_arbiter_used_one(serve: Serve) -> None:
    used = "import asyncio; asyncio.run(asyncio.sleep(0))"
    service = serve(used + REPORT, "--preload", "-w", "2", wait=2)
    reports = wait_for_both(service.url)
    assert {report["loaded_by"] for report in reports} == {service.pid}


def wait_for_both(url: str) -> list[dict[str, object]]:
    reports: dict[int, dict[str, object]] = {}

    def both() -> bool:
        report = httpx.get(url, timeout=PATIENCE).json()
        reports[report["pid"]] = report
        return len(reports) == 2

    wait_for(both, "answers of both workers")
    return list(reports.values())


# The app


@pytest.mark.parametrize(
    ("app", "answer"),
    [("main:create_app()", "nobody"), ("main:create_named('ada')", "ada")],
)
def test_a_factory_is_called_as_gunicorn_calls_it(
    serve: Serve, app: str, answer: str
) -> None:
    service = serve(FACTORY, app=app)
    assert service.get().text == answer
    assert "WARNING" not in service.log


def test_a_factory_without_parentheses_is_called_with_a_warning(serve: Serve) -> None:
    plain = FACTORY.replace('name="nobody"', "").replace("name.encode()", "b'plain'")
    service = serve(plain, app="main:create_app")
    assert service.get().text == "plain"
    assert len(service.wait_log(r"\[WARNING\] .*called as a factory")) == 1


def test_the_app_is_loaded_in_each_worker_without_preload(serve: Serve) -> None:
    report = serve(REPORT).get().json()
    assert report["loaded_by"] == report["pid"]


def test_chdir_and_pythonpath_find_the_app(serve: Serve, tmp_path: Path) -> None:
    for name in ("work", "lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "lib" / "elsewhere.py").write_text(REPORT)
    (tmp_path / "work" / "found.py").write_text("from elsewhere import app")
    options = "--chdir", "work", "--pythonpath", str(tmp_path / "lib")
    report = serve(REPORT, *options, app="found:app").get().json()
    assert report["cwd"] == str(tmp_path / "work")


def test_a_configuration_file_says_what_the_command_line_may(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "import uvworker\n"
        "wsgi_app = 'main:app'\n"
        "bind = '127.0.0.1:0'\n"
        "control_socket_disable = True\n"
        "workers = 2\n"
        "worker_class = uvworker.Worker\n"
    )
    service = serve(REPORT, "-c", "mine.py", app="", bind="", worker="", wait=2)
    assert service.get().json()["pid"] in service.workers()


# Listeners


def test_several_binds_serve_at_once(serve: Serve, tmp_path: Path) -> None:
    unix = tmp_path / "app.sock"
    binds = "-b", f"unix:{unix}", "-b", "[::1]:0"
    service = serve(REPORT, *binds)
    port = service.wait_log(r"http://\[::1\]:(\d+)")[0][1]
    assert service.get().json()["server"] == ["127.0.0.1", service.port]
    six = httpx.get(f"http://[::1]:{port}/", timeout=PATIENCE)
    assert six.json()["server"] == ["::1", int(port)]
    with over(unix) as client:
        assert client.get("/").status_code == 200
    assert service.stop() == 0
    assert not unix.exists()


def test_umask_is_that_of_the_socket(serve: Serve, tmp_path: Path) -> None:
    unix = tmp_path / "app.sock"
    serve(REPORT, "--umask", "0o027", bind=f"unix:{unix}")
    assert unix.stat().st_mode & 0o777 == 0o750


def test_a_listener_is_taken_over_by_its_descriptor(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        serve(REPORT, bind=f"fd://{fd}", pass_fds=[fd])
        port = listener.getsockname()[1]
        answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE)
    assert answer.json()["server"] == ["127.0.0.1", port]


def test_a_listener_is_taken_over_from_systemd(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        under = sys.executable, "-c", SYSTEMD, str(fd)
        service = serve(REPORT, bind="", under=under, pass_fds=[fd])
        port = listener.getsockname()[1]
        answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=PATIENCE)
        assert answer.json()["ppid"] == service.pid


def test_reuse_port_serves_from_every_worker(serve: Serve, port: int) -> None:
    bind = f"127.0.0.1:{port}"
    service = serve(REPORT, "--reuse-port", "-w", "2", bind=bind, wait=2)
    pids = {report["pid"] for report in wait_for_both(f"http://{bind}")}
    assert pids == set(service.workers())


# The process


# Lets a process that changes user keep root's right to read: this Python environment
# may be in root's home. What the test asserts, the kernel tells all the same.
STILL_READS = "setpriv", "--securebits", "+no_setuid_fixup"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may change user")
def test_the_worker_runs_as_user_and_group(serve: Serve) -> None:
    who = "--user", "12345", "--group", "12346"
    report = serve(REPORT, *who, "-w", "2", under=STILL_READS, wait=2).get().json()
    assert (report["uid"], report["gid"]) == (12345, 12346)


def test_pid_file_names_the_arbiter_and_is_removed(
    serve: Serve, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    service = serve(REPORT, "--pid", str(pid_file))
    assert int(pid_file.read_text()) == service.pid
    assert service.stop() == 0
    assert not pid_file.exists()


def test_daemon_detaches_and_serves(serve: Serve, tmp_path: Path) -> None:
    pid_file, log = tmp_path / "pid", tmp_path / "error.log"
    options = "--daemon", "--pid", str(pid_file), "--error-logfile", str(log)
    front = serve(REPORT, *options, wait=0)
    assert front.wait_exit() == 0
    wait_for(pid_file.exists, "a pid file")
    pid = int(wait_for(pid_file.read_text, "a pid in the pid file"))
    try:
        wait_for(lambda: READY in log.read_text(), "the daemon's worker")
        front.log_path = log
        assert front.get().json()["ppid"] == pid
        assert os.getsid(pid) != front.pid
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not alive(pid), "the daemon gone")
    assert re.search(r"Shutting down: Master", log.read_text())
