"""The object ``self.config``: a ``uvicorn.Config`` with the values that take effect.

Subclasses read it, and may make a server of their own of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import uvicorn

from ..assembly import PARAMETERS, uvicorn_values
from ..config import settings
from ..config.options import Options
from ..config.settings import OWN_PROTOCOL

# The HTTP protocol of a server of the subclass's own, by default.
UVICORNS_HTTP = "uvicorn.protocols.http.auto:AutoHTTPProtocol"


def blank() -> uvicorn.Config:
    """Return a configuration with uvicorn's defaults."""
    return uvicorn.Config(None, log_config=None)  # type: ignore[arg-type]


def with_uvicorns_http(cfg: Any, options: Options) -> Options:
    """Return *options* for uvicorn's own server, which cannot use our protocol."""
    if settings.translate(cfg, options).http_parser in OWN_PROTOCOL:
        return replace(options, http=UVICORNS_HTTP)
    return options


def mirror(config: uvicorn.Config, cfg: Any, options: Options) -> None:
    """Set *config* to the values of *cfg* and *options*.

    Args:
        config: not loaded, or loaded too early by a subclass.
        cfg: gunicorn's ``Config``.
        options: the worker's.

    """
    translated = settings.translate(cfg, options)
    values: Mapping[str, Any] = {
        **options.for_uvicorn(PARAMETERS),
        **uvicorn_values(translated),
        **(_tls(cfg) if cfg.is_ssl else {}),
        "http": translated.http_parser,
        "access_log": options.access_log is not False,
        "backlog": cfg.backlog,
        "limit_max_requests": translated.max_requests or None,
        "limit_max_requests_jitter": translated.max_requests_jitter,
    }
    for name, value in values.items():
        if name not in ("env_file", "log_config"):  # the worker reads them
            setattr(config, name, value)


def _tls(cfg: Any) -> dict[str, Any]:
    names = ("keyfile", "certfile", "ssl_version", "cert_reqs", "ca_certs", "ciphers")
    given = {name: cfg.ssl_options.get(name) for name in names}
    return {f"ssl_{name.removeprefix('ssl_')}": value for name, value in given.items()}
