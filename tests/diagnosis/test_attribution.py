"""Which request a task works for; objects of an app may look like a server's."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from uvworker.diagnosis import attribution

SCOPE = {"type": "http", "method": "GET", "path": "/a", "query_string": b"token=secret"}


class Answer:
    """What a server's task runs a method of, or an app's."""

    def __init__(self, scope: object) -> None:
        self._scope = scope

    @property
    def scope(self) -> object:
        if isinstance(self._scope, Exception):
            raise self._scope
        return self._scope

    async def run(self) -> Any:
        return attribution.answering(asyncio.current_task())


def test_the_task_of_a_request_is_known_by_its_object() -> None:
    answer = Answer(SCOPE)
    assert asyncio.run(answer.run()) is answer
    assert attribution.name(SCOPE) == "GET '/a'"


@pytest.mark.parametrize("scope", [None, "openid", {"a": 1}, ValueError("no scope")])
def test_another_object_is_none(scope: object) -> None:
    assert asyncio.run(Answer(scope).run()) is None


def test_a_scope_is_found_by_its_name_on_the_stack() -> None:
    def inner() -> attribution.Scope | None:
        return attribution.scope_on(sys._getframe())  # noqa: SLF001

    def handle(scope: object) -> attribution.Scope | None:
        assert scope
        return inner()

    assert handle(SCOPE) is SCOPE
    assert handle({"a": 1}) is None
