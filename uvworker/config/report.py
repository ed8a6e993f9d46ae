"""What is said at start: of each setting that the user changed, what does not hold.

A setting left at its default is never mentioned, and neither is one that is kept. The
lines are sentences for the error log; whoever prints them decides where.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .contract import CONTRACT
from .options import Options
from .row import Keeper
from .settings import OWN_PROTOCOL, changed, speaks_tls, translate

LONGEST_VALUE = 60  # characters; a logconfig_dict fills a screen
INTERNAL = "default_proc_name"  # gunicorn sets it to the app's name
KEY_VALUE = ("raw_env", "raw_paste_global_conf")  # NAME=value, which may be a secret


# Options that only this package's HTTP/1.1 keeps.
HTTP1_ALONE = ("header_timeout", "body_timeout", "request_timeout", "max_body_size")
GRACE = "asgi_disconnect_grace_period"  # a setting that only it keeps

NO_TLS = (
    "http_protocols has h2, but HTTP/2 is spoken over TLS only; set certfile, or have "
    "the proxy speak HTTP/1.1."
)


class Refused(Exception):  # noqa: N818  what happens to the start
    """A setting that cannot be honoured and must not be ignored."""


@dataclass(frozen=True, slots=True)
class Report:
    """The settings that do not hold, a sentence each.

    Args:
        refusals: those for which the start has to be refused.
        warnings: the others.

    """

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    def enforce(self) -> None:
        """Raise :class:`Refused` if anything is."""
        if self.refusals:
            raise Refused(" ".join(self.refusals))


def report(cfg: Any, options: Options) -> Report:
    """Return what does not hold of the settings that the user changed.

    Args:
        cfg: gunicorn's ``Config``, of any version.
        options: the worker's resolved options.

    """
    refusals: list[str] = []
    warnings: list[str] = []
    absent = _absent(cfg, options)
    for name in cfg.settings:
        lacks = _lacks(cfg, name, absent)
        if lacks and changed(cfg, name):
            lines = refusals if _is_refused(cfg, name) else warnings
            lines.append(f"{shown(cfg, name)} {lacks}")
    return Report(tuple(refusals), tuple(warnings))


def lost_over_http2(cfg: Any, options: Options) -> list[str]:
    """Return a sentence for each thing that HTTP/2 does not keep, if it is asked for.

    Args:
        cfg: gunicorn's ``Config``, of any version.
        options: the worker's resolved options.

    """
    settings = translate(cfg, options)
    if "h2" not in settings.http_protocols:
        return []
    if not speaks_tls(cfg):
        return [NO_TLS]
    given = {name: getattr(options, name) for name in HTTP1_ALONE}
    alone = {n: v for n, v in given.items() if v != getattr(Options(), n)}
    if (grace := settings.asgi_disconnect_grace_period) is not None:
        alone[GRACE] = grace
    return [
        f"{name} = {value!r} holds for HTTP/1.1 only; leave h2 out of http_protocols, "
        "or have the proxy in front see to it."
        for name, value in alone.items()
    ]


def describe(cfg: Any, options: Options) -> list[str]:
    """Return a line for each setting that the user changed, but for the refused."""
    absent = _absent(cfg, options)
    return [
        f"{shown(cfg, name)} {lacks}" if lacks else f"{shown(cfg, name)}: {_how(name)}."
        for name in sorted(cfg.settings)
        if changed(cfg, name) and name != INTERNAL
        if not (lacks := _lacks(cfg, name, absent)) or not _is_refused(cfg, name)
    ]


def _how(name: str) -> str:
    return CONTRACT[name].how


def _is_refused(cfg: Any, name: str) -> bool:
    return name in CONTRACT and CONTRACT[name].refuse(cfg.settings[name].get())


def _absent(cfg: Any, options: Options) -> Collection[Keeper]:
    """Return who is not there to keep a setting."""
    there: dict[Keeper, bool] = {
        "protocol": translate(cfg, options).http_parser in OWN_PROTOCOL,
        "wsgi": options.interface == "wsgi",
    }
    return [keeper for keeper, is_there in there.items() if not is_there]


def _lacks(cfg: Any, name: str, absent: Collection[Keeper]) -> str:
    """Return the end of the sentence about a changed setting; empty if it holds."""
    row = CONTRACT.get(name)
    if row is None:
        return "is newer than this uvworker, and may have no effect."
    if row.keeper == "protocol" and "protocol" in absent:
        return 'is kept by http = "auto" only, and has no effect with another protocol.'
    if row.keeper == "wsgi" and "wsgi" not in absent:
        return ""
    if row.lacks and row.when(cfg.settings[name].get()):
        extent = "honoured in part" if row.how else "not honoured"
        return f"is {extent}: {row.lacks}."
    return ""


def shown(cfg: Any, name: str) -> str:
    """Return ``name = value`` on one short line, without the values of variables."""
    value = cfg.settings[name].get()
    if name in KEY_VALUE:
        value = [str(item).partition("=")[0] for item in value]
    text = value.__qualname__ if callable(value) else repr(value)
    return f"{name} = {textwrap.shorten(text, LONGEST_VALUE, placeholder=' ...')}"
