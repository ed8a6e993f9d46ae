"""HTML from templates, with every value escaped.

The rule: text from outside gets into the page only through `fill`, which escapes
whatever is not `Markup` already.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def fill(template: str, *values: object, **named: object) -> Markup:
    """Return *template*, filled by ``str.format`` with escaped values."""
    return Markup(
        template.format(
            *map(_escaped, values),
            **{name: _escaped(value) for name, value in named.items()},
        )
    )


def join(parts: Iterable[Markup]) -> Markup:
    """Return the parts one after the other."""
    return Markup("".join(parts))


def heading(name: str, text: str) -> Markup:
    """Return the heading of the section whose id is *name*."""
    return fill('<h2 id="{}-title">{}</h2>', name, text)


def _escaped(value: object) -> str:
    return value if isinstance(value, Markup) else escape(str(value))
