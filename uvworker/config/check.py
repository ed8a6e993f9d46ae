"""``python -m uvworker check``: what a configuration does here, without starting it.

Puts together what the other rooms of this wing say. It knows gunicorn's ``cfg`` and
the worker class as it is given them; loading them is the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .names import unknown_names
from .options import Options
from .report import describe, lost_over_http2, report
from .requirements import unmet
from .settings import translate
from .sources import OptionError, resolve, unapplied

SECRET = "ssl_keyfile_password"  # noqa: S105  # the name of one


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a configuration does.

    Args:
        settings: a line for each setting that was changed.
        options: a line for each option that was changed.
        warnings: what does not apply, though the service starts.
        problems: what is refused at start, and names that nobody knows.
        interface: what the app is said to speak, or "auto".

    """

    settings: tuple[str, ...]
    options: tuple[str, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]
    interface: str


def check(
    cfg: Any,
    worker_class: type,
    parameters: Collection[str],
    environ: Mapping[str, str],
) -> Verdict:
    """Return what *cfg* and the options of *worker_class* do.

    Args:
        cfg: gunicorn's ``Config``, loaded.
        worker_class: the class that it names, with ``CONFIG_KWARGS`` and ``OPTIONS``.
        parameters: the parameter names of the installed ``uvicorn.Config``.
        environ: the environment that a worker would have.

    """
    problems = []
    options = Options()
    try:
        options = resolve(
            parameters,
            config_kwargs=getattr(worker_class, "CONFIG_KWARGS", {}),
            configured=getattr(worker_class, "OPTIONS", {}),
            environ=environ,
        )
    except OptionError as error:
        problems.append(f"{error}.")
    said = report(cfg, options)
    return Verdict(
        settings=tuple(describe(cfg, options)),
        options=tuple(_changed_options(options)),
        warnings=(
            *lost_over_http2(cfg, options),
            *(f"{line}." for line in unapplied(environ)),
        ),
        problems=(
            *problems,
            *said.refusals,
            *unmet(cfg, translate(cfg, options), options),
            *unknown_names(cfg),
        ),
        interface=options.interface,
    )


def _changed_options(options: Options) -> Iterator[str]:
    for item in fields(options):
        value = getattr(options, item.name)
        if value != getattr(Options(), item.name):
            yield f"{item.name} = {'...' if item.name == SECRET else repr(value)}"
