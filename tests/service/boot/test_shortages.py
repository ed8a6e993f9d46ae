"""What a service will run out of is in the log at its start, once."""

from __future__ import annotations

import re
import resource

import pytest

from tests.conftest import HELLO, Serve

LIMIT = """
from uvworker.machine import shortages
shortages.memory_limit = lambda: {} * shortages.MEGABYTE
"""


@pytest.mark.parametrize("more", [(), ("--preload",)])
def test_workers_that_exceed_the_memory_of_their_cgroup(
    serve: Serve, more: tuple[str, ...]
) -> None:
    service = serve(HELLO, "-w", "2", *more, conf=LIMIT.format(10), wait=2)
    said = r"2 workers like this one, which has \d+ MB, need \d+ MB, but the cgroup "
    assert len(re.findall(said + "allows 10 MB", service.log)) == 1


def test_workers_that_fit(serve: Serve) -> None:
    assert "cgroup" not in serve(HELLO, conf=LIMIT.format(10**6)).log


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


@pytest.mark.parametrize(
    ("connections", "warnings"), [("1000", 0), ("900", 0), ("1020", 1), ("5000", 1)]
)
def test_connections_that_exceed_the_descriptors(
    serve: Serve, connections: str, warnings: int
) -> None:
    """But for gunicorn's default, 1000, which is taken for no limit."""
    asked = ("-w", "2", "--worker-connections", connections)
    service = serve(HELLO, *asked, wait=2, preexec_fn=few_descriptors)
    said = f"worker_connections = {connections} needs some "
    assert service.log.count(said) == warnings


THREADS = (
    HELLO
    + """
import threading
threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
"""
)


@pytest.mark.parametrize(
    ("source", "more", "warnings"),
    [(THREADS, ("--preload",), 1), (THREADS, (), 0), (HELLO, ("--preload",), 0)],
)
def test_threads_that_a_fork_loses(
    serve: Serve, source: str, more: tuple[str, ...], warnings: int
) -> None:
    service = serve(source, "-w", "2", *more, wait=2)
    said = r"The preloaded app has started threads \(poller\)"
    assert len(re.findall(said, service.log)) == warnings
    assert service.log.count("started threads") == warnings
