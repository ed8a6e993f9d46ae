"""A real Prometheus with the files of ``conf/``, scraping a service that changes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve
from tests.deploy.shipped import CONF
from tests.service.operations.conftest import Operated
from tests.tools.certificates import Certificates
from tests.tools.load import ECHO, Client, Load
from tests.tools.proxies import needs, running
from tests.tools.service import PATIENCE, reserved_port, wait_for

needs_prometheus = needs("prometheus")
FILES = CONF / "prometheus"
TARGET = "127.0.0.1:9090"
JOB = 'job="uvworker"'
SLOW = 3 * PATIENCE  # what has to be served, scraped and asked for
KINDS = "(total|count|sum|bucket)"
ANSWERED = f"sum(http_server_request_duration_seconds_count{{{JOB}}})"


def promtool(*arguments: str, directory: Path = FILES, given: str = "") -> None:
    told = subprocess.run(
        ["promtool", *arguments],
        cwd=directory,
        input=given,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (told.returncode, told.stderr) == (0, ""), told.stdout + told.stderr


class Prometheus:
    """One that runs, and has loaded what we ship."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, query: str) -> list[float]:
        """Return the values of what *query* finds now."""
        found = self.ask("/query", query=query)
        if found["resultType"] == "scalar":
            return [float(found["result"][1])]
        return [float(each["value"][1]) for each in found["result"]]

    def value(self, query: str) -> float | None:
        found = self.query(query)
        assert len(found) <= 1, query
        return found[0] if found else None

    def is_up(self) -> bool:
        return self.value(f"up{{{JOB}}}") == 1


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[int], Prometheus]]:
    """Start one that scrapes a port, as often as it can."""
    directory = tmp_path / "prometheus"
    shutil.copytree(FILES, directory)
    conf = directory / "prometheus.yml"
    with reserved_port() as own:
        pass  # it sets no SO_REUSEPORT itself, so that two could not share it
    command = [
        "prometheus",
        f"--config.file={conf}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
        "--log.level=warn",
    ]
    stack = ExitStack()

    def start(port: int) -> Prometheus:
        text = conf.read_text()
        assert TARGET in text
        text = text.replace(TARGET, f"127.0.0.1:{port}").replace("15s", "1s")
        conf.write_text(text.replace("scrape_interval: 1s", "scrape_interval: 250ms"))
        stack.enter_context(running(command, directory, own))
        api = f"http://127.0.0.1:{own}/api/v1"
        client = httpx.Client(base_url=api, timeout=PATIENCE)
        return Prometheus(stack.enter_context(client))

    with stack:
        yield start


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_what_we_ship(arguments: tuple[str, ...]) -> None:
    promtool(*arguments)


def test_each_alert_has_a_unit_test_and_a_line_for_the_runbook() -> None:
    rules = (FILES / "rules.yml").read_text()
    names = re.findall(r"- alert: (\w+)", rules)
    tested = re.findall(
        r"- name: (Uvworker\w+)", (FILES / "rules_test.yml").read_text()
    )
    assert set(names) == set(tested)
    assert rules.count("runbook: ") == rules.count("summary: ") == len(names)
    page = (CONF.parent / "docs" / "metrics.md").read_text()
    assert [name for name in names if f"`{name}`" not in page] == []


@needs_prometheus
def test_promtool_finds_no_fault_in_the_metrics(
    serve: Serve, port: int, certificates: Certificates
) -> None:
    env = {"UVWORKER_OPS_BIND": f"127.0.0.1:{port}"}
    operated = Operated(serve(ECHO, *certificates.arguments, env=env), port)
    promtool("check", "metrics", given=operated.ask("/metrics").text)


def queries() -> Iterator[tuple[str, str]]:
    """Yield the title and the query of each panel of the dashboard."""
    board = json.loads((CONF / "grafana" / "uvworker.json").read_text())
    values = {
        "$__rate_interval": "5s",
        "$job": "uvworker",
        "$instance": ".*",
    }
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in values.items():
                query = query.replace(name, value)
            assert "$" not in query
            yield panel["title"], query
    for annotation in board["annotations"]["list"]:
        query = annotation["expr"]
        for name, value in {**values, "$__rate_interval": "10m"}.items():
            query = query.replace(name, value)
        yield annotation["name"], query


@needs_prometheus
def test_its_queries_give_what_the_load_client_counted(
    serve: Serve, port: int, prometheus: Callable[[int], Prometheus]
) -> None:
    """Through reloads, recycling and SIGKILL; and each query of the dashboard works."""
    env = {"UVWORKER_OPS_BIND": f"127.0.0.1:{port}"}
    # gunicorn waits for so long before it handles what comes after a HUP.
    limits = ("--max-requests", "150", "--graceful-timeout", "5")
    full = ("--worker-connections", "100")
    service = serve(ECHO, "-w", "2", *limits, *full, env=env, wait=2)
    watch = prometheus(port)
    wait_for(watch.is_up, "the first scrape")
    with Load(("127.0.0.1", service.port), pause=0.02) as load:
        for boots in (4, 6):
            before = service.workers()
            service.kill(signal.SIGHUP)
            for worker in before:
                service.wait_gone(worker)
            service.ready(boots)
            load.answer(50)
        wait_for(
            lambda: watch.value(
                f'sum(uvworker_worker_exits_total{{{JOB}, reason="max_requests"}})'
            ),
            "a recycled worker",
            SLOW,
        )
    assert load.failures == []
    answered = load.answered

    client = Client(("127.0.0.1", service.port))
    killed = client.exchange()
    assert killed.failure == ""
    client.close()
    answered += 1
    wait_for(
        lambda: watch.value(ANSWERED) == answered,
        f"{answered} requests",
        SLOW,
    )
    service.kill(signal.SIGKILL, killed.pid)
    signals = f'uvworker_worker_exits_total{{{JOB}, signal="SIGKILL"}}'
    wait_for(lambda: watch.value(signals) == 1, "a killed worker")
    assert watch.value(ANSWERED) == answered
    assert watch.value(f"sum(uvworker_worker_requests_total{{{JOB}}})") == answered
    sizes = f"sum(http_server_request_body_size_bytes_count{{{JOB}}})"
    assert watch.value(sizes) == answered
    assert watch.value(f'uvworker_reloads_total{{{JOB}, result="good"}}') == 2
    names = watch.ask("/label/__name__/values")
    counters = [n for n in names if re.fullmatch(r"(http|uvworker)_.*_" + KINDS, n)]
    assert len(counters) > 20
    for name in counters:
        assert set(watch.query(f"resets({name}[10m])")) == {0}, name

    for title, query in queries():
        wait_for(
            lambda query=query: watch.query(query) or "certificate" in query,
            f"data of {title}: {query}",
            SLOW,
        )
    alerts = {each["labels"]["alertname"] for each in watch.ask("/alerts")["alerts"]}
    assert "UvworkerServesNothing" not in alerts
