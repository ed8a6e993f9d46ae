"""What can be said of one gunicorn setting: a row of the `contract`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Keeper = Literal["gunicorn", "worker", "protocol", "wsgi"]


Predicate = Callable[[Any], bool]  # of a setting's value


def always(_value: Any) -> bool:
    """Return True, for any value."""
    return True


def never(_value: Any) -> bool:
    """Return False: no value is a reason to refuse the start."""
    return False


def tightened_below(default: int) -> Predicate:
    """Return whether a limit, 0 being none, was made stricter than gunicorn's own."""
    return lambda value: 0 < value < default


@dataclass(frozen=True, slots=True)
class Row:
    """What becomes of one setting.

    Args:
        name: gunicorn's name of it.
        keeper: gunicorn itself, this package's worker, or its HTTP protocol, which
            another protocol (``http_parser = "python"``, say) cannot stand in for;
            or the worker with the option ``interface = "wsgi"``, and else nobody.
        how: what is kept, in one phrase; empty if nothing is.
        lacks: what is not kept, why, and what to use instead; empty if all is.
        when: the values for which *lacks* matters.
        refuse: the values for which not to start rather than ignore them: that
            would weaken security, or serve nothing.
        since: the first supported gunicorn that has it; empty for all.

    """

    name: str
    keeper: Keeper
    how: str = ""
    lacks: str = ""
    when: Predicate = always
    refuse: Predicate = never
    since: str = ""


def gunicorn(name: str, how: str, **more: Any) -> Row:
    """Return the row of a setting that gunicorn itself keeps."""
    return Row(name, "gunicorn", how, **more)


def worker(name: str, how: str, **more: Any) -> Row:
    """Return the row of a setting that the worker keeps."""
    return Row(name, "worker", how, **more)


def protocol(name: str, how: str, **more: Any) -> Row:
    """Return the row of a setting that only our HTTP protocol keeps."""
    return Row(name, "protocol", how, **more)


def wsgi(name: str, how: str, lacks: str) -> Row:
    """Return the row of a setting that is kept for WSGI apps alone."""
    return Row(name, "wsgi", how, lacks)


def nobody(name: str, lacks: str, **more: Any) -> Row:
    """Return the row of a setting that nobody keeps, and say why."""
    return Row(name, "worker", lacks=lacks, **more)


def is_python(value: Any) -> bool:
    """Return whether gunicorn's own parser is asked for."""
    return bool(value == "python")


def is_no_level(value: Any) -> bool:
    """Return whether gunicorn would take a level that it does not know for info."""
    return not isinstance(getattr(logging, str(value).upper(), None), int)


def needs_zttp(value: Any) -> bool:
    """Return whether HTTP/2 is asked for and its library is missing."""
    return "h2" in value and importlib.util.find_spec("zttp") is None
