"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Iterable

from ..access.tally import BOUNDS

MEGABYTE = 1 << 20
UNKNOWN = "-"
WHOLE = 10  # from here on, decimals tell nothing


def age(seconds: float) -> str:
    """Return *seconds* as text, in the two largest units."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 1:
        return f"{seconds:.0f}s"
    if hours < 1:
        return f"{int(minutes)}m{int(seconds % 60):02}s"
    if days < 1:
        return f"{int(hours)}h{int(minutes % 60):02}m"
    return f"{int(days)}d{int(hours % 24):02}h"


def rate(value: float) -> str:
    """Return a number of things a second."""
    return f"{value:,.0f}" if value >= WHOLE or not value else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """Return a measured time."""
    if seconds is None:
        return UNKNOWN
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.{0 if milliseconds >= WHOLE else 1}f} ms"


def estimate(seconds: float | None) -> str:
    """Return a time that is estimated from buckets, as far as they know it."""
    if seconds is None:
        return UNKNOWN
    if seconds < BOUNDS[0]:
        return f"< {BOUNDS[0] * 1000:g} ms"
    return f"> {BOUNDS[-1]:g} s" if seconds >= BOUNDS[-1] else duration(seconds)


def megabytes(sizes: Iterable[int | None]) -> str:
    """Return the sum of the sizes that are known, in bytes."""
    known = [size for size in sizes if size is not None]
    return f"{sum(known) / MEGABYTE:,.0f} MB" if known else UNKNOWN
