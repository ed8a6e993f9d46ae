"""What a configuration needs of the machine: packages, files, a place for heartbeats.

Asked in the arbiter before the first fork. What is missing there is missing in every
worker, which would say so with a traceback each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .options import Options
from .settings import Settings


class Choice(NamedTuple):
    """A setting or an option that asks for a package, by some of its values."""

    name: str
    packages: dict[str, str]
    otherwise: str  # what to do without the package


LOOP = Choice(
    "asgi_loop", {"uvloop": "uvloop", "zuvloop": "zuvloop"}, "leave asgi_loop at 'auto'"
)
PARSER = Choice(
    "http_parser",
    {"auto": "httptools", "httptools": "httptools", "h11": "h11", "zttp": "zttp"},
    "choose another http_parser (uvworker.H11Worker takes h11)",
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
    """Yield a sentence for everything that is missing.

    *cfg*: gunicorn's ``Config``; *settings*: what it says, translated.
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
    yield from _unwritable(cfg.worker_tmp_dir)


def _unwritable(worker_tmp_dir: str | None) -> Iterator[str]:
    """Try what gunicorn does for each worker, where it would end in a traceback."""
    try:
        tempfile.TemporaryFile(dir=worker_tmp_dir).close()
    except OSError as error:
        where = repr(worker_tmp_dir) if worker_tmp_dir else "(the temporary directory)"
        yield (
            f"worker_tmp_dir {where} cannot hold the heartbeat files "
            f"({error.strerror}): name a directory that can, '/dev/shm' for one."
        )
