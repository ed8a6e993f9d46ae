"""``python -m uvworker check``: a configuration as gunicorn would load it.

Prints what the configuration does with this worker and on this machine, and imports
the app; starts nothing. Exits with 1 if the service would not start, if
gunicorn.conf.py has an unknown name, or if the app does not import.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.config import Config
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger

from .accept.tls import TLSError
from .app.interface import NotServable, interface_of
from .assembly import made_by
from .config import logconfig, requirements
from .config.effect import effect_of
from .config.options import Options
from .config.settings import OWN_PROTOCOL, Settings, translate
from .config.sources import OptionError
from .configured import ConfiguredWorker
from .machine import places, units
from .machine_check import findings
from .protocols import http2

PROGRAM = "python -m uvworker check"
USAGE = (
    f"{PROGRAM} [--json] [--stop-timeout S|UNIT] [--proxy-keepalive S] "
    "[gunicorn's arguments] [APP_MODULE]"
)


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: gunicorn's own, and those of `USAGE`.

    """
    parser = argparse.ArgumentParser(PROGRAM, USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stop-timeout", type=_stop_timeout)
    parser.add_argument("--proxy-keepalive", type=_seconds)
    asked, rest = parser.parse_known_args(arguments)
    # gunicorn parses sys.argv, and exits by itself where it cannot.
    sys.argv = [sys.argv[0], *rest]
    try:
        return _check(WSGIApplication(USAGE, prog="uvworker check"), asked)
    except RuntimeError as error:  # a configuration that gunicorn refuses
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if (seconds := float(text)) >= 0:  # false for nan
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


def _stop_timeout(text: str) -> float:
    """Return the seconds that are given, or those of the service with that name."""
    try:
        return _seconds(text)
    except argparse.ArgumentTypeError:
        found = units.stop_timeout(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither seconds nor a service that systemd knows here"
        )
    return found


def _check(application: WSGIApplication, asked: argparse.Namespace) -> int:
    _prepare(application)
    worker_class = application.cfg.worker_class
    problems = _foreign(worker_class)
    worker = None if problems else _made(application, problems)
    resolve_options = worker.resolve_options if worker else Options
    effect = effect_of(application.cfg, resolve_options, os.environ)
    problems += [
        *effect.problems,
        *_import(application, effect.interface),
    ]
    machine: list[str] = []
    try:
        options = resolve_options() if not effect.problems else Options()
        stop_timeout = asked.stop_timeout
        if stop_timeout is None and (unit := units.own()):
            stop_timeout = units.stop_timeout(unit)
        machine += findings(
            application.cfg, options, stop_timeout, asked.proxy_keepalive
        )
        if worker is not None and not worker.refused_overrides():  # it has a log
            problems += worker.unwritable(application.cfg, options, worker.log)
            problems += worker.unusable_logs()
        problems += _no_places(application.cfg, options)
        problems += _not_importable(translate(application.cfg, options), options)
        problems += _unspoken(translate(application.cfg, options))
    except TLSError as error:
        problems.append(f"TLS: {error}.")
    sections = {
        "Settings": [*effect.settings],
        "Options": [*effect.options],
        "No effect": [*(worker.lost_overrides() if worker else ()), *effect.warnings],
        "Machine": machine,
        "Problems": problems,
    }
    (_print_json if asked.json else _print)(sections)
    return 1 if problems else 0


def _prepare(application: WSGIApplication) -> None:
    """Do what gunicorn does between reading the configuration and the first fork."""
    os.environ.update(application.cfg.env)
    for path in (application.cfg.pythonpath or "").split(","):
        if path and os.path.abspath(path) not in sys.path:  # noqa: PTH100  # as it does
            sys.path.insert(0, os.path.abspath(path))  # noqa: PTH100  # as it does


def _foreign(worker_class: object) -> list[str]:
    """Return a sentence if it is not ours; gunicorn gives a string for no class."""
    if isinstance(worker_class, str):
        return [f"There is no worker class {worker_class}; uvworker.Worker is one."]
    if not isinstance(worker_class, type):
        named = f"{worker_class!r}, which is not a class"
        return [f"The worker class is {named}; uvworker.Worker is one."]
    if issubclass(worker_class, ConfiguredWorker):
        return []
    name = f"{worker_class.__module__}.{worker_class.__qualname__}"
    named = "Name it by -k or, in gunicorn.conf.py, as worker_class."
    return [f"The worker class is {name}; this is a check of uvworker.Worker. {named}"]


def _made(application: WSGIApplication, problems: list[str]) -> ConfiguredWorker | None:
    """Make a worker as the arbiter does before a fork, or say why it cannot."""
    cfg, worker_class = application.cfg, application.cfg.worker_class
    try:
        worker_class.take_as_reported(cfg)  # it is printed here
        worker: ConfiguredWorker = worker_class(
            *(1, os.getpid(), [], application, cfg.timeout / 2, cfg),
            _logger(cfg, problems),
        )
    except Exception as error:  # noqa: BLE001  a subclass may do anything
        refused = worker_class.refused_overrides()
        problems.extend(refused)
        if not refused:
            traceback.print_exc()
            problems.append(f"{worker_class.__qualname__} cannot be made: {error!r}.")
        return None
    return worker


def _logger(cfg: Any, problems: list[str]) -> Any:
    """Make gunicorn's logger, a plain one if *cfg* does not allow it."""
    try:
        return cfg.logger_class(cfg)
    except Exception as error:  # noqa: BLE001  a log configuration may call anything
        if not any(logconfig.unusable(cfg)):  # which is among the problems
            reason = str(error).rstrip(".")
            problems.append(f"gunicorn's logger cannot be made: {reason}.")
        return Logger(Config())


def _import(application: WSGIApplication, interface: str) -> list[str]:
    try:
        app = application.wsgi()
        if interface_of(app) == "factory":  # a worker calls it
            app = made_by(app)
    except (AppImportError, NotServable) as error:
        return [f"The app {application.app_uri} cannot be loaded: {error}"]
    except (Exception, SystemExit):  # noqa: BLE001  # the app's code may do anything
        traceback.print_exc()
        return [f"The app {application.app_uri} does not import."]
    if interface == "auto" and interface_of(app) == "wsgi":
        return ['The app is a WSGI app; the option interface = "wsgi" serves it.']
    return []


def _no_places(cfg: Any, options: Options) -> Iterator[str]:
    """Yield a sentence for each address and file that the service could not have."""
    binds = cfg.settings["bind"].get()
    try:
        reasons = {
            f"bind {bind}": places.why_no_listener(address)
            for bind, address in zip(binds, cfg.address, strict=True)
        }
    except RuntimeError as error:
        reasons = {f"bind {', '.join(binds)}": str(error).rstrip(".")}
    if cfg.pidfile:
        reasons[f"pidfile {cfg.pidfile}"] = places.why_no_file(cfg.pidfile)
    if ops_bind := options.ops_bind:
        path = ops_bind.removeprefix("unix:")
        reasons[f"ops_bind {ops_bind}"] = (
            places.why_no_socket(path)
            if path != ops_bind
            else places.why_no_host(ops_bind.rpartition(":")[0].strip("[]"))
        )
    yield from (f"{name}: {why}." for name, why in reasons.items() if why)


def _unspoken(settings: Settings) -> list[str]:
    """Return a sentence if the parser does not speak the HTTP/2 that is asked for."""
    try:
        if settings.http_parser not in OWN_PROTOCOL:
            http2(settings)
    except NotServable as error:
        return [str(error)]
    return []


def _not_importable(settings: Settings, options: Options) -> list[str]:
    """Return a sentence for each class, named by its module, that no worker can use."""
    names = requirements.named(settings, options).items()
    return [why for name, value in names if (why := _why_not_imported(name, value))]


def _why_not_imported(name: str, value: str) -> str:
    try:
        requirements.imported(name, value)
    except OptionError as error:
        return str(error)
    return ""


def _print(sections: Mapping[str, Collection[str]]) -> None:
    versions = (f"{name} {version(name)}" for name in ("gunicorn", "uvicorn"))
    sys.stdout.write(f"uvworker {version('uvworker')} with {', '.join(versions)}\n")
    for title, lines in sections.items():
        if lines:
            sys.stdout.write("".join(f"{line}\n" for line in (f"\n{title}", *lines)))
    if not sections["Problems"]:
        sys.stdout.write("\nThe app imports, and the service would start.\n")


def _print_json(sections: Mapping[str, Collection[str]]) -> None:
    names = {title.lower().replace(" ", "_"): title for title in sections}
    report = {name: sections[title] for name, title in names.items()}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
