"""The text of a line: gunicorn's for any request, and no request can forge one."""

from __future__ import annotations

import json
import os
import re
import time
from base64 import b64encode
from datetime import datetime, timedelta, timezone

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.http.wsgi import create
from hypothesis import given
from hypothesis import strategies as st

from uvworker.access.format import compile_format, compile_json
from uvworker.access.record import AccessRecord

PEER = ("192.0.2.7", 40321)
HEADERS = [
    (b"host", b"example.org"),
    (b"user-agent", b'curl/8 "quoted" 100%'),
    (b"referer", b"http://a/?b=\xe9"),
    (b"authorization", b"Basic " + b64encode(b'DOM\\an"n:secret')),
    (b"content-type", b"text/plain"),
    (b"x-twice", b"first"),
    (b"x-twice", b"second"),
]
RESPONSE = [(b"Content-Type", b'text/"html"'), (b"x-empty", b"")]
TARGET = b"/a/%41/b\\c?x=1&y=%22"

STRINGS = [
    *("h", "l", "u", "r", "m", "U", "q", "H", "b", "f", "a", "L", "p", "nosuch"),
    *("{host}i", "{User-AGENT}i", "{x-Twice}i", "{nosuch}i", "{HOST}I"),
    *("{content-type}o", "{X-Empty}o", "{nosuch}o", "{host}x", "{}i", "{"),
    *("{request_method}e", "{RAW_URI}e", "{path_info}e", "{query_string}e"),
    *("{remote_addr}e", "{remote_port}e", "{server_protocol}e", "{http_host}e"),
    *("{http_user_agent}e", "{content_type}e", "{content_length}e", "{nosuch}e"),
]
NUMBERS = ["B", "T", "D", "M"]


def scope_of(headers=HEADERS, target=TARGET, **extra):
    path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "method": "PUT",
        "http_version": "1.1",
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "client": PEER,
        **extra,
    }


def record_of(scope=None, *, duration=3.141592, target=TARGET):
    return AccessRecord(scope or scope_of(), PEER, 207, RESPONSE, 42, duration, target)


class Answer:
    """What gunicorn's logger reads of a response."""

    status = "207 Multi-Status"
    sent = 42
    headers = tuple((name.decode(), value.decode()) for name, value in RESPONSE)


def gunicorn_atoms(headers=HEADERS, target=TARGET):
    """Let gunicorn's own parser, environ and logger make atoms of the request."""
    head = b"PUT " + target + b" HTTP/1.1\r\n"
    head += b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    cfg = Config()
    request = Request(cfg, IterUnreader([head + b"\r\n"]), PEER)
    _, environ = create(request, None, PEER, ("127.0.0.1", 80), cfg)
    logger = Logger.__new__(Logger)  # its constructor would set up real handlers
    elapsed = timedelta(seconds=3, microseconds=141592)
    return SafeAtoms(Logger.atoms(logger, Answer, request, environ, elapsed))


ATOMS = gunicorn_atoms()


@pytest.mark.parametrize("name", STRINGS + NUMBERS + ["s"])
def test_every_atom_is_gunicorns(name):
    line = f"%({name})s"
    assert compile_format(line)(record_of()) == line % ATOMS


SPEC = st.from_regex(r"[-+ #0]{0,2}([1-9]\d?)?(\.\d{0,2})?[hlL]?", fullmatch=True)
CONVERSION = st.one_of(
    st.tuples(st.sampled_from(STRINGS), SPEC, st.sampled_from("sra")),
    st.tuples(st.sampled_from(NUMBERS), SPEC, st.sampled_from("sdiouxXeEfFgGra")),
).map(lambda parts: "%({}){}{}".format(*parts))
LITERAL = st.text(st.characters(exclude_characters="%", exclude_categories=("Cs",)))


@given(st.lists(st.one_of(CONVERSION, LITERAL, st.just("%%"))).map("".join))
def test_any_format_gives_gunicorns_line(line_format):
    try:
        expected = line_format % ATOMS
    except (TypeError, ValueError):  # such as %o of a float: gunicorn logs no line
        with pytest.raises(ValueError, match="access_log_format"):
            compile_format(line_format)
    else:
        assert compile_format(line_format)(record_of()) == expected


@pytest.mark.parametrize(
    "line_format", ["%s", "%(h)d", "100%", "%(h", "%(s)*d", "%(h)y"]
)
def test_a_format_that_cannot_be_used_is_refused_at_start(line_format):
    with pytest.raises(ValueError, match="access_log_format"):
        compile_format(line_format)


# A field value as a strict parser lets it through, less what a terminal obeys.
VISIBLE = st.characters(
    codec="latin-1", exclude_categories=("Cc",), exclude_characters="\xa0"
)
VALUE = st.text(VISIBLE).map(lambda text: text.strip().encode("latin-1"))


@given(VALUE)
def test_any_visible_header_value_is_escaped_as_gunicorn_does(value):
    headers = [(b"x-value", value), (b"referer", value)]
    line_format = '"%({x-value}i)s" "%(f)s" %({http_referer}e)s'
    record = record_of(scope_of(headers))
    assert compile_format(line_format)(record) == line_format % gunicorn_atoms(headers)


@given(st.binary(), st.binary(), st.text(), st.text())
def test_no_request_can_forge_a_line(value, secret, path, method):
    """Nor can it send a terminal anything that it would obey."""
    headers = [
        (b"referer", value),
        (b"user-agent", value),
        (b"authorization", b"Basic " + b64encode(secret)),
    ]
    scope = scope_of(headers, method=method, path=path, raw_path=None)
    line_format = '%(u)s "%(r)s" %(m)s %(U)s %(q)s "%(f)s" "%(a)s" %({referer}i)s'
    for record in (
        record_of(scope, target=b""),
        record_of(scope, target=b"/" + value + b"%0a%1b[2J%c2%9b?" + secret),
    ):
        line = compile_format(line_format)(record)
        assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
        assert len(line.splitlines()) == 1
        line.encode()


def test_a_line_feed_in_a_path_or_user_name_is_written_escaped():
    headers = [(b"authorization", b"Basic " + b64encode(b"eve\n192.0.2.1 - root:x"))]
    record = record_of(scope_of(headers), target=b"/%0A%1B%7F")
    line = compile_format("%(u)s %(U)s")(record)
    assert line == r"eve\n192.0.2.1 - root /\n\x1b\x7f"


def test_the_time_is_gunicorns_and_follows_the_clock(monkeypatch):
    render = compile_format("%(t)s")
    logger = Logger.__new__(Logger)
    before, line, after = logger.now(), render(record_of()), logger.now()
    assert line in (before, after)
    later = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert render(record_of()) != line


def test_the_pid_is_that_of_the_process_that_compiled():
    assert compile_format("%(p)s")(record_of()) == f"<{os.getpid()}>"


def test_only_the_atoms_named_are_computed():
    """A record without so much as a scope will do for a format of its own facts."""
    bare = AccessRecord(None, None, 204, None, 0, 90_061.5)
    line = compile_format("%(h)s %(s)d %(B)s %(T)s %(M)s %(L)s %(p)s %({x}z)s")(bare)
    assert line == f"- 204 0 90061 90061500 90061.500000 <{os.getpid()}> -"


def test_the_target_is_rebuilt_from_the_scope_where_nobody_kept_it():
    render = compile_format("%(r)s")
    assert render(record_of(target=b"")) == "PUT /a/%41/b\\c?x=1&y=%22 HTTP/1.1"
    bare = scope_of(raw_path=None, query_string=b"", path="/é")
    assert render(record_of(bare, target=b"")) == "PUT /%C3%A9 HTTP/1.1"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://example.org/a%20b?q", "/a b", "q"),
        (b"http://example.org?q", "/", "q"),
        (b"/to/http://x/", "/to/http://x/", ""),
        (b"*", "*", ""),
        (b"/%ff", "/\N{REPLACEMENT CHARACTER}", ""),
    ],
)
def test_the_path_is_what_the_client_asked_for(target, path, query):
    """Not what a framework made of the scope meanwhile."""
    scope = scope_of(path="/mounted", root_path="/app", raw_path=b"/x")
    record = record_of(scope, target=target)
    assert (record.path(), record.query()) == (path, query)


def test_a_request_refused_before_its_first_line_has_a_line_too():
    scope = {"type": "http", "method": "", "headers": []}
    line = compile_format('"%(r)s" %(m)s %(s)s "%(a)s"')(
        AccessRecord(scope, None, 400, [], 11, 0.0)
    )
    assert line == '"-" - 400 "-"'


@given(st.binary(), st.text())
def test_a_json_line_is_one_object_that_says_what_was_sent(value, path):
    headers = [(b"user-agent", value), (b"x-request-id", b"42"), (b"host", value)]
    record = record_of(scope_of(headers, path=path, raw_path=None), target=b"")
    line = compile_json()(record)
    assert len(line.splitlines()) == 1
    entry = json.loads(line)
    assert entry["user_agent"] == entry["host"] == value.decode("latin-1")
    assert entry["path"] == path


def test_a_json_line_has_the_same_keys_for_every_request():
    render = compile_json(worker_id=3)
    full = json.loads(render(record_of()))
    moment = datetime.fromisoformat(full.pop("time"))
    assert abs(datetime.now(timezone.utc) - moment) < timedelta(minutes=1)
    assert full == {
        "remote_addr": "192.0.2.7",
        "client_addr": "192.0.2.7",
        "method": "PUT",
        "scheme": "http",
        "host": "example.org",
        "path": "/a/A/b\\c",
        "query": "x=1&y=%22",
        "protocol": "HTTP/1.1",
        "status": 207,
        "bytes": 42,
        "duration_ms": 3141.592,
        "referer": "http://a/?b=é",
        "user_agent": 'curl/8 "quoted" 100%',
        "user": 'DOM\\an"n',
        "request_id": None,
        "traceparent": None,
        "pid": os.getpid(),
        "worker_id": 3,
    }
    refused = AccessRecord({"type": "http", "method": ""}, None, 400, [], 0, 0.0)
    assert json.loads(render(refused)).keys() == full.keys() | {"time"}


def test_a_json_line_takes_the_request_id_that_the_app_has_given():
    record = record_of()
    record.headers = [(b"X-Request-ID", b"from-app")]
    assert json.loads(compile_json()(record))["request_id"] == "from-app"
