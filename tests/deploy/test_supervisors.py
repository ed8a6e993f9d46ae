"""The files of ``conf/`` for supervisor and for platforms that read a Procfile."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.load import ECHO, Load
from tests.tools.service import PATIENCE, wait_for

from .shipped import CONF, shipped

BIN = Path(sys.executable).parent

SUPERVISORD = """
[supervisord]
nodaemon=true
directory={directory}
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
[unix_http_server]
file={directory}/supervisor.sock
[supervisorctl]
serverurl=unix://{directory}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files={file}
"""


def needs_tool(name: str) -> pytest.MarkDecorator:
    missing = not (BIN / name).exists() and "CI" not in os.environ
    return pytest.mark.skipif(missing, reason=f"{name} is not installed")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(ECHO)
    shutil.copy(CONF / "gunicorn.conf.py", tmp_path)
    return tmp_path


@contextmanager
def running(command: list[str], app: Path, port: int) -> Iterator[Callable[[], str]]:
    """Run a supervisor for a ``with`` block; yields what reads its output."""
    log = app / "output"
    path = f"{BIN}:{os.environ['PATH']}"
    variables = {"PATH": path, "PORT": str(port), "WEB_CONCURRENCY": "2"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=app,
            env={**os.environ, **variables},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield log.read_text
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(2 * PATIENCE)
        print(log.read_text())  # noqa: T201  on failure


@needs_tool("supervisord")
def test_supervisor_reloads_without_a_failed_request(app: Path, port: int) -> None:
    log = app / "app.log"
    changes = {
        "directory=/opt/app": f"directory={app}",
        "/opt/app/venv/bin": str(BIN),
        "www-data": getpass.getuser(),
        "/var/log/supervisor/uvworker.log": str(log),
    }
    file = shipped("supervisor/uvworker.conf", changes, app)
    conf = app / "supervisord.conf"
    conf.write_text(SUPERVISORD.format(directory=app, file=file))
    supervisord = [str(BIN / "supervisord"), "-c", str(conf)]
    ready = "Application startup complete"
    with running(supervisord, app, port):
        wait_for(lambda: log.exists() and log.read_text().count(ready) == 2, ready)
        with Load(("127.0.0.1", port)) as load:
            control = [BIN / "supervisorctl", "-c", conf, "signal", "HUP", "uvworker"]
            subprocess.run(control, check=True, capture_output=True)
            wait_for(lambda: log.read_text().count(ready) == 4, "new workers")
            load.answer(100)
        assert load.failures == []
    assert "Shutting down: Master" in log.read_text()


@needs_tool("honcho")
def test_procfile_serves_on_the_platforms_port(app: Path, port: int) -> None:
    shutil.copy(CONF / "Procfile", app)
    honcho = [str(BIN / "honcho"), "start", "--no-prefix"]
    with running([*honcho, "web"], app, port) as output:
        wait_for(lambda: output().count("Application startup complete") == 2, "ready")
        with Load(("127.0.0.1", port)) as load:
            load.answer(10)
        assert load.failures == []
    assert "Shutting down: Master" in output()
    release = [str(BIN / "honcho"), "run", "sh", "-c"]
    line = (CONF / "Procfile").read_text().splitlines()[0].removeprefix("release: ")
    assert subprocess.run([*release, line], cwd=app, check=True).returncode == 0
