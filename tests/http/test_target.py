"""Whom a request asks for, and in which transfer coding its body comes."""

from __future__ import annotations

import json

import pytest

from . import apps

END = b"Connection: close\r\n\r\n"


def ask(service, *fields: bytes, line: bytes = b"GET / HTTP/1.1"):
    return service.ask(b"".join(part + b"\r\n" for part in (line, *fields)) + END)


def host_of(answer) -> list[str]:
    assert answer.status == 200
    fields = json.loads(answer.body)["headers"]
    return [value for name, value in fields if name == "host"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a",
        b"EXAMPLE.com",
        b"example.com.",
        b"example.com:8000",
        b"example.com:",
        b"under_score.example",
        b"192.0.2.1:80",
        b"[::1]",
        b"[2001:db8::1]:443",
        b"[::ffff:192.0.2.1]:80",
        b"[v1.a:b]",
        b"xn--bcher-kva.example",
        b"a%2Db",
        b"a!$&'()*+;=~",
    ],
)
def test_a_good_host_reaches_the_app_as_it_came(serve, value):
    service = serve(apps.show)
    for blanks in (b" %b", b"%b", b" \t %b \t"):
        answer = ask(service, b"Host:" + blanks % value)
        assert host_of(answer) == [value.decode()]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"Host: a", b"Host: b"],
        [b"Host: a", b"Host: a"],
        [b"Host: a", b"X: y", b"HOST:"],
        *(
            [b"Host: " + value]
            for value in (
                b"a, b",
                b"a,b",
                b"a b",
                b"a\tb",
                b"a/b",
                b"a?b",
                b"a#b",
                b"a\\b",
                b"user@a",
                b"user:password@a",
                b"http://a",
                b"a:b",
                b"a:80:80",
                b"a:99999",
                b"a:-1",
                b"a:123456",
                b":80",
                b"::1",
                b"[::1",
                b"::1]",
                b"[::1]a",
                b"[]",
                b"[a]",
                b"[192.0.2.1]",
                b"[fe80::1%eth0]",
                b"a[::1]",
                b"a%",
                b"a%zz",
                b"<a>",
                b'"a"',
                b"a^b",
                b"b\xc3\xbccher.example",
            )
        ),
    ],
)
def test_a_host_that_is_none_or_two_or_malformed_is_400(serve, fields, caplog):
    """RFC 9112 section 3.2: no app and no cache gets to choose."""
    ran = []

    async def app(_scope, _receive, _send):
        ran.append(1)

    answer = ask(serve(app), *fields)
    assert (answer.status, answer.closing, ran) == (400, True, [])
    assert "Host" in caplog.text


def test_http_1_0_may_leave_the_host_out_but_not_name_two(serve):
    service = serve(apps.show)
    assert host_of(ask(service, line=b"GET / HTTP/1.0")) == []
    answer = ask(service, b"Host: a", b"Host: b", line=b"GET / HTTP/1.0")
    assert answer.status == 400


def test_a_handshake_needs_a_host_too(serve):
    offer = b"Connection: upgrade", b"Upgrade: websocket"
    assert ask(serve(apps.show), *offer).status == 400


def test_each_request_of_a_connection_needs_a_host_of_its_own(serve):
    client = serve(apps.hello).connect()
    assert client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer().status == 200
    assert client.send(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n").answer().status == 200
    assert client.send(b"GET / HTTP/1.1\r\n\r\n").answer().status == 400


def test_a_host_among_the_trailers_is_none(serve):
    client = serve(apps.hello).connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(head + b"0\r\nHost: b\r\n\r\n")
    assert client.answer().status == 200
    assert client.send(head + b"0\r\n\r\n").answer().status == 200


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://b/x", "b"),
        (b"HTTP://B:80/x", "B:80"),
        (b"https://[::1]:443/x?y", "[::1]:443"),
        (b"http://b?x", "b"),
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_host_of_an_absolute_target_counts(serve, target, host, version):
    """RFC 9112 section 3.2.2: whatever Host says is ignored."""
    line = b"GET %b HTTP/%b" % (target, version)
    service = serve(apps.show)
    assert host_of(ask(service, b"X: y", b"Host: a", line=line)) == [host]
    if version == b"1.0":
        assert host_of(ask(service, line=line)) == [host]


@pytest.mark.parametrize(
    "target", [b"http://user@b/", b"http:///x", b"http://b:x/", b"http://a,b/"]
)
def test_an_absolute_target_without_a_good_host_is_400(serve, target):
    answer = ask(serve(apps.show), b"Host: a", line=b"GET %b HTTP/1.1" % target)
    assert answer.status == 400


# -- transfer codings

BODY = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("codings", "status"),
    [
        ([b"chunked"], 200),
        ([b"Chunked"], 200),
        ([b"\tCHUNKED"], 200),
        ([b"gzip, chunked"], 501),
        ([b"GZIP,Chunked"], 501),
        ([b"gzip", b"chunked"], 501),
        ([b"deflate, gzip, chunked"], 501),
        ([b"identity, chunked"], 501),
        ([b"x-whatever;q=1, chunked"], 501),
        ([b"gzip"], 400),
        ([b"identity"], 400),
        ([b""], 400),
        ([b"chunked, gzip"], 400),
        ([b"chunked", b"gzip"], 400),
        ([b"chunked, chunked"], 400),
        ([b"chunked", b"chunked"], 400),
        ([b", chunked"], 400),
        ([b"chunked,"], 400),
        ([b"chunked;q=1"], 400),
        ([b"xchunked"], 400),
        ([b"gzip chunked"], 400),
    ],
)
def test_only_chunked_is_decoded_and_what_ends_a_body_is_never_guessed(
    serve, codings, status
):
    ran = []

    async def app(scope, receive, send):
        ran.append(1)
        await apps.echo(scope, receive, send)

    service = serve(app)
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    head += b"".join(b"Transfer-Encoding: %b\r\n" % coding for coding in codings)
    answer = service.ask(head + b"\r\n" + BODY)
    assert (answer.status, bool(ran)) == (status, status == 200)
    assert answer.closing == (status != 200)
    assert status != 200 or answer.body == b"hello"


@pytest.mark.parametrize("coding", [b"chunked", b"gzip, chunked"])
@pytest.mark.parametrize(
    ("version", "length"), [(b"1.0", b""), (b"1.1", b"Content-Length: 5\r\n")]
)
@pytest.mark.parametrize("last", [True, False])
def test_a_coding_in_http_1_0_or_beside_a_length_is_400(
    serve, coding, version, length, last
):
    """RFC 9112 section 6.1: somebody in front may have read it the other way."""
    coded = b"Transfer-Encoding: %b\r\n" % coding
    fields = length + coded if last else coded + length
    head = b"POST / HTTP/%b\r\nHost: a\r\n%b\r\n" % (version, fields)
    answer = serve(apps.echo).ask(head + BODY)
    assert (answer.status, answer.closing) == (400, True)
