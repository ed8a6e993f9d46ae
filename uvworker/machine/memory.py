"""How much memory this process has now."""

from __future__ import annotations

import os
import resource
from pathlib import Path

STATM = Path("/proc/self/statm")
MEGABYTE = 1024 * 1024


class NoMemoryFigure(Exception):  # noqa: N818  reads better where it is raised
    """The resident memory of this process cannot be read on this system."""


def resident_memory() -> int:
    """Return the bytes of this process that are in memory now, as ``ps`` shows them.

    Not ``getrusage``, whose figure is the highest that there ever was. Raises
    :class:`NoMemoryFigure` without ``/proc`` and without psutil.
    """
    try:
        return int(STATM.read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        pass
    try:
        import psutil  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415
    except ImportError:
        raise NoMemoryFigure(
            "max_rss needs /proc or psutil: pip install psutil"
        ) from None
    return int(psutil.Process(os.getpid()).memory_info().rss)
