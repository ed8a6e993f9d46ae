"""Autobahn's fuzzing client against a worker of ours: ``make autobahn``.

``python autobahn.py WSTEST [CASE ...]`` starts gunicorn with an app that echoes, lets
WSTEST run the cases (such as ``1.*``; all of them without), and exits with 1 if one
fails. A case that is passed but not strictly (NON-STRICT: a fault was answered before
what came in front of it) counts as passed, as in Autobahn's own reports.
"""

# ruff: noqa: T201  # it is a command

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.tools.service import CONF, Service

ECHO = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
"""

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
NAME = "uvworker"


def main(wstest: str, *cases: str) -> int:
    with TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "main.py").write_text(ECHO)
        (directory / "gunicorn.conf.py").write_text(CONF)
        service = Service(directory).ready()
        try:
            results = _run(Path(wstest).resolve(), directory, service.port, cases)
        finally:
            service.stop()
            service.sweep()
        return _report(results, service.log)


def _run(
    wstest: Path, directory: Path, port: int, cases: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Return what Autobahn found in each case."""
    specification = {
        "outdir": str(directory / "reports"),
        "servers": [{"agent": NAME, "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases or ["*"],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path = directory / "specification.json"
    path.write_text(json.dumps(specification))
    command = [str(wstest), "-m", "fuzzingclient", "-s", str(path)]
    subprocess.run(command, check=True, cwd=directory)
    index = json.loads((directory / "reports" / "index.json").read_text())
    return index[NAME]  # type: ignore[no-any-return]


def _report(results: dict[str, dict[str, Any]], log: str) -> int:
    verdicts = Counter(result["behavior"] for result in results.values())
    print(f"{len(results)} cases: {dict(verdicts)}")
    failed = [
        name
        for name, result in results.items()
        if not PASSED.issuperset((result["behavior"], result["behaviorClose"]))
    ]
    for name in failed:
        print(f"{name}: {results[name]}")
    if "Traceback" in log:
        print(log)
    return bool(failed or "Traceback" in log)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
