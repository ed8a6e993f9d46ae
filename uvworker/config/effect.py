"""What a configuration does, found without a start; for ``python -m uvworker check``.

Collects what the other rooms of this wing report. The caller, `check_command`, loads
gunicorn's ``cfg`` and the worker class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from . import env_file, logconfig
from .options import Options
from .report import describe, report, unspoken_http2
from .requirements import unmet
from .settings import translate
from .sources import OptionError, unapplied
from .unknown_names import unknown_names

SECRET = "ssl_keyfile_password"  # noqa: S105  # the name of the option


@dataclass(frozen=True, slots=True)
class Effect:
    """What a configuration does.

    Args:
        settings: a line for each setting that was changed.
        options: a line for each option that was changed.
        warnings: what has no effect, although the service starts.
        problems: what is refused at start, and unknown names.
        interface: the interface that the options name, or "auto".

    """

    settings: tuple[str, ...]
    options: tuple[str, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    interface: str


def effect_of(
    cfg: Any, resolve_options: Callable[[], Options], environ: Mapping[str, str]
) -> Effect:
    """Return what *cfg* and the options of a worker do.

    Args:
        cfg: gunicorn's ``Config``, loaded.
        resolve_options: returns the worker's options, or raises ``OptionError``.
        environ: the environment that a worker would have.

    """
    problems: list[str] = []
    options = Options()
    try:
        options = resolve_options()
    except OptionError as error:
        problems.extend(error.problems)
    said = report(cfg, options)
    return Effect(
        settings=tuple(describe(cfg, options)),
        options=tuple(_changed_options(options)),
        warnings=(
            *unspoken_http2(cfg, options),
            *env_file.unread(cfg, options),
            *unapplied(environ),
        ),
        problems=(
            *problems,
            *said.refusals,
            *unmet(cfg, translate(cfg, options), options),
            *logconfig.unusable(cfg),
            *unknown_names(cfg),
        ),
        interface=options.interface,
    )


def _changed_options(options: Options) -> Iterator[str]:
    for item in fields(options):
        value = getattr(options, item.name)
        if value != getattr(Options(), item.name):
            yield f"{item.name} = {'...' if item.name == SECRET else repr(value)}"
