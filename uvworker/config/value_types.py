"""What the value of an option may be, as Python gives it and as text.

A `ValueType` answers three questions: how an environment variable spells a value,
whether a value is allowed, and what to say when it is not. It knows neither the option
nor the source of a value. So it raises `ValueError` without a message: the caller names
the source, and `ValueType.allowed` says the rest.
"""

from __future__ import annotations

import inspect
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

MOST_SECONDS = 10**9  # some 30 years; a longer time is a mistake

OFF = ("off", "none")  # the text that switches a limit off, as None does in Python
SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)

# The words that click, and with it uvicorn's command line, reads as booleans.
TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
FALSE = frozenset({"0", "false", "f", "no", "n", "off"})

IMPORTABLE = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a field name, RFC 9110 5.6.2
PATH = re.compile(r"/[!-~]*")  # printable, without spaces
FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.5, as latin-1


@dataclass(frozen=True, slots=True)
class ValueType:
    """The values that an option may have.

    Args:
        allowed: what to say when a value is refused, after "allowed: ".
        check: Python value to canonical value; raises `ValueError`.
        parse: text of an environment variable to Python value; raises `ValueError`.

    """

    allowed: str
    check: Callable[[object], object]
    parse: Callable[[str], object]


def _instance(value: object, wanted: type[T]) -> T:
    """Return `value` if it is one of `wanted`; a bool is not a number here."""
    if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    raise ValueError


def _boolean(text: str) -> bool:
    if text.strip().lower() in TRUE:
        return True
    if text.strip().lower() in FALSE:
        return False
    raise ValueError


def _whole(value: object, least: int) -> int:
    number = _instance(value, int)
    if number < least:
        raise ValueError
    return number


def integer(least: int) -> ValueType:
    """Return the type of whole numbers from `least` up."""
    return ValueType(
        allowed=f"a whole number, at least {least}",
        check=lambda value: _whole(value, least),
        parse=int,
    )


def _seconds(value: object) -> float:
    number = value if isinstance(value, float) else _instance(value, int)
    if not 0 <= number <= MOST_SECONDS:  # false for nan too
        raise ValueError
    return float(number)


def _size(value: object) -> int:
    if not isinstance(value, str):
        return _whole(value, 0)
    match = SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError
    return int(match[1]) * SIZE_UNITS[match[2].upper()]


def _text(value: object) -> str:
    return _instance(value, str)


def or_off(value_type: ValueType) -> ValueType:
    """Return `value_type` with a way to switch the option off: None, 0, or a word."""
    return ValueType(
        allowed=f"{value_type.allowed}; None or 0 for off",
        check=lambda value: None if value is None else value_type.check(value) or None,
        parse=lambda text: (
            None if text.strip().lower() in OFF else value_type.parse(text)
        ),
    )


def or_unset(value_type: ValueType) -> ValueType:
    """Return `value_type` with None for "not set", which no text can spell."""
    return ValueType(
        allowed=f"{value_type.allowed}; or None",
        check=lambda value: None if value is None else value_type.check(value),
        parse=value_type.parse,
    )


def choice(names: Iterable[str], *, importable: str = "") -> ValueType:
    """Return the type of one word out of `names`.

    Args:
        names: the words.
        importable: what else is allowed, as an object or as "module:name"; empty if
            nothing else is.

    """
    words = tuple(names)

    def check(value: object) -> object:
        if isinstance(value, str):
            if value in words or (importable and IMPORTABLE.fullmatch(value)):
                return value
        elif importable == "class" and inspect.isclass(value):
            return value
        raise ValueError

    quoted = ", ".join(f'"{word}"' for word in words)
    extra = {"": "", "class": ', a class, or "module:Class"'}
    allowed = quoted + extra.get(importable, f', or "module:{importable}"')
    return ValueType(allowed=allowed, check=check, parse=str)


def _header(item: object) -> tuple[str, str]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:  # noqa: PLR2004  # a pair
        raise ValueError
    name, value = _text(item[0]), _text(item[1])
    if TOKEN.fullmatch(name) and FIELD_VALUE.fullmatch(value):
        return name, value
    raise ValueError


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    """Return pairs as a tuple; refuse a line end, which would split the response."""
    if value is None:
        return ()
    if not isinstance(value, (tuple, list)):
        raise ValueError  # noqa: TRY004  # one exception for every refusal
    return tuple(_header(item) for item in value)


def _addresses(value: object) -> tuple[str, ...]:
    """Return addresses and networks in the form of gunicorn's forwarded_allow_ips."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (tuple, list)):
        raise ValueError  # noqa: TRY004  # one exception for every refusal
    addresses = tuple(filter(None, (_text(item).strip() for item in items)))
    for address in addresses:
        if address != "*":
            ipaddress.ip_network(address)
    return addresses


def _listen_address(value: object) -> str:
    """Return an address as gunicorn's `bind` writes it, with a port or a path."""
    text = _text(value)
    if text.startswith("unix:"):
        port = "0" if len(text) > len("unix:") else ""
    else:
        port = text.rpartition(":")[2] if text.rpartition(":")[0] else ""
    if not (port.isdecimal() and int(port) < 1 << 16):
        raise ValueError
    return text


def _path(value: object) -> str:
    text = _text(value)
    if not PATH.fullmatch(text):
        raise ValueError
    return text


def _parse_headers(text: str) -> list[tuple[str, str]]:
    """Split at line ends if there are any; else at white space, as uvicorn does.

    With line ends, a value can have spaces in it.
    """
    items = text.splitlines() if "\n" in text else text.split()
    pairs = [item.partition(":") for item in items if item.strip()]
    if not all(colon for _, colon, _ in pairs):
        raise ValueError
    return [(name.strip(), value.strip()) for name, _, value in pairs]


BOOLEAN = ValueType("True or False", lambda value: _instance(value, bool), _boolean)
SECONDS = ValueType("seconds, a number, at least 0", _seconds, float)
BYTES = ValueType('bytes, or a string such as "512K", "512M", "2G"', _size, str)
TEXT = ValueType("a string", _text, str)
ADDRESSES = ValueType(
    'addresses or networks such as "10.0.0.0/8", or "*", with commas or in a list',
    _addresses,
    str,
)
LISTEN_ADDRESS = ValueType('"HOST:PORT" or "unix:PATH"', _listen_address, str)
REQUEST_PATH = ValueType('a path such as "/-/ready"', _path, str)
HEADERS = ValueType(
    "(name, value) pairs; in the environment Name:Value, one a line",
    _headers,
    _parse_headers,
)
