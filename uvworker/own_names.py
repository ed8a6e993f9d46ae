"""The names that our worker classes use themselves, and a subclass may not.

Read from the class, before anything runs, so that the arbiter and the check can refuse
one that a subclass takes by accident. The rule: a name of gunicorn's worker, and one
that is documented for subclasses, is the subclass's to override.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType

# The packages of the first class that is not a subclass's, and of gunicorn's worker,
# whose methods may be overridden.
OURS, GUNICORNS = __package__, "gunicorn"

# Documented for subclasses, or what `configured` sets in the class that it makes.
OPEN = frozenset(
    {"CONFIG_KWARGS", "configured", "callback_notify", "_configured_options"}
    | {"check_config", "setup"}  # which gunicorn calls where they are
    | {"_serve", "_install_sigquit_handler"}
)

CLASH = "{} is a name that uvworker uses itself: choose another."


def clashing_names(cls: type) -> Iterator[str]:
    """Yield a sentence for each name of *cls* that the worker uses itself."""
    for name in sorted(reserved(cls)):
        if (owner := owner_of(cls, name)) is not None:
            yield CLASH.format(f"{owner.__qualname__}.{name}")


def reserved(cls: type) -> set[str]:
    """Return the names that our classes define or use and gunicorn's does not.

    Of those that they only use, the private ones: others are methods of any object.
    """
    first, end = _depth(cls, OURS), _depth(cls, GUNICORNS)
    names = set(dir(cls.__mro__[first]))
    for owner in cls.__mro__[first:end]:
        used = set[str]().union(*map(names_in, vars(owner).values()))
        names |= {name for name in used if name[:1] == "_"}
    names = {name for name in names if name[:2] != "__"}
    return names - OPEN - set(dir(cls.__mro__[end]))


def subclasses(cls: type) -> Iterator[type]:
    """Yield *cls* and its bases, mixins too, up to our class."""
    yield from cls.__mro__[: _depth(cls, OURS)]


def owner_of(cls: type, name: str) -> type | None:
    """Return the class, not one of ours, that gives *cls* the name; None without."""
    return next((owner for owner in subclasses(cls) if name in vars(owner)), None)


def names_in(value: object) -> set[str]:
    """Return the names in the code of a method, also if a decorator wraps it."""
    function = getattr(value, "__func__", value)
    function = inspect.unwrap(function) if callable(function) else function
    names = _names_of(getattr(function, "__code__", None))
    for cell in getattr(function, "__closure__", None) or ():
        if inspect.isfunction(cell.cell_contents):
            names |= names_in(cell.cell_contents)
    return names


def _names_of(code: CodeType | None) -> set[str]:
    if code is None:
        return set()
    inner = (item for item in code.co_consts if isinstance(item, CodeType))
    return set(code.co_names).union(*map(_names_of, inner))


def _depth(cls: type, package: str) -> int:
    """Return how many classes of the MRO come before the first one of *package*."""
    inside = (f"{each.__module__}.".startswith(f"{package}.") for each in cls.__mro__)
    return list(inside).index(True)
