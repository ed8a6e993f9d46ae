"""How one gunicorn setting is supported: a row of the `support_table`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Layer = Literal["gunicorn", "worker", "protocol", "wsgi"]


Predicate = Callable[[Any], bool]  # of a setting's value


def always(_value: Any) -> bool:
    """Return True, for any value."""
    return True


def never(_value: Any) -> bool:
    """Return False, for any value."""
    return False


def tightened_below(default: int) -> Predicate:
    """Return what tells whether a limit is stricter than *default*; 0 is no limit."""
    return lambda value: 0 < value < default


@dataclass(frozen=True, slots=True)
class Support:
    """How one setting is supported.

    Args:
        name: gunicorn's name of it.
        layer: the part that honours it: gunicorn itself; the worker; this package's
            HTTP protocol, and no other (``http_parser = "python"``, for one); or the
            worker, but only with the option ``interface = "wsgi"``.
        how: what is honoured, in one phrase; empty if nothing is.
        lacks: what is not honoured, why, and what to use instead; empty if all is.
        when: the values for which *lacks* matters.
        refuse: the values that are refused at start, because ignoring them would
            weaken security or serve nothing.
        since: the first supported gunicorn that has it; empty for all.

    """

    name: str
    layer: Layer
    how: str = ""
    lacks: str = ""
    when: Predicate = always
    refuse: Predicate = never
    since: str = ""


def gunicorn(name: str, how: str, **more: Any) -> Support:
    """Return the row of a setting that gunicorn itself honours."""
    return Support(name, "gunicorn", how, **more)


def worker(name: str, how: str, **more: Any) -> Support:
    """Return the row of a setting that the worker honours."""
    return Support(name, "worker", how, **more)


def protocol(name: str, how: str, **more: Any) -> Support:
    """Return the row of a setting that only our HTTP protocol honours."""
    return Support(name, "protocol", how, **more)


def wsgi(name: str, how: str, lacks: str) -> Support:
    """Return the row of a setting that is honoured for WSGI apps only."""
    return Support(name, "wsgi", how, lacks)


def unsupported(name: str, lacks: str, **more: Any) -> Support:
    """Return the row of a setting that is not honoured; *lacks* says why."""
    return Support(name, "worker", lacks=lacks, **more)


def is_python(value: Any) -> bool:
    """Return whether the setting chooses gunicorn's own parser."""
    return bool(value == "python")


def is_no_level(value: Any) -> bool:
    """Return whether gunicorn does not know the level, and would use info instead."""
    return not isinstance(getattr(logging, str(value).upper(), None), int)


def needs_zttp(value: Any) -> bool:
    """Return whether the setting has HTTP/2 and its library is not installed."""
    return "h2" in value and importlib.util.find_spec("zttp") is None
