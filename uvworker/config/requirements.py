"""What a configuration requires: packages, files, a directory for heartbeats.

Checked in the arbiter before the first fork: otherwise each worker would fail with a
traceback. What is named by its module waits for the worker, and its app's code.
"""

from __future__ import annotations

import ipaddress
import pkgutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from . import env_file
from .options import Options
from .settings import Settings
from .sources import OptionError


class Choice(NamedTuple):
    """A setting or an option, some of whose values require a package."""

    name: str
    packages: dict[str, str]
    otherwise: str  # what to do without the package


LOOP = Choice(
    "asgi_loop", {"uvloop": "uvloop", "zuvloop": "zuvloop"}, "leave asgi_loop at 'auto'"
)
PARSER = Choice(
    "http_parser",
    {"auto": "httptools", "httptools": "httptools", "h11": "h11", "zttp": "zttp"},
    "choose another http_parser (uvworker.H11Worker uses h11)",
)
WEBSOCKETS = Choice(
    "ws",
    {
        "websockets": "websockets",
        "websockets-sansio": "websockets",
        "wsproto": "wsproto",
    },
    "leave ws at 'auto'",
)

TLS_FILES = ("certfile", "keyfile", "ca_certs")


def unmet(cfg: Any, settings: Settings, options: Options) -> Iterator[str]:
    """Yield a sentence for each requirement that is not met.

    *cfg*: gunicorn's ``Config``; *settings*: translated from it.
    """
    choices = (
        (LOOP, settings.asgi_loop),
        (PARSER, settings.http_parser),
        (WEBSOCKETS, options.ws),
    )
    for choice, value in choices:
        package = choice.packages.get(value) if isinstance(value, str) else None
        if package is not None and find_spec(package) is None:
            yield (
                f"{choice.name} {value!r} needs the package {package}, which is not "
                f"installed: install it, or {choice.otherwise}."
            )
    for name in TLS_FILES:
        path = getattr(cfg, name)
        if path and not Path(path).exists():
            yield f"{name} {path} does not exist."
    yield from env_file.needed(options)
    if options.ops_bind and not (options.ops_public or _is_private(options.ops_bind)):
        yield (
            f"ops_bind {options.ops_bind} can be reached from other machines: bind a "
            "loopback address or a unix socket, or set ops_public if its network is "
            "trusted."
        )
    yield from _unwritable(cfg.worker_tmp_dir)


def named(settings: Settings, options: Options) -> dict[str, str]:
    """Return what is named by its module, ``module:Class``, by its setting."""
    values = {
        "http_parser": settings.http_parser,
        "asgi_loop": settings.asgi_loop,
        "ws": options.ws,
    }
    return {n: v for n, v in values.items() if isinstance(v, str) and ":" in v}


def imported(name: str, value: str) -> Any:
    """Return what *value* names; raises ``OptionError`` if no worker can use it.

    Not in the arbiter: the module may be the app's, which a reload imports anew.
    """
    try:
        found = pkgutil.resolve_name(value)
    except Exception as error:
        raise OptionError(f"{name} {value!r} cannot be imported: {error}.") from error
    if not (isinstance(found, type) if name == "http_parser" else callable(found)):
        wanted = "a class" if name == "http_parser" else "callable"
        raise OptionError(f"{name} {value!r} is {found!r}, which is not {wanted}.")
    return found


def _is_private(address: str) -> bool:
    """Return whether only this machine can reach a listener on *address*."""
    host = address.rpartition(":")[0].strip("[]")
    if address.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unwritable(worker_tmp_dir: str | None) -> Iterator[str]:
    """Create a heartbeat file, as gunicorn does for each worker, and remove it."""
    try:
        tempfile.TemporaryFile(dir=worker_tmp_dir).close()
    except OSError as error:
        where = repr(worker_tmp_dir) if worker_tmp_dir else "(the temporary directory)"
        yield (
            f"worker_tmp_dir {where} cannot hold the heartbeat files "
            f"({error.strerror}): name a directory that can, '/dev/shm' for one."
        )
