"""``python -m uvworker check [gunicorn's own arguments]``.

Loads a configuration as gunicorn would, says what it does with this worker, and
imports the app; starts nothing. Exits with 1 if the service would not start, if
gunicorn.conf.py holds a name that nobody knows, or if the app does not import.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Collection
from importlib.metadata import version

import uvicorn
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.errors import AppImportError

from .assembly import NotServable, made_by
from .config.check import Verdict, check
from .config.interface import interface_of
from .configured import ConfiguredWorker

USAGE = "python -m uvworker check [gunicorn's arguments] [APP_MODULE]"


def main(arguments: list[str]) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: the command line after ``python -m uvworker``.

    """
    if arguments[:1] != ["check"]:
        sys.stderr.write(f"usage: {USAGE}\n")
        return 2
    # gunicorn parses sys.argv, and exits by itself where it cannot.
    sys.argv = [sys.argv[0], *arguments[1:]]
    try:
        return _check(WSGIApplication(USAGE, prog="uvworker check"))
    except RuntimeError as error:  # gunicorn's word for a configuration it refuses
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _check(application: WSGIApplication) -> int:
    _prepare(application)
    worker_class = application.cfg.worker_class
    parameters = inspect.signature(uvicorn.Config).parameters
    verdict = check(application.cfg, worker_class, parameters, os.environ)
    problems = [
        *_foreign(worker_class),
        *verdict.problems,
        *_import(application, verdict.interface),
    ]
    _print(verdict, problems)
    return 1 if problems else 0


def _prepare(application: WSGIApplication) -> None:
    """Do what gunicorn does between reading the configuration and the first fork."""
    os.environ.update(application.cfg.env)
    for path in (application.cfg.pythonpath or "").split(","):
        if path and os.path.abspath(path) not in sys.path:  # noqa: PTH100  # as it does
            sys.path.insert(0, os.path.abspath(path))  # noqa: PTH100  # as it does


def _foreign(worker_class: type | str) -> list[str]:
    """Return a sentence if it is none of ours; gunicorn says a string of no class."""
    if isinstance(worker_class, str):
        return [f"There is no worker class {worker_class}; uvworker.Worker is one."]
    if issubclass(worker_class, ConfiguredWorker):
        return []
    name = f"{worker_class.__module__}.{worker_class.__qualname__}"
    return [f"The worker class is {name}; this is a check of uvworker.Worker."]


def _import(application: WSGIApplication, interface: str) -> list[str]:
    try:
        app = application.wsgi()
        if interface_of(app) == "factory":  # which a worker calls
            app = made_by(app)
    except (AppImportError, NotServable) as error:
        return [f"The app {application.app_uri} cannot be loaded: {error}"]
    except (Exception, SystemExit):  # noqa: BLE001  # the app's code may do anything
        traceback.print_exc()
        return [f"The app {application.app_uri} does not import."]
    if interface == "auto" and interface_of(app) == "wsgi":
        return ['The app is a WSGI app; the option interface = "wsgi" serves it.']
    return []


def _print(verdict: Verdict, problems: list[str]) -> None:
    versions = (f"{name} {version(name)}" for name in ("gunicorn", "uvicorn"))
    sys.stdout.write(f"uvworker {version('uvworker')} with {', '.join(versions)}\n")
    _section("Settings", verdict.settings)
    _section("Options", verdict.options)
    _section("No effect", verdict.warnings)
    _section("Problems", problems)
    if not problems:
        sys.stdout.write("\nThe app imports, and the service would start.\n")


def _section(title: str, lines: Collection[str]) -> None:
    if lines:
        sys.stdout.write("".join(f"{line}\n" for line in (f"\n{title}", *lines)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
