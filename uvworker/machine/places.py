"""Whether a service could listen, and put its files, where its configuration says.

For the check, which may run beside the service or before systemd gives it its sockets.
The rule: nothing here creates a file or takes a port, and a place that is in use counts
as usable.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

LONGEST = 107  # bytes of a unix socket's path, Linux's unix(7)
MOST = 65_535  # the highest port


def why_no_listener(address: Any) -> str:
    """Return why gunicorn cannot listen on *address*; empty if it can.

    *address*: as in gunicorn's ``cfg.address``: host and port, a path, or a descriptor.
    """
    if isinstance(address, tuple):
        host, port = address
        if not 0 <= port <= MOST:
            return f"a port is at most {MOST}"
        return why_no_host(host, socket.AF_INET6 if ":" in host else socket.AF_INET)
    if isinstance(address, int) or address[:1] == "\0":  # maybe not this process's
        return ""
    if len(os.fsencode(address)) <= LONGEST and Path(address).is_socket():
        return ""  # of the service, or of systemd
    return why_no_socket(address)


def why_no_host(host: str, family: int = socket.AF_UNSPEC) -> str:
    """Return why nothing can be bound on *host*; empty if it can."""
    try:
        [(found, kind, protocol, _, free_port), *_] = socket.getaddrinfo(
            host, 0, family, socket.SOCK_STREAM
        )
        with socket.socket(found, kind, protocol) as sock:
            sock.bind(free_port)  # and never listen
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine"
        return f"the host {host} has no address that can be bound ({reason})"
    return ""


def why_no_socket(path: str) -> str:
    """Return why no unix socket can be made at *path*; empty if it can."""
    if len(os.fsencode(path)) > LONGEST:
        return f"the path of a unix socket has at most {LONGEST} bytes"
    if Path(path).is_file():
        return "there is a file that is not a socket"
    return why_no_file(path)


def why_no_file(path: str) -> str:
    """Return why no file can be made at *path*; empty if it can."""
    folder = Path(path).parent
    if Path(path).is_dir():
        return "this is a directory"
    if not folder.is_dir():
        return f"the directory {folder} does not exist"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"uid {os.getuid()} may not write in the directory {folder}"
    return ""
