"""Parameters of uvicorn's that a subclass sets, and gunicorn has settings for.

uvicorn's worker accepted all of them. Rule: a parameter that had an effect there has it
here if gunicorn's own setting is at its default. A value that contradicts gunicorn's is
refused, with both values. A value that agrees, or asks for nothing, is accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..config.settings import changed
from ..config.sources import ELSEWHERE, asks_for_nothing

# Always honoured: called, or more often than required.
KEPT = frozenset({"callback_notify", "timeout_notify"})

# Honoured if these settings of gunicorn's are at their defaults.
HONOURED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "log_config": ("logconfig", "logconfig_dict", "logconfig_json"),
        "use_colors": (),
        "log_level": ("loglevel",),
        "backlog": ("backlog",),
        "timeout_graceful_shutdown": (),
    }
)

# The rest had no effect in uvicorn's worker, or is TLS, which the arbiter uses as well.
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "host": "bind",
        "port": "bind",
        "uds": "bind",
        "fd": "bind",
        "workers": "workers",
        "reload": "reload",
        "reload_dirs": "reload_extra_files",
        "reload_includes": "reload_extra_files",
        "timeout_graceful_shutdown": "graceful_timeout",
        "timeout_worker_healthcheck": "timeout",
        "ssl_keyfile": "keyfile",
        "ssl_certfile": "certfile",
        "ssl_version": "ssl_version",
        "ssl_cert_reqs": "cert_reqs",
        "ssl_ca_certs": "ca_certs",
        "ssl_ciphers": "ciphers",
    }
)

# Whether gunicorn's bind has an address.
IN_BIND: Mapping[str, Callable[[str, Any], bool]] = MappingProxyType(
    {
        "host": lambda bind, host: bind.rpartition(":")[0].strip("[]") == host,
        "port": lambda bind, port: bind.endswith(f":{port}"),
        "uds": lambda bind, uds: bind == f"unix:{uds}",
        "fd": lambda bind, fd: bind == f"fd://{fd}",
    }
)


def is_gunicorns(name: str) -> bool:
    """Return whether *name* is a parameter of uvicorn's that gunicorn decides."""
    return name in ELSEWHERE


def without_gunicorns(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters in *given* that gunicorn does not decide."""
    return {name: value for name, value in given.items() if not is_gunicorns(name)}


def problems(cfg: Any, given: Mapping[str, Any], spelling: str) -> Iterator[str]:
    """Yield a sentence for each value that conflicts with gunicorn's settings.

    Args:
        cfg: gunicorn's ``Config``.
        given: the parameters of uvicorn's that a subclass sets.
        spelling: the source, for messages, with a place for the name.

    """
    if given.get("use_colors") and given.get("log_config") is None:
        why = ELSEWHERE["use_colors"]
        yield f"{spelling.format('use_colors')} cannot be honoured: {why}."
    for name, value in given.items():
        if is_gunicorns(name):
            yield from _problems(cfg, name, value, spelling.format(name))


def _problems(cfg: Any, name: str, value: Any, source: str) -> Iterator[str]:
    if name in KEPT or asks_for_nothing(name, value):
        return
    if name in HONOURED:
        for setting in HONOURED[name]:
            if changed(cfg, setting) and cfg.settings[setting].get() != value:
                yield _contradiction(cfg, setting, name, value, source)
        yield from CHECKS[name](cfg, value, source)
    elif not _agrees(cfg, name, value):
        if name in SETTINGS:
            yield _contradiction(cfg, SETTINGS[name], name, value, source)
        else:
            yield f"{source} cannot be honoured: {ELSEWHERE[name]}."


def _contradiction(cfg: Any, setting: str, name: str, value: Any, source: str) -> str:
    theirs = cfg.settings[setting].get()
    return (
        f"{source} is {value!r}, and gunicorn's {setting} is {theirs!r}: "
        f"{ELSEWHERE[name]}."
    )


def _agrees(cfg: Any, name: str, value: Any) -> bool:
    if name in IN_BIND:
        binds = cfg.settings["bind"].get()
        binds = [binds] if isinstance(binds, str) else binds
        return any(IN_BIND[name](bind, value) for bind in binds)
    if name not in SETTINGS:
        return False
    theirs = cfg.settings[SETTINGS[name]].get()
    return bool(str(theirs) == str(value))


def _log_config(_cfg: Any, value: Any, source: str) -> Iterator[str]:
    if not isinstance(value, (str, Path)):
        return
    if not Path(value).exists():
        yield f"{source} is {str(value)!r}, which does not exist."
    elif str(value).endswith((".yaml", ".yml")) and find_spec("yaml") is None:
        yield f"{source} needs the package PyYAML: pip install pyyaml."


def level(value: Any) -> int | None:
    """Return uvicorn's *value* for a log level as a number, None if it is unknown."""
    if isinstance(value, int):
        return value
    known = {"trace": 5} | {
        name: getattr(logging, name.upper())
        for name in ("critical", "error", "warning", "info", "debug")
    }
    return known.get(str(value).lower())


def _log_level(_cfg: Any, value: Any, source: str) -> Iterator[str]:
    if level(value) is None:
        yield (
            f"{source} is {value!r}; allowed: critical, error, warning, info, debug, "
            "trace, or a number."
        )


def _seconds(cfg: Any, value: Any, source: str) -> Iterator[str]:
    """Yield a sentence for a time limit that is longer than the arbiter's."""
    if not isinstance(value, (int, float)) or value < 0:
        yield f"{source} is {value!r}; allowed: seconds, a number, at least 0."
    elif value > cfg.graceful_timeout > 0:
        yield _contradiction(
            cfg, "graceful_timeout", "timeout_graceful_shutdown", value, source
        )


def _length(_cfg: Any, value: Any, source: str) -> Iterator[str]:
    if not isinstance(value, int) or value < 1:
        yield f"{source} is {value!r}; allowed: a whole number, at least 1."


def _anything(_cfg: Any, _value: Any, _source: str) -> Iterator[str]:
    yield from ()


CHECKS: Mapping[str, Callable[[Any, Any, str], Iterator[str]]] = MappingProxyType(
    {
        "log_config": _log_config,
        "use_colors": _anything,
        "log_level": _log_level,
        "backlog": _length,
        "timeout_graceful_shutdown": _seconds,
    }
)
