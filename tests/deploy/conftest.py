"""What is particular to tests of deployments: making a machine takes minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .leftovers import alone

TIMEOUT = 900  # seconds; the first test of an engine makes its Debian, too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/deploy/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session", autouse=True)
def _alone() -> Iterator[None]:
    """Keep two runs apart that are root's: others make no engine, host or machine."""
    if os.getuid() == 0:
        with alone():
            yield
    else:
        yield
