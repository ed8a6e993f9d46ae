"""A service with an operator's listener, and an operator."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import HELLO, Serve
from tests.tools.service import PATIENCE, Service, wait_for


class Operated:
    """A service with an operator's listener."""

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, timeout=PATIENCE)

    def asked(self, path: str) -> int:
        """Return the status, 0 where nobody answers; ten times as fast as `ask`."""
        host = self.url.removeprefix("http://")
        with closing(http.client.HTTPConnection(host, timeout=PATIENCE)) as connection:
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return 0

    def wait(self, path: str, status: int) -> httpx.Response:
        wait_for(lambda: self.asked(path) == status, f"{path} says {status}")
        return self.ask(path)

    def samples(self, name: str) -> dict[str, float]:
        """Return the values of a metric by its labels' values."""
        return {
            "/".join(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(self.ask("/metrics").text)
            for sample in family.samples
            if sample.name == name
        }

    def counted(self) -> int:
        counts = self.samples("http_server_request_duration_seconds_count")
        return int(sum(counts.values()))


Operate = Callable[..., Operated]


@pytest.fixture
def operate(serve: Serve, port: int) -> Operate:
    """Start a service that answers an operator; names in capitals are variables."""

    def operate(source: str = HELLO, *args: str, **kwargs: object) -> Operated:
        variables = {name: kwargs.pop(name) for name in list(kwargs) if name.isupper()}
        env = {"UVWORKER_OPS_BIND": f"127.0.0.1:{port}", **variables}
        return Operated(serve(source, *args, env=env, **kwargs), port)

    return operate
