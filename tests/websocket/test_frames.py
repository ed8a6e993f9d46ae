"""The codec without a socket: what is read, however it is cut, and what is refused."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvworker.websocket import frames
from uvworker.websocket.deflate import Agreement, Deflate
from uvworker.websocket.frames import Decoder, Event, Failure

from . import client
from .client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

MEGABYTE = 1 << 20
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10


def read(decoder: Decoder, *pieces: bytes) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        decoder.feed(piece)
        while (event := decoder.next()) is not None:
            events.append(event)
    return events


def outcome(decoder: Decoder, wire: bytes) -> int | None:
    """Return the code with which *wire* ends the connection, if it does."""
    try:
        read(decoder, wire)
    except Failure as failure:
        return failure.code
    return None


def compressed(payload: bytes, bits: int = 15) -> bytes:
    compressor = zlib.compressobj(wbits=-bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


# What is read

payloads = st.binary(max_size=300) | st.integers(0, 70_000).map(bytes)
messages = st.tuples(st.just(TEXT), st.text(max_size=300)) | st.tuples(
    st.just(BINARY), payloads
)
controls = st.tuples(st.sampled_from((PING, PONG, CLOSE)), st.binary(max_size=125))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """Return a valid stream and what it says: fragments, compression, control frames.

    A control frame may stand between the fragments of a message (section 5.4).
    """
    compressor = zlib.compressobj(wbits=-12)
    stream: list[bytes] = []
    events: list[Event] = []
    for opcode, value in draw(st.lists(messages, max_size=4)):
        payload = value.encode() if isinstance(value, str) else value
        flags = 0
        if draw(st.booleans()):
            flags = RSV1
            payload = compressor.compress(payload)
            payload = (payload + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        for number, (start, end) in enumerate(
            zip([0, *cuts], [*cuts, len(payload)], strict=True)
        ):
            for control in draw(st.lists(controls, max_size=1)):
                stream.append(frame(*control))
                events.append(control)
            stream.append(
                frame(
                    CONTINUATION if number else opcode,
                    payload[start:end],
                    fin=number == len(cuts),
                    flags=0 if number else flags,
                    mask=draw(st.binary(min_size=4, max_size=4)),
                )
            )
        events.append((opcode, value))
    return b"".join(stream), events


@given(streams(), st.data())
def test_a_stream_says_the_same_however_it_is_cut(
    stream: tuple[bytes, list[Event]], data: st.DataObject
) -> None:
    wire, events = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=20)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    decoder = Decoder(MEGABYTE, Deflate(Agreement(client_max_window_bits=12)))
    assert read(decoder, *pieces) == events


@given(st.binary(max_size=200))
def test_noise_is_read_or_refused(noise: bytes) -> None:
    """With a code that a close frame may have, and never by another exception."""
    for deflate in (None, Deflate(Agreement())):
        assert outcome(Decoder(100, deflate), noise) in {None, 1002, 1007, 1009}


def test_what_is_not_taken_stays_where_it_is() -> None:
    decoder = Decoder(MEGABYTE)
    decoder.feed(client.text("one") + client.text("two"))
    assert decoder.next() == (TEXT, "one")
    decoder.feed(client.text("three"))
    assert [decoder.next() for _ in range(3)] == [(TEXT, "two"), (TEXT, "three"), None]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_each_length_has_its_form(size: int) -> None:
    payload = b"x" * size
    assert read(Decoder(MEGABYTE), frame(BINARY, payload)) == [(BINARY, payload)]
    head = frames.head(frames.WHOLE_BINARY, size)
    assert head + payload == frame(BINARY, payload, mask=None)


@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_a_mask_is_taken_off_without_the_c_part(data: bytes, mask: bytes) -> None:
    assert frames.unmask(data, mask) == frames.apply_mask(data, mask)


# What is refused

PROTOCOL = {
    "a frame without a mask": frame(TEXT, b"a", mask=None),
    "an unknown data opcode": frame(3),
    "an unknown control opcode": frame(11),
    "RSV1 without compression": frame(TEXT, flags=RSV1),
    "RSV2": frame(TEXT, flags=RSV2),
    "RSV3": frame(TEXT, flags=RSV3),
    "RSV1 on a ping": frame(PING, flags=RSV1),
    "a fragmented ping": frame(PING, fin=False),
    "a long ping": frame(PING, bytes(126)),
    "a fragment of nothing": frame(CONTINUATION),
    "a message within another": frame(TEXT, fin=False) + frame(TEXT),
    "a length in too many bytes": frame(BINARY, b"a", length=b"\x7e\x00\x01"),
    "a length in far too many bytes": frame(BINARY, length=b"\x7f" + bytes(8)),
    "a length beyond 63 bits": frame(BINARY, length=b"\x7f\x80" + bytes(7)),
}
DATA = {
    "a byte that UTF-8 has not": frame(TEXT, b"\xff"),
    "half a character": frame(TEXT, "ü".encode()[:1]),
    "a surrogate": frame(TEXT, b"\xed\xa0\x80"),
    "an overlong form": frame(TEXT, b"\xc0\x80"),
    "half a character in fragments": frame(TEXT, b"\xc3", fin=False)
    + frame(CONTINUATION, b"a"),
}
SIZES = {
    "one frame": frame(BINARY, bytes(101)),
    "one frame of which only the head has come": frame(BINARY, bytes(200))[:4],
    "fragments": frame(BINARY, bytes(60), fin=False) + frame(CONTINUATION, bytes(41)),
}
CASES = [
    *((name, wire, 1002) for name, wire in PROTOCOL.items()),
    *((name, wire, 1007) for name, wire in DATA.items()),
    *((name, wire, 1009) for name, wire in SIZES.items()),
]


@pytest.mark.parametrize(("name", "wire", "code"), CASES, ids=[c[0] for c in CASES])
def test_what_may_not_be_sent_has_its_code(name: str, wire: bytes, code: int) -> None:
    assert outcome(Decoder(100), wire) == code, name
    decoder = Decoder(100)
    outcomes = [outcome(decoder, wire[i : i + 1]) for i in range(len(wire))]
    assert next(each for each in outcomes if each is not None) == code, name


def test_a_message_of_exactly_the_limit_is_read() -> None:
    assert read(Decoder(100), frame(BINARY, bytes(100))) == [(BINARY, bytes(100))]
    parts = client.fragments(BINARY, bytes(100), 5)
    assert read(Decoder(100), *parts) == [(BINARY, bytes(100))]


# Close frames

NEVER_SENT = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
def test_a_close_frame_is_read_as_it_is_written(code: int) -> None:
    payload = frames.close(code, "so long")[2:]
    assert frames.read_close(payload) == (code, "so long")


def test_a_close_frame_without_a_code_is_one() -> None:
    assert frames.read_close(b"") == (frames.NO_CODE, "")
    assert frames.close(frames.NO_CODE, "") == b"\x88\x00"


@pytest.mark.parametrize("code", NEVER_SENT)
def test_a_code_that_may_not_be_sent_is_a_fault(code: int) -> None:
    with pytest.raises(Failure) as failure:
        frames.read_close(code.to_bytes(2, "big"))
    assert failure.value.code == 1002


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)]
)
def test_a_malformed_close_frame_has_its_code(payload: bytes, code: int) -> None:
    with pytest.raises(Failure) as failure:
        frames.read_close(payload)
    assert failure.value.code == code


def test_a_long_reason_is_cut_at_a_character() -> None:
    wire = frames.close(1000, "ü" * 100)
    assert len(wire) == 2 + 2 + 122
    assert frames.read_close(wire[2:]) == (1000, "ü" * 61)


# Compression


def test_the_limit_is_on_what_comes_out() -> None:
    """A bomb stops there; what cannot be compressed may be longer on the wire."""
    decoder = Decoder(1000, Deflate(Agreement()))
    assert outcome(decoder, frame(BINARY, compressed(bytes(1001)), flags=RSV1)) == 1009
    noise = bytes(range(250)) * 4
    stored = zlib.compressobj(0, wbits=-15)
    wire = (stored.compress(noise) + stored.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(wire) > 1000
    decoder = Decoder(1000, Deflate(Agreement()))
    assert read(decoder, frame(BINARY, wire, flags=RSV1)) == [(BINARY, noise)]


def test_a_bomb_in_fragments_stops_at_the_limit() -> None:
    wire = compressed(bytes(MEGABYTE))
    parts = [wire[i : i + 50] for i in range(0, len(wire), 50)]
    decoder = Decoder(2000, Deflate(Agreement()))
    read(decoder, frame(BINARY, fin=False, flags=RSV1))
    rest = b"".join(frame(CONTINUATION, part, fin=False) for part in parts)
    assert outcome(decoder, rest) == 1009


def test_a_limit_beyond_what_zlib_counts_is_none() -> None:
    decoder = Decoder(2**63 - 1, Deflate(Agreement()))
    wire = frame(TEXT, compressed(b"a" * 100_000), flags=RSV1)
    assert read(decoder, wire) == [(TEXT, "a" * 100_000)]


@pytest.mark.parametrize(
    "payload", [b"\xff\xff\xff", b"\x07"], ids=["no deflate", "a bad block"]
)
def test_what_cannot_be_inflated_is_refused(payload: bytes) -> None:
    decoder = Decoder(100, Deflate(Agreement()))
    assert outcome(decoder, frame(TEXT, payload, flags=RSV1)) == 1007


def test_a_message_may_end_in_a_final_block() -> None:
    """RFC 7692 section 7.2.3.4 has this message, and one may come behind it."""
    decoder = Decoder(100, Deflate(Agreement()))
    hello = frame(TEXT, bytes.fromhex("f348cdc9c90700"), flags=RSV1)
    assert read(decoder, hello, hello) == [(TEXT, "Hello")] * 2


def test_what_is_behind_a_final_block_is_refused() -> None:
    decoder = Decoder(100, Deflate(Agreement()))
    twice = bytes.fromhex("f348cdc9c90700") * 2
    assert outcome(decoder, frame(TEXT, twice, flags=RSV1)) == 1002


def test_a_compressed_continuation_is_refused() -> None:
    decoder = Decoder(100, Deflate(Agreement()))
    first = frame(TEXT, compressed(b"hello"), fin=False, flags=RSV1)
    assert outcome(decoder, first + frame(CONTINUATION, flags=RSV1)) == 1002
