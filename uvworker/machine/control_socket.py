"""Whether gunicorn's control socket can be made where gunicorn has it by default.

That is ``$XDG_RUNTIME_DIR`` or ``~/.gunicorn``, for its tool ``gunicornc``. On a disk
that is read-only, or without a home, gunicorn logs an error at each start instead.
"""

from __future__ import annotations

import os
from pathlib import Path

LONGEST = 103  # bytes of a unix socket's path, on macOS; Linux has four more


def can_have_control_socket() -> bool:
    """Return whether this process may make the socket, and its directory if need be."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    is_there = bool(runtime) and Path(runtime).is_dir()
    directory = Path(runtime) if is_there else Path("~").expanduser() / ".gunicorn"
    parents = (directory, *directory.parents)
    nearest = next(parent for parent in parents if parent.exists())
    return (
        len(os.fsencode(directory / "gunicorn.ctl")) <= LONGEST
        and nearest.is_dir()
        and os.access(nearest, os.W_OK | os.X_OK)
    )
