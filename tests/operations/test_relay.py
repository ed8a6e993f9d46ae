"""A worker's stacks as a sibling asks for them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest

from uvworker.operations import relay
from uvworker.operations.relay import CUT, LARGEST, Relay, Unanswered

ME = os.geteuid()

Pair = Callable[..., tuple[Relay, Relay]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Return the one that asks, and the other one, which is to say a text."""
    made: list[Relay] = []

    def pair(text: str, user: int = ME) -> tuple[Relay, Relay]:
        token = os.urandom(8).hex()
        made.append(Relay(token, 0, str, {ME}))
        made.append(Relay(token, 1, lambda: text, {user}))
        return made[-2], made[-1]

    yield pair
    for one in made:
        assert one.listener is not None
        one.listener.close()


async def asked(one: Relay, other: Relay) -> bytes:
    server = await other.serve()
    assert server is not None
    try:
        return await one.ask(1)
    finally:
        server.close()


def test_a_sibling_says_what_it_does(pair: Pair) -> None:
    assert asyncio.run(asked(*pair("it waits"))) == b"it waits"


def test_an_answer_has_a_largest_size(pair: Pair) -> None:
    text = asyncio.run(asked(*pair("x" * 2 * LARGEST)))
    assert text == b"x" * LARGEST + CUT


def test_another_user_gets_no_answer(pair: Pair) -> None:
    with pytest.raises(Unanswered):
        asyncio.run(asked(*pair("it waits", user=ME + 1)))


def test_one_that_does_not_listen_is_named_at_once(pair: Pair) -> None:
    with pytest.raises(Unanswered, match="does not listen"):
        asyncio.run(pair("it waits")[0].ask(1))


def test_one_that_does_not_answer_costs_a_deadline(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "PATIENCE", 0.1)
    one, other = pair("it waits")
    assert other.listener is not None
    other.listener.listen()
    with pytest.raises(Unanswered, match="C code holds its interpreter"):
        asyncio.run(one.ask(1))
