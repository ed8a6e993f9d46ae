"""What statsd gets of the service, besides what gunicorn's logger sends of requests."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.conftest import Serve
from tests.tools.apps import LIFE
from tests.tools.service import PATIENCE

GAUGES = {
    "app.uvworker.workers.serving:2|g",
    "app.uvworker.workers.booting:0|g",
    "app.uvworker.workers.unhealthy:0|g",
    "app.uvworker.connections:1|g",
    "app.uvworker.requests_in_flight:1|g",
    "app.uvworker.backlog:0|g",
    "app.uvworker.reloads.good:0|g",
}


def test_statsd_gets_the_gauges_of_the_whole_service(
    serve: Serve, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(2 * PATIENCE)
        host, port = statsd.getsockname()
        to = ("--statsd-host", f"{host}:{port}", "--statsd-prefix", "app")
        (tmp_path / "hold-request").touch()
        service = serve(LIFE, "-w", "2", *to, wait=2)
        request = service.begin()
        seen: set[str] = set()
        while not seen >= GAUGES:
            seen.add(statsd.recv(4096).decode())
        names = {line.partition(":")[0] for line in seen if line.endswith("|ms")}
        assert names == {"app.uvworker.worker.boot", "app.uvworker.loop_lag"}
        (tmp_path / "hold-request").unlink()
        assert request.getresponse().status == 200
