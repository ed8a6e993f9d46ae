"""The PROXY protocol: parsed exactly, refused when doubtful, taken off real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import struct
import subprocess
from pathlib import Path

import pytest
import trustme
import uvloop
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.service import PATIENCE, reserved_port
from uvworker.accept.peers import TrustedPeers
from uvworker.accept.proxy_protocol import (
    ABSENT,
    V1_LENGTH,
    V2_LENGTH,
    V2_SIGNATURE,
    Header,
    ProxyProtocol,
    ProxyProtocolError,
    parse,
)

SHORT = 0.3  # seconds for what should not happen at all
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LOCAL, PROXY = 0x20, 0x21


def v1(protocol, source, destination):
    hosts, ports = zip(source, destination, strict=True)
    return " ".join(["PROXY", protocol, *hosts, *map(str, ports)]).encode() + b"\r\n"


def v2(command, family, block=b""):
    head = struct.pack("!BBH", command, family, len(block))
    return V2_SIGNATURE + head + block


def v2_block(source, destination):
    hosts, ports = zip(source, destination, strict=True)
    family = socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET
    packed = b"".join(socket.inet_pton(family, host) for host in hosts)
    return packed + struct.pack("!HH", *ports)


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


# -- what is valid

PORTS = st.integers(0, 65535)
IPV4 = st.tuples(st.ip_addresses(v=4).map(str), PORTS)
IPV6 = st.tuples(
    st.binary(min_size=16, max_size=16).map(
        lambda packed: socket.inet_ntop(socket.AF_INET6, packed)
    ),
    PORTS,
)
TLVS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=4).map(
    lambda fields: b"".join(tlv(kind, value) for kind, value in fields)
)


@st.composite
def announced(draw, versions=("v1", "v2")):
    """Draw a valid header that names a client, and what it says."""
    digit, addresses = draw(st.sampled_from([(4, IPV4), (6, IPV6)]))
    source, destination = draw(addresses), draw(addresses)
    if draw(st.sampled_from(versions)) == "v1":
        raw = v1(f"TCP{digit}", source, destination)
    else:
        family = {4: 0x11, 6: 0x21}[digit]
        raw = v2(PROXY, family, v2_block(source, destination) + draw(TLVS))
    return raw, Header(len(raw), source, destination)


@st.composite
def anonymous(draw):
    """Draw a valid header that names none: the connection's own addresses count."""
    rest = draw(st.binary(max_size=80).filter(lambda b: not {13, 10} & set(b)))
    return draw(
        st.sampled_from(
            [
                b"PROXY UNKNOWN\r\n",
                b"PROXY UNKNOWN " + rest + b"\r\n",
                v2(LOCAL, draw(st.integers(0, 255)), rest),
                v2(PROXY, 0x00, rest),
                v2(PROXY, 0x10, rest),
                v2(PROXY, 0x01, rest),
                v2(PROXY, 0x31, b"/a".ljust(108, b"\0") * 2 + rest),
            ]
        )
    )


@given(announced(), st.binary(max_size=50))
def test_every_valid_header_comes_back(example, rest):
    raw, header = example
    assert parse(raw + rest) == header


@given(anonymous(), st.binary(max_size=50))
def test_header_without_a_client_keeps_the_connections_own(raw, rest):
    assert parse(raw + rest) == Header(len(raw), None, None)


@given(st.one_of(announced().map(lambda example: example[0]), anonymous()))
def test_every_shorter_piece_waits_for_more(raw):
    assert [parse(raw[:length]) for length in range(len(raw))] == [None] * len(raw)


def test_datagram_client_is_a_client_too():
    """A proxy that speaks HTTP/3 outside announces UDP."""
    block = v2_block(("203.0.113.7", 1), ("10.0.0.1", 443))
    assert parse(v2(PROXY, 0x12, block)).source == ("203.0.113.7", 1)


@given(announced())
def test_gunicorn_reads_the_same(example):
    raw, header = example
    cfg = Config()
    try:
        cfg.set("proxy_protocol", "auto")
    except ValueError:
        pytest.skip("this gunicorn knows version 1 only")
    info = Request(cfg, IterUnreader([raw + REQUEST]), ("127.0.0.1", 1))
    told = info.proxy_protocol_info
    assert header.source == (told["client_addr"], told["client_port"])
    assert header.destination == (told["proxy_addr"], told["proxy_port"])


# -- what is not


@pytest.mark.parametrize(
    "raw",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1_0 2\r\n",
        b"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4 \xff.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN \n\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n" + REQUEST,
        b"PROXY UNKNOWN ".ljust(V1_LENGTH - 1, b"x") + b"\r\n",
        v2(0x10, 0x11, bytes(12)),
        v2(0x31, 0x11, bytes(12)),
        v2(0x22, 0x11, bytes(12)),
        v2(PROXY, 0x11, bytes(11)),
        v2(PROXY, 0x21, bytes(35)),
        v2(PROXY, 0x31, bytes(215)),
        v2(PROXY, 0x41, bytes(12)),
        v2(PROXY, 0x13, bytes(12)),
    ],
)
def test_malformed_header_is_refused(raw):
    with pytest.raises(ProxyProtocolError, match="PROXY"):
        parse(raw)


def test_header_may_be_as_long_as_the_limit_and_no_longer():
    longest = b"PROXY UNKNOWN ".ljust(V1_LENGTH - 2, b"x") + b"\r\n"
    assert parse(longest) == Header(V1_LENGTH)
    block = v2_block(("1.2.3.4", 1), ("5.6.7.8", 2))
    longest = v2(PROXY, 0x11, block.ljust(V2_LENGTH - 16, b"\0"))
    assert parse(longest).consumed == len(longest) == V2_LENGTH
    with pytest.raises(ProxyProtocolError, match="4097"):
        parse(v2(PROXY, 0x11, block.ljust(V2_LENGTH - 15, b"\0"))[:16])


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=120).map(lambda rest: b"PROXY " + rest),
        st.binary(max_size=300).map(lambda rest: V2_SIGNATURE + rest),
        st.text(st.sampled_from(" 0123456789.:TCPUNKOW46\r\n"), max_size=120).map(
            lambda text: b"PROXY TCP" + text.encode()
        ),
    ),
    st.sampled_from(["v1", "v2", "auto"]),
)
def test_any_bytes_are_parsed_or_refused_within_the_limit(data, mode):
    try:
        header = parse(data, mode)
    except ProxyProtocolError:
        return
    if header is not None:
        assert header.consumed <= min(len(data), V2_LENGTH)
    else:
        assert len(data) < V2_LENGTH


@pytest.mark.parametrize("mode", ["v1", "v2", "auto"])
@pytest.mark.parametrize("data", [REQUEST, b"PROXYING", b"\x16\x03\x01", b"\r\nGET"])
def test_plain_connection_is_let_through(data, mode):
    assert parse(data, mode) == ABSENT


@pytest.mark.parametrize(
    ("mode", "raw"),
    [("v2", b"PROXY UNKNOWN\r\n"), ("v1", v2(LOCAL, 0))],
)
def test_version_that_is_not_allowed_is_refused(mode, raw):
    with pytest.raises(ProxyProtocolError, match="proxy_protocol"):
        parse(raw, mode)
    assert parse(raw, "auto")


# -- on real sockets


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request):
    """Run a coroutine on each loop."""
    loop = request.param()
    yield lambda coroutine: loop.run_until_complete(
        asyncio.wait_for(coroutine, PATIENCE)
    )
    loop.close()


@pytest.fixture(params=["tcp", "unix"])
def pair(request, tmp_path):
    """Give both ends of a connection: the client's, and the accepted one."""
    if request.param == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
    client = socket.socket(listener.family)
    client.connect(listener.getsockname())
    accepted, _ = listener.accept()
    accepted.setblocking(False)
    with listener, client, accepted:
        yield client, accepted


def everyone(mode="auto", timeout=PATIENCE):
    return ProxyProtocol(mode, TrustedPeers.parse("*"), timeout)


async def receive(policy, accepted, peer=None):
    return await policy.receive(asyncio.get_running_loop(), accepted, peer)


EXAMPLES = [
    (v1("TCP4", ("203.0.113.7", 5), ("10.0.0.1", 80)), ("203.0.113.7", 5)),
    (
        v2(PROXY, 0x21, v2_block(("2001:db8::7", 5), ("::1", 80)) + tlv(4, b"x" * 99)),
        ("2001:db8::7", 5),
    ),
    (v2(LOCAL, 0), None),
]


@pytest.mark.parametrize(("raw", "source"), EXAMPLES)
def test_reader_takes_the_header_and_not_one_byte_more(run, pair, raw, source):
    client, accepted = pair
    client.sendall(raw + REQUEST)
    header = run(receive(everyone(), accepted))
    assert header.source == source
    assert accepted.recv(1000) == REQUEST


@pytest.mark.parametrize(("raw", "source"), EXAMPLES)
def test_header_may_come_byte_by_byte(run, pair, raw, source):
    client, accepted = pair

    async def trickle():
        task = asyncio.create_task(receive(everyone(), accepted))
        for byte in raw:
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        client.send(REQUEST)
        return await task

    assert run(trickle()).source == source
    assert accepted.recv(1000) == REQUEST


def test_plain_connection_loses_no_byte(run, pair):
    client, accepted = pair
    client.sendall(REQUEST)
    assert run(receive(everyone(), accepted)) == ABSENT
    assert accepted.recv(1000) == REQUEST


def test_connection_that_closes_at_once_is_no_error(run, pair):
    """A port check connects and leaves; that is HTTP's to see, and no log line."""
    client, accepted = pair
    client.close()
    assert run(receive(everyone(), accepted)) == ABSENT


@pytest.mark.parametrize("raw", [raw for raw, _ in EXAMPLES])
def test_unfinished_header_has_a_deadline(run, pair, raw):
    client, accepted = pair
    client.sendall(raw[:-1])
    with pytest.raises(ProxyProtocolError, match="unfinished"):
        run(receive(everyone(timeout=SHORT), accepted))


def test_silence_has_a_deadline(run, pair):
    _client, accepted = pair
    with pytest.raises(TimeoutError):
        run(receive(everyone(timeout=SHORT), accepted))


def test_cancelled_reader_lets_go_of_the_socket(run, pair):
    _client, accepted = pair

    async def cancel():
        task = asyncio.create_task(receive(everyone(), accepted))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not asyncio.get_running_loop().remove_reader(accepted)

    run(cancel())


@pytest.mark.parametrize("raw", [raw for raw, _ in EXAMPLES])
def test_header_of_an_untrusted_peer_is_refused(run, pair, raw):
    client, accepted = pair
    client.sendall(raw)
    policy = ProxyProtocol("auto", TrustedPeers.parse("10.0.0.1"))
    with pytest.raises(ProxyProtocolError, match="proxy_allow_ips"):
        run(receive(policy, accepted, ("203.0.113.7", 5)))


def test_plain_connection_of_an_untrusted_peer_is_served(run, pair):
    client, accepted = pair
    client.sendall(REQUEST)
    policy = ProxyProtocol("auto", TrustedPeers.parse("10.0.0.1"))
    assert run(receive(policy, accepted, ("203.0.113.7", 5))) == ABSENT
    assert accepted.recv(1000) == REQUEST


def test_unix_peer_may_announce_a_client_whatever_the_list_says(run, pair):
    client, accepted = pair
    client.sendall(EXAMPLES[0][0])
    policy = ProxyProtocol("auto", TrustedPeers.parse(""))
    assert run(receive(policy, accepted, None)).source == ("203.0.113.7", 5)


class Announcer(asyncio.Protocol):
    """Answer any request with what the PROXY header said."""

    def __init__(self, header):
        self.header = header
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _error):
        self.closed.set_result(None)

    def data_received(self, _data):
        body = json.dumps([self.header.source, self.header.destination]).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body))
        self.transport.write(b"Connection: close\r\n\r\n" + body)
        self.transport.close()


async def serve_one(listener, context=None):
    """Accept one connection as the worker does: header, then TLS, then HTTP."""
    loop = asyncio.get_running_loop()
    accepted, peer = await loop.sock_accept(listener)
    header = await everyone().receive(loop, accepted, peer[:2] or None)
    announcer = Announcer(header)
    await loop.connect_accepted_socket(lambda: announcer, accepted, ssl=context)
    await announcer.closed


async def close(writer):
    """Close a client's end; how the other end took it is not the question."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def answer(data):
    return json.loads(data.partition(b"\r\n\r\n")[2])


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.mark.parametrize("raw", [raw for raw, _ in EXAMPLES])
def test_header_comes_in_clear_before_tls(run, listener, raw):
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)

    async def converse():
        loop = asyncio.get_running_loop()
        served = asyncio.create_task(serve_one(listener, server))
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, raw)
        reader, writer = await asyncio.open_connection(
            sock=client, ssl=trusting, server_hostname="localhost"
        )
        writer.write(REQUEST)
        data = await reader.read()
        await close(writer)
        await served
        return answer(data)

    source, _ = run(converse())
    expected = parse(raw).source
    assert source == (list(expected) if expected else None)


# -- the real proxies

HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout http-keep-alive 1ms
frontend front
    bind unix@{front}
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server app 127.0.0.1:{upstream} {send}
"""


@contextlib.contextmanager
def haproxy(tmp_path, upstream, send, mode="tcp"):
    """Run haproxy in front of a port; give the port that it listens on."""
    conf, front = tmp_path / "haproxy.cfg", tmp_path / "front"
    with reserved_port() as port:
        conf.write_text(
            HAPROXY.format(
                mode=mode, front=front, port=port, upstream=upstream, send=send
            )
        )
        process = subprocess.Popen(["haproxy", "-db", "-f", conf])
        try:
            yield port, front
        finally:
            process.terminate()
            process.wait(PATIENCE)


async def connect(address):
    """Connect as soon as somebody listens; the caller has a deadline."""
    while True:
        try:
            if isinstance(address, Path):
                return await asyncio.open_unix_connection(address)
            return await asyncio.open_connection("127.0.0.1", address)
        except OSError:  # noqa: PERF203 - it is not up yet
            await asyncio.sleep(0.02)


async def through(listener, address):
    """Send one request through a proxy to us; give what we were told, and our name."""
    served = asyncio.create_task(serve_one(listener))
    reader, writer = await connect(address)
    name = writer.get_extra_info("sockname")
    writer.write(REQUEST)
    data = await reader.read()
    await close(writer)
    await served
    return answer(data), name


needs_haproxy = pytest.mark.skipif(
    not shutil.which("haproxy"), reason="haproxy is not installed"
)


@needs_haproxy
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"])
@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_haproxy_announces_the_client(run, listener, tmp_path, send, mode):
    upstream = listener.getsockname()[1]
    with haproxy(tmp_path, upstream, send, mode) as (port, _):
        (source, destination), name = run(through(listener, port))
    assert tuple(source) == name
    assert destination == ["127.0.0.1", port]


@needs_haproxy
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
def test_haproxy_on_a_unix_socket_announces_nobody(run, listener, tmp_path, send):
    with haproxy(tmp_path, listener.getsockname()[1], send) as (_, front):
        (source, destination), _ = run(through(listener, front))
    assert (source, destination) == (None, None)
