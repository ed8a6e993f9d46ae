"""Serve one request from the uvworker that this Python has installed, and stop.

Run by ``make dist`` in an environment that has the wheel and its dependencies only, so
it imports nothing of the tests. Exits with an error if the request is not answered or
the stop is not clean.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""
PATIENCE = 60  # seconds for each step, on a machine that does much else


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "main.py").write_text(APP)
        gunicorn = Path(sys.executable).with_name("gunicorn")
        command = [gunicorn, "-k", "uvworker.Worker", "-b", "127.0.0.1:0", "main:app"]
        with subprocess.Popen(
            command, cwd=directory, stderr=subprocess.PIPE, text=True
        ) as service:
            try:
                _request(service)
            finally:
                service.send_signal(signal.SIGTERM)
                service.communicate(timeout=PATIENCE)
    if service.returncode != 0:
        sys.exit(f"gunicorn ended with {service.returncode}")


def _request(service: subprocess.Popen[str]) -> None:
    port = None
    assert service.stderr is not None
    for line in service.stderr:
        if found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line):
            port = found[1]
        if "startup complete" in line:
            break
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as r:
        body = r.read()
    if body != b"served":
        sys.exit(f"answered {body!r}")
    print(f"the wheel in {sys.prefix} served a request")  # noqa: T201


if __name__ == "__main__":
    main()
