"""What of this machine, and of what is before and above a service, does not fit it.

For ``python -m uvworker check``, which has imported the app: this process then weighs
what a worker will. Each finding is one sentence: what, why it hurts, what to set.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .accept.refused_certificate import why_refused
from .booting import load_certificates
from .config import settings
from .config.options import Options
from .machine import shortages

DAY = 86_400  # seconds
SOON = 14  # days; certificates that renew themselves do so a month before


def findings(
    cfg: Any,
    options: Options,
    stop_timeout: float | None,
    proxy_keepalive: float | None,
) -> list[str]:
    """Return a sentence for each finding; raises ``TLSError`` where TLS cannot start.

    Args:
        cfg: gunicorn's ``Config``, loaded.
        options: of the worker.
        stop_timeout: seconds from TERM until the engine kills, if that is known.
        proxy_keepalive: seconds for which the proxy keeps an idle connection.

    """
    given = settings.translate(cfg, options)
    sentences = (
        shortages.cpus(cfg.workers),
        shortages.memory(cfg.workers, preload=cfg.preload_app),
        shortages.descriptors(given.worker_connections),
        shortages.backlog(cfg.backlog),
        shortages.heartbeats(cfg.worker_tmp_dir),
        _stop(cfg.graceful_timeout, stop_timeout),
        _idle(given.keepalive, proxy_keepalive),
        *_certificate(cfg, options),
    )
    return [sentence for sentence in sentences if sentence]


def _stop(graceful: float, stop_timeout: float | None) -> str:
    if stop_timeout is None or stop_timeout > graceful:
        return ""
    return (
        f"graceful_timeout = {graceful:g}, but the service is killed after "
        f"{stop_timeout:g} s: requests in flight are cut. Set TimeoutStopSec, "
        "stop_grace_period or terminationGracePeriodSeconds above it, or it below."
    )


def _idle(keepalive: float, proxy_keepalive: float | None) -> str:
    if proxy_keepalive is None or keepalive > proxy_keepalive:
        return ""
    return (
        f"keepalive = {keepalive:g}, but the proxy keeps idle connections for "
        f"{proxy_keepalive:g} s: a request meets one that closes, and becomes a 502. "
        f"Set keepalive to {proxy_keepalive + 15:g}, or the proxy's time below it."
    )


def _certificate(cfg: Any, options: Options) -> Iterator[str]:
    given = settings.translate(cfg, options)
    certificates = load_certificates(cfg, given, options.ssl_keyfile_password)
    if certificates is None:
        return
    name = f"The certificate in {given.certfile or 'the ssl_context hook'}"
    if why := why_refused(certificates.context):
        yield f"{name} {why}"
    days = ((certificates.expires or time.time() + SOON * DAY) - time.time()) / DAY
    if 0 < days < SOON:
        yield f"{name} expires in {days:.0f} days: renew it; no reload is needed."
