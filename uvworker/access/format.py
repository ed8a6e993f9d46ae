r"""The text of an access line: gunicorn's `access_log_format`, or JSON.

A format is compiled once, into a template and the atoms that it names; no other
atom is computed. Where gunicorn's workers differ, the line is that of its `asgi`
worker.

The rule of this room: no request can forge a line. gunicorn escapes only `"`,
but a decoded path or user name may contain a line feed. Here control characters
are escaped as in Python, `\n` or `\x1b`. Otherwise the line is gunicorn's.
"""

from __future__ import annotations

import binascii
import json
import os
import re
import time
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache

from .record import AccessRecord

Render = Callable[[AccessRecord], str]
_Atom = Callable[[AccessRecord], object]

# C0, DEL and C1, which control a terminal, and Unicode's other line ends. Surrogates
# cannot be encoded.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# One conversion of Python's %-format, as gunicorn's formats use it.
_CONVERSION = re.compile(
    r"""%  (?: \( (?P<name>[^()]*) \) )?
    (?P<spec> [-+\ \#0]* \d* (?: \.\d* )? [hlL]? (?P<type>[%a-zA-Z]) )""",
    re.VERBOSE,
)


def printable(text: str) -> str:
    r"""Return `text` with its control characters written as `\n` or `\x1b`."""
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode-escape").decode()


def _quotable(text: str) -> str:
    """Return `text` safe on a line and, as in gunicorn, between quotes."""
    return printable(text).replace('"', '\\"')


# User agents and referers repeat; a hit costs a fifth of the work. Bounded, because
# clients choose the values: at most 2 MB with gunicorn's limit on a field.
@lru_cache(maxsize=128)
def _field_text(value: bytes) -> str:
    return _quotable(value.decode("latin-1"))


def user_of(authorization: bytes | None) -> str | None:
    """Return the user name of a `Basic` authorization (RFC 7617), if it has one."""
    if authorization is None or authorization[:5].lower() != b"basic":
        return None
    try:
        credentials = b64decode(authorization.partition(b" ")[2].strip())
        return credentials.partition(b":")[0].decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _user(record: AccessRecord) -> str:
    authorization = record.field(b"authorization")
    if authorization is None:
        return "-"
    return _quotable(user_of(authorization) or "-")


def _request_line(record: AccessRecord) -> str:
    method = record.method
    if not method:  # refused before its first line was read
        return "-"
    target = record.request_target().decode("latin-1")
    return _quotable(f"{method} {target} {record.protocol}")


def _seconds(record: AccessRecord) -> str:
    seconds, microseconds = divmod(record.microseconds(), 1_000_000)
    return f"{seconds}.{microseconds:06}"


def _clock() -> _Atom:
    """Return the atom `t`, which formats the time once a second."""
    second, text = 0, ""

    def now(_: AccessRecord) -> str:
        nonlocal second, text
        current = int(time.time())
        if current != second:
            second = current
            text = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(current))
        return text

    return now


def _request_field(name: str) -> _Atom:
    key = name.encode("latin-1", "replace")

    def atom(record: AccessRecord) -> str:
        value = record.field(key)
        return "-" if value is None else _field_text(value)

    return atom


def _response_field(name: str) -> _Atom:
    key = name.encode("latin-1", "replace")

    def atom(record: AccessRecord) -> str:
        for field, value in reversed(record.headers):
            if field.lower() == key:
                return _field_text(value)
        return "-"

    return atom


_ATOMS: dict[str, _Atom] = {
    "h": lambda record: record.peer[0] if record.peer else "-",
    "l": lambda _: "-",
    "u": _user,
    "r": _request_line,
    "s": lambda record: record.status,
    "m": lambda record: _quotable(record.method) or "-",
    "U": lambda record: _quotable(record.path()),
    "q": lambda record: _quotable(record.query()),
    "H": lambda record: record.protocol,
    "b": lambda record: str(record.sent),
    "B": lambda record: record.sent,
    "f": _request_field("referer"),
    "a": _request_field("user-agent"),
    "T": lambda record: int(record.duration),
    "D": AccessRecord.microseconds,
    "M": lambda record: record.microseconds() // 1000,
    "L": _seconds,
}


def client_of(record: AccessRecord) -> str | None:
    """Return the address of the client, or of the last proxy that is not trusted."""
    client = record.scope.get("client")
    return str(client[0]) if client else None


# Variables of a CGI request (RFC 3875) that cost nothing, and one of ours:
# `client_addr`. gunicorn's format has no atom for the client that a proxy names.
_VARIABLES: dict[str, _Atom] = {
    "request_method": _ATOMS["m"],
    "raw_uri": lambda record: _quotable(record.request_target().decode("latin-1")),
    "path_info": _ATOMS["U"],
    "query_string": _ATOMS["q"],
    "server_protocol": _ATOMS["H"],
    "remote_addr": _ATOMS["h"],
    "remote_port": lambda record: str(record.peer[1]) if record.peer else "-",
    "client_addr": lambda record: _quotable(client_of(record) or "-"),
    "content_type": _request_field("content-type"),
    "content_length": _request_field("content-length"),
}


def _atom(name: str) -> _Atom | None:
    """Return the atom `name`, None if gunicorn would write a `-`."""
    if name == "t":
        return _clock()
    braced = re.fullmatch(r"\{(.*)\}([ioe])", name.lower(), re.DOTALL)
    if braced is None:
        return _ATOMS.get(name)
    name, kind = braced.groups()
    if kind == "i":
        return _request_field(name)
    if kind == "o":
        return _response_field(name)
    if name.startswith("http_"):
        return _request_field(name[5:].replace("_", "-"))
    return _VARIABLES.get(name)


def compile_format(access_log_format: str) -> Render:
    """Compile gunicorn's `access_log_format`; call it after the fork.

    Args:
        access_log_format: Atoms as `%(name)s`, with any flags, width, precision
            and conversion of Python's `%`.

    Returns:
        A function from a record to its line, without the line's end.

    Raises:
        ValueError: The format cannot be used. gunicorn would log a traceback
            instead of a line at every request.

    """
    constants = {"l": "-", "p": f"<{os.getpid()}>"}
    atoms: list[_Atom] = []

    def place(conversion: re.Match[str]) -> str:
        name, spec, kind = conversion.group("name", "spec", "type")
        if kind == "%":
            return "%%"
        if name is None:
            raise ValueError(f"{conversion[0]!r} names no atom")
        atom = None if name in constants else _atom(name)
        if atom is None:
            return (f"%{spec}" % constants.get(name, "-")).replace("%", "%%")
        atoms.append(atom)
        return f"%{spec}"

    try:
        template = _CONVERSION.sub(place, access_log_format)
        render = _renderer(template, tuple(atoms))
        render(_SAMPLE)
    except (TypeError, ValueError) as error:
        message = f"access_log_format {access_log_format!r} is not usable: {error}"
        raise ValueError(message) from error
    return render


_SAMPLE = AccessRecord({}, None, 200, [], 0, 0.0)


def _renderer(template: str, atoms: tuple[_Atom, ...]) -> Render:
    def render(record: AccessRecord) -> str:
        return template % tuple([atom(record) for atom in atoms])

    return render


def compile_json(worker_id: int | None = None) -> Render:
    """Return the JSON access line, one object per record; call it after the fork.

    Every line has the same keys, with null for what a request does not have:
    `time` (ISO 8601, UTC, at the end of the response), `remote_addr` (the peer),
    `client_addr` (the client, or the last proxy that is not trusted),
    `method`, `scheme`, `host`, `path` (decoded), `query`, `protocol`, `status`,
    `bytes` (of body), `duration_ms`, `referer`, `user_agent`, `user`,
    `request_id` (`X-Request-ID`, the request's before the response's),
    `traceparent` (W3C Trace Context), `pid`, `worker_id` (as in the lifespan's
    state; it outlives a recycled worker).
    """
    pid = os.getpid()
    # ASCII only: no character can be read as the end of a line.
    encode = json.JSONEncoder(separators=(",", ":")).encode

    def render(record: AccessRecord) -> str:
        scope, peer = record.scope, record.peer
        return encode(
            {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "remote_addr": peer[0] if peer else None,
                "client_addr": client_of(record),
                "method": record.method or None,
                "scheme": scope.get("scheme"),
                "host": _text(record, b"host"),
                "path": record.path(),
                "query": record.query(),
                "protocol": record.protocol,
                "status": record.status,
                "bytes": record.sent,
                "duration_ms": record.microseconds() / 1000,
                "referer": _text(record, b"referer"),
                "user_agent": _text(record, b"user-agent"),
                "user": user_of(record.field(b"authorization")),
                "request_id": _text(record, b"x-request-id") or _response_id(record),
                "traceparent": _text(record, b"traceparent"),
                "pid": pid,
                "worker_id": worker_id,
            }
        )

    return render


def _text(record: AccessRecord, name: bytes) -> str | None:
    value = record.field(name)
    return None if value is None else value.decode("latin-1")


def _response_id(record: AccessRecord) -> str | None:
    for name, value in record.headers:
        if name.lower() == b"x-request-id":
            return value.decode("latin-1")
    return None
