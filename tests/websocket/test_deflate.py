"""What is agreed on about compression, and what it may cost."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest

from uvworker.websocket.deflate import WORTHWHILE, Agreement, Deflate, agree
from uvworker.websocket.frames import COMPRESSED, WHOLE_TEXT

PMD = b"permessage-deflate"

AGREED = {
    PMD: b"server_max_window_bits=12",
    PMD + b"; client_max_window_bits": b"server_max_window_bits=12; "
    b"client_max_window_bits=12",
    PMD + b";client_max_window_bits=15": b"server_max_window_bits=12; "
    b"client_max_window_bits=12",
    PMD + b'; client_max_window_bits="10"': b"server_max_window_bits=12; "
    b"client_max_window_bits=10",
    PMD + b"; client_max_window_bits=8": b"server_max_window_bits=12; "
    b"client_max_window_bits=8",
    PMD + b"; server_max_window_bits=9": b"server_max_window_bits=9",
    PMD + b"; server_max_window_bits=15": b"server_max_window_bits=12",
    PMD + b"; server_no_context_takeover": b"server_max_window_bits=12; "
    b"server_no_context_takeover",
    PMD + b"; client_no_context_takeover": b"server_max_window_bits=12; "
    b"client_no_context_takeover",
    b"x-webkit-deflate-frame, " + PMD: b"server_max_window_bits=12",
    PMD + b"; server_max_window_bits=8, " + PMD: b"server_max_window_bits=12",
    b'foo; bar="a, b", ' + PMD: b"server_max_window_bits=12",
}

DECLINED = [
    b"",
    b"foo",
    b"permessage-deflated",
    PMD + b"; server_max_window_bits",
    PMD + b"; server_max_window_bits=8",
    PMD + b"; server_max_window_bits=7",
    PMD + b"; server_max_window_bits=16",
    PMD + b"; server_max_window_bits=012",
    PMD + b"; client_max_window_bits=0",
    PMD + b"; client_max_window_bits=",
    PMD + b'; client_max_window_bits="9',
    PMD + b"; client_no_context_takeover=1",
    PMD + b"; unknown",
    PMD + b"; client_max_window_bits; client_max_window_bits",
    PMD + b";",
]


@pytest.mark.parametrize("offer", AGREED)
def test_an_offer_is_answered(offer: bytes) -> None:
    agreement = agree([offer])
    assert agreement is not None
    assert agreement.header() == PMD + b"; " + AGREED[offer]


@pytest.mark.parametrize("offer", DECLINED)
def test_an_offer_that_cannot_be_kept_is_declined(offer: bytes) -> None:
    assert agree([offer]) is None


def test_offers_may_stand_in_several_fields() -> None:
    assert agree([b"foo", PMD]) is not None


def told(deflate: Deflate, *messages: bytes) -> list[bytes]:
    """Send *messages*, and return what a client makes of them."""
    client = zlib.decompressobj(-12)
    said = []
    for message in messages:
        first, payload = deflate.shrink(WHOLE_TEXT, message)
        if first & COMPRESSED:
            payload = client.decompress(payload + b"\x00\x00\xff\xff")
        said.append(payload)
    return said


def test_a_message_is_sent_in_the_context_of_those_before() -> None:
    deflate = Deflate(Agreement())
    message = b"abcdefghijklmnopqrstuvwxyz" * 3
    assert told(deflate, message, message) == [message] * 2
    _, again = deflate.shrink(WHOLE_TEXT, message)
    assert len(again) < 10


def test_a_short_message_is_sent_as_it_is() -> None:
    deflate = Deflate(Agreement())
    short = b"a" * (WORTHWHILE - 1)
    assert deflate.shrink(WHOLE_TEXT, short) == (WHOLE_TEXT, short)


def test_without_takeover_each_message_stands_for_itself() -> None:
    deflate = Deflate(Agreement(server_no_context_takeover=True))
    message = b"abcdefghijklmnopqrstuvwxyz" * 3
    assert deflate.shrink(WHOLE_TEXT, message) == deflate.shrink(WHOLE_TEXT, message)


@pytest.fixture
def allocated() -> Iterator[Callable[[], int]]:
    """Tell how many bytes are allocated, zlib's included."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def test_a_compressor_that_rests_is_let_go_of_and_the_client_does_not_notice(
    allocated: Callable[[], int],
) -> None:
    deflate = Deflate(Agreement())
    message = b"abcdefghijklmnopqrstuvwxyz" * 3
    client = zlib.decompressobj(-12)
    for _ in range(3):
        _, payload = deflate.shrink(WHOLE_TEXT, message)
        assert client.decompress(payload + b"\x00\x00\xff\xff") == message
        before = allocated()
        deflate.rest()
        assert allocated() > before - 10_000, "it was used since the last time"
        deflate.rest()
        assert allocated() < before - 30_000


def test_both_contexts_take_55_kb_at_most(allocated: Callable[[], int]) -> None:
    """As the documentation says; 85 kB with a client that cannot be told."""
    compressor = zlib.compressobj(wbits=-12)
    wire = compressor.compress(bytes(range(256)) * 64)
    wire += compressor.flush(zlib.Z_SYNC_FLUSH)
    for bits, most in (12, 55_000), (15, 85_000):
        before = allocated()
        deflate = Deflate(Agreement(client_max_window_bits=bits))
        assert allocated() < before + 1000, "nothing before it is used"
        deflate.inflate(wire, 1 << 20, last=False)
        deflate.shrink(WHOLE_TEXT, bytes(range(256)) * 64)
        assert allocated() < before + most
