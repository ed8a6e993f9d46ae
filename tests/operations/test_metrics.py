"""The metrics as text: Prometheus' own parsers read what the facts say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

import tests
from tests.tools.tallies import alone
from uvworker.access.tally import refused
from uvworker.operations.exposition import render
from uvworker.operations.facts import Counts, Listener, Reloads, Times, WorkerFacts
from uvworker.operations.metrics import FAMILIES

from .test_health import service

ODD = 'a "quoted" back\\slash\nand a line'


def facts():
    tally = alone()
    tally.count("GET", 200, 0.003, 0, 10)
    tally.count("GET", 200, 20.0, 0, 10)
    tally.count("BREW", 418, 0.2, 7, 0)
    tally.refuse(414)
    tally.refuse(499)
    worker = WorkerFacts(
        3,
        9,
        "serving",
        boot_seconds=1.5,
        rss=1 << 20,
        descriptors=7,
        most_descriptors=1024,
        certificate_expires=1795643730,
    )
    return service(
        worker,
        versions={"uvworker": "0.1", "python": ODD},
        started_at=1795643730.284708,
        exits={"killed": 3, "term": 0},
        signals={"SIGSEGV": 2, "unknown": 1},
        reloads=Reloads(good=1, failed=1, last=1795643731.5, last_failed=True),
        connections_limit=100,
        counts=Counts(
            requests={0: 2, 3: 1},
            cpu_seconds={0: 1.5, 3: 0.5},
            accept_pauses={"full": 2, "starved": 0},
            refused=refused(tally.words.tolist()),
            boots=Times(2, 3.5),
            collections={2: Times(1, 0.25)},
        ),
        listeners=[Listener("127.0.0.1:80", 7, 128), Listener("unix:/a", None, None)],
        answered=tally.words.tolist(),
    )


PAGE = Path(tests.__file__).parents[1] / "docs" / "metrics.md"


def test_the_documentation_names_each_metric_and_no_other() -> None:
    suffixes = {"counter": "_total", "info": "_info"}
    names = {family.name + suffixes.get(family.type, "") for family in FAMILIES}
    tables = [line for line in PAGE.read_text().splitlines() if line[:3] == "| `"]
    columns = "\n".join(line.split(" | ")[0] for line in tables)
    named = set(re.findall(r"`((?:http|uvworker)_\w+)`", columns))
    assert named == names


@pytest.mark.parametrize(
    ("parse", "openmetrics"), [(parse_text, False), (parse_openmetrics, True)]
)
def test_prometheus_reads_every_family(parse, openmetrics: bool) -> None:
    families = list(parse(render(FAMILIES, facts(), openmetrics=openmetrics)))
    assert len(families) == len(FAMILIES)
    assert all(family.documentation for family in families)
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["uvworker_build_info", ("python", ODD), ("version", "0.1")] == 1
    assert samples["uvworker_start_time_seconds",] == pytest.approx(1795643730.284708)
    assert samples["uvworker_workers", ("state", "serving")] == 1
    killed = ("reason", "killed")
    assert samples["uvworker_worker_exits_total", killed, ("signal", "SIGSEGV")] == 2
    assert samples["uvworker_worker_exits_total", killed, ("signal", "SIGKILL")] == 0
    assert samples["uvworker_worker_exits_total", ("reason", "term")] == 0
    assert samples["uvworker_reloads_total", ("result", "failed")] == 1
    assert samples["uvworker_last_reload_successful",] == 0
    assert samples["uvworker_boot_duration_seconds_sum",] == 3.5
    assert samples["uvworker_gc_pause_seconds_count", ("generation", "2")] == 1
    assert samples["uvworker_accept_pauses_total", ("reason", "full")] == 2
    assert samples["uvworker_cpu_seconds_total", ("worker", "0")] == 1.5
    for reason in ("line_too_long", "other"):
        assert samples["uvworker_refused_requests_total", ("reason", reason)] == 1
    assert samples["uvworker_worker_boot_seconds", ("worker", "3")] == 1.5
    assert samples["uvworker_backlog", ("listener", "127.0.0.1:80")] == 7
    assert ("uvworker_backlog", ("listener", "unix:/a")) not in samples
    name = "http_server_request_duration_seconds"
    get = ("http_request_method", "GET"), ("http_response_status_class", "2xx")
    assert samples[(f"{name}_count", *get)] == 2
    assert samples[("http_server_response_body_size_bytes_sum", *get)] == 20
    assert samples[(f"{name}_sum", *get)] == pytest.approx(20.003)
    assert samples[(f"{name}_bucket", *get, ("le", "0.005"))] == 1
    assert samples[(f"{name}_bucket", *get, ("le", "10"))] == 1
    assert samples[(f"{name}_bucket", *get, ("le", "+Inf"))] == 2
    other = ("http_request_method", "_OTHER"), ("http_response_status_class", "4xx")
    assert samples[(f"{name}_count", *other)] == 1
    assert samples[("http_server_request_body_size_bytes_sum", *other)] == 7


def test_a_service_that_has_answered_nothing_has_metrics_too() -> None:
    assert list(parse_text(render(FAMILIES, service())))
