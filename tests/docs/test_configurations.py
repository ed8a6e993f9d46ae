"""What the pages promise of their configurations, each with the app of its section."""

from __future__ import annotations

import json
import re
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from tests.conftest import HELLO, Serve
from tests.docs.pages import Block, blocks, section
from tests.tools.certificates import Certificates
from tests.tools.service import PATIENCE, Service, wait_for

CONFS = [block for block in blocks() if block.file == "gunicorn.conf.py"]
Run = Callable[..., Service]


@pytest.fixture
def run(serve: Serve, tmp_path: Path, certificates: Certificates) -> Run:
    """Serve the files of a section, where those that its configuration names are."""
    assert certificates.certfile.exists()
    (tmp_path / "migrate.py").write_text("open('migrated', 'x').close()")

    def start(
        page: str,
        heading: str,
        workers: int = 1,
        changed: dict[str, str] | None = None,
        env: dict[str, str | None] | None = None,
    ) -> Service:
        files = {"main.py": HELLO, **section(page, heading), **(changed or {})}
        conf = files["gunicorn.conf.py"]
        return serve(files["main.py"], conf=conf, worker="", wait=workers, env=env)

    return start


@pytest.mark.parametrize("conf", CONFS, ids=str)
def test_a_configuration_serves(run: Run, conf: Block) -> None:
    service = run(conf.page, conf.heading, changed={conf.file: conf.text})
    assert service.stop() == 0
    assert "ERROR" not in service.log


def test_the_log_is_as_shown(run: Run) -> None:
    [shown] = [block for block in blocks() if block.text.startswith("[2026-")]
    log = run("getting-started.md", "Settings in a file").log
    for line in shown.text.splitlines():
        words = re.sub(r"\d+", r"\\d+", re.escape(line.partition("[INFO]")[2]))
        assert re.search(words, log), line


def test_tls_is_served(run: Run, certificates: Certificates) -> None:
    service = run("server-workers.md", "HTTPS")
    trusted = ssl.create_default_context(cafile=certificates.ca_certs)
    url = service.url.replace("http:", "https:")
    assert httpx.get(url, verify=trusted, timeout=PATIENCE).text == "Hello, world!"


def test_a_dead_worker_is_replaced(run: Run) -> None:
    service = run("server-workers.md", "Restarts")
    [worker] = service.workers()
    service.kill(signal.SIGKILL, worker)
    service.ready(2)
    assert service.get().status_code == 200


def test_a_step_before_the_start_runs_once(run: Run, tmp_path: Path) -> None:
    run("server-workers.md", "Steps before starting")  # a second run would fail
    assert (tmp_path / "migrated").exists()


def test_the_access_log_names_the_request(run: Run) -> None:
    service = run("logging.md", "The access log")
    service.get("/tea", headers={"X-Request-ID": "r-1"})
    line = r'127\.0\.0\.1 "GET /tea HTTP/1\.1" 200 13 \d+ms r-1'
    wait_for(lambda: re.search(line, service.out), "the access line")


def test_json_lines_have_the_fields_that_the_page_names(run: Run) -> None:
    service = run("logging.md", "JSON")
    service.get("/tea", headers={"traceparent": "00-1-2-01"})
    wait_for(lambda: "/tea" in service.out, "the access line")
    line = json.loads(service.out)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/tea", 200)
    assert line["traceparent"] == "00-1-2-01"
    assert {"time", "duration_ms", "client_addr", "request_id", "worker_id"} <= {*line}


def test_structlog_has_both_logs_and_the_apps(run: Run) -> None:
    heading = "Both logs, and the app's, through one handler"
    service = run("logging.md", heading)
    assert service.get().text == "ordered"
    loggers = {"gunicorn.error", "gunicorn.access", "shop"}

    def written() -> bool:
        lines = [json.loads(line) for line in service.log.splitlines()]
        return {line["logger"] for line in lines} >= loggers

    wait_for(written, "a JSON line of each")
    assert '"item": "tea"' in service.log


def test_loguru_has_both_logs(run: Run) -> None:
    service = run("logging.md", "loguru")
    service.get("/tea")
    service.wait_log(r"INFO gunicorn\.access: .*GET /tea")
    service.wait_log(r"INFO gunicorn\.error: Application startup complete")


def test_a_filter_keeps_probes_out_of_the_access_log(run: Run) -> None:
    service = run("logging.md", "`uvicorn.access`")
    service.get("/healthz")
    service.get("/")
    wait_for(lambda: "GET / " in service.out, "the other request")
    assert "healthz" not in service.out


def test_opentelemetry_exports_from_each_worker(run: Run) -> None:
    service = run("logging.md", "OpenTelemetry")
    [worker] = service.workers()
    assert service.get().text == "hello"
    assert service.stop() == 0
    assert f'"process.pid": {worker}' in service.out
    assert '"name": "GET' in service.out


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Take what Sentry's client sends; yield its DSN and the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://key@127.0.0.1:{server.server_port}/1", bodies
        server.shutdown()


def test_sentry_gets_an_apps_error(run: Run) -> None:
    with collector() as (dsn, bodies):
        service = run("logging.md", "Sentry", env={"SENTRY_DSN": dsn})
        assert service.get().status_code == 500
        assert service.stop() == 0
        assert bodies


def test_prometheus_adds_up_the_workers(run: Run) -> None:
    service = run("recipes.md", "Prometheus: the app's own metrics", workers=2)
    for _ in range(8):
        service.get("/order")
    assert "orders_total 8.0" in service.get("/metrics/").text


def test_each_worker_has_a_gpu_of_its_own(run: Run) -> None:
    seen = "import os\nos.write(1, os.environ['CUDA_VISIBLE_DEVICES'].encode())\n"
    heading = "A GPU for each worker"
    service = run("recipes.md", heading, workers=2, changed={"main.py": seen + HELLO})
    assert set(service.out) == {"0", "1"}


def test_one_worker_runs_the_scheduler_until_another_takes_over(run: Run) -> None:
    service = run("recipes.md", "One scheduler among workers", workers=2)
    [first] = set(service.wait_said("runs what is due", 2))
    service.kill(signal.SIGKILL, first)
    wait_for(lambda: len(set(service.said("runs what is due"))) == 2, "the next one")
    pids = service.said("runs what is due")
    assert sorted(pids, key=[first].__contains__, reverse=True) == pids  # no mixture


def test_a_large_upload_is_streamed_and_limited(run: Run) -> None:
    service = run("recipes.md", "Large uploads")
    sent = httpx.put(service.url, content=b"x" * 300_000, timeout=PATIENCE)
    assert sent.text == "300000 bytes"
    with service.connect() as client:
        client.sendall(
            b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000000\r\n\r\n"
        )
        assert client.recv(99).startswith(b"HTTP/1.1 413 ")


def test_only_a_client_with_a_certificate_is_served(
    run: Run, certificates: Certificates
) -> None:
    service = run("recipes.md", "Clients with certificates (mTLS)")
    url = service.url.replace("http:", "https:")
    known = httpx.get(url, verify=certificates.client("ann"), timeout=PATIENCE)
    assert "CN=ann" in known.text
    with pytest.raises(httpx.TransportError):
        httpx.get(url, verify=certificates.client(), timeout=PATIENCE)
