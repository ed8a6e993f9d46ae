"""The settings that are not honoured, as sentences for the log at start.

Rule: a setting is mentioned only if the user changed it and it is not fully honoured.
The caller decides where the sentences go.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .options import Options
from .settings import OWN_PROTOCOL, changed, h2c, speaks_tls, translate
from .support import Layer
from .support_table import SUPPORT

LONGEST_VALUE = 60  # characters; a logconfig_dict fills a screen
INTERNAL = "default_proc_name"  # gunicorn sets it to the app's name
KEY_VALUE = ("raw_env", "raw_paste_global_conf")  # NAME=value, which may be a secret


NO_TLS = (
    "http_protocols has h2, but HTTP/2 is spoken over TLS only; set certfile or "
    "http2_cleartext, or have the proxy speak HTTP/1.1."
)


class Refused(Exception):  # noqa: N818  the start is refused
    """A setting that cannot be honoured and must not be ignored."""


@dataclass(frozen=True, slots=True)
class Report:
    """A sentence for each setting that is not honoured.

    Args:
        refusals: for these the start is refused.
        warnings: for these it is not.

    """

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]

    def enforce(self) -> None:
        """Raise :class:`Refused` if there are refusals."""
        if self.refusals:
            raise Refused(" ".join(self.refusals))


def report(cfg: Any, options: Options) -> Report:
    """Return which of the settings that the user changed are not honoured.

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


def unspoken_http2(cfg: Any, options: Options) -> list[str]:
    """Return a sentence if HTTP/2 is asked for and no connection can be HTTP/2.

    Args:
        cfg: gunicorn's ``Config``, of any version.
        options: the worker's resolved options.

    """
    settings = translate(cfg, options)
    asked = "h2" in settings.http_protocols
    return [NO_TLS] if asked and not (speaks_tls(cfg) or h2c(settings)) else []


def describe(cfg: Any, options: Options) -> list[str]:
    """Return a line for each setting that the user changed, except refused ones."""
    absent = _absent(cfg, options)
    return [
        f"{shown(cfg, name)} {lacks}" if lacks else f"{shown(cfg, name)}: {_how(name)}."
        for name in sorted(cfg.settings)
        if changed(cfg, name) and name != INTERNAL
        if not (lacks := _lacks(cfg, name, absent)) or not _is_refused(cfg, name)
    ]


def _how(name: str) -> str:
    return SUPPORT[name].how


def _is_refused(cfg: Any, name: str) -> bool:
    return name in SUPPORT and SUPPORT[name].refuse(cfg.settings[name].get())


def _absent(cfg: Any, options: Options) -> Collection[Layer]:
    """Return the layers that this configuration does not use."""
    used: dict[Layer, bool] = {
        "protocol": translate(cfg, options).http_parser in OWN_PROTOCOL,
        "wsgi": options.interface == "wsgi",
    }
    return [layer for layer, is_used in used.items() if not is_used]


def _lacks(cfg: Any, name: str, absent: Collection[Layer]) -> str:
    """Return the end of the sentence about a changed setting; empty if honoured."""
    row = SUPPORT.get(name)
    if row is None:
        return "is newer than this uvworker, and may have no effect."
    if row.layer == "protocol" and "protocol" in absent:
        return 'is honoured with http = "auto" only, and has no effect otherwise.'
    if row.layer == "wsgi" and "wsgi" not in absent:
        return ""
    if row.lacks and row.when(cfg.settings[name].get()):
        extent = "honoured in part" if row.how else "not honoured"
        return f"is {extent}: {row.lacks}."
    return ""


def shown(cfg: Any, name: str) -> str:
    """Return ``name = value`` on one short line; values of variables are left out."""
    value = cfg.settings[name].get()
    if name in KEY_VALUE:
        value = [str(item).partition("=")[0] for item in value]
    text = value.__qualname__ if callable(value) else repr(value)
    return f"{name} = {textwrap.shorten(text, LONGEST_VALUE, placeholder=' ...')}"
