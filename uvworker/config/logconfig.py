"""Log configurations that gunicorn or a worker cannot use, most of them uvicorn's.

gunicorn reads them before it loads the worker class, and exits with `Error: Unable to
configure root logger` or a traceback. So ``check`` says what to do. Rule: this room
reads the files, follows their references and imports their classes, but configures
nothing, because a handler would open its file.
"""

from __future__ import annotations

import configparser
import json
import logging.config
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

YAML = (".yaml", ".yml")

NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})  # uvicorn adds none

# The top-level keys that gunicorn adds to a configuration that lacks them.
DEFAULTS: Mapping[str, Any] = {
    "version": 1,
    "root": {"handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {"handlers": ["error_console"]},
        "gunicorn.access": {"handlers": ["console"]},
    },
    "handlers": {
        "console": {"formatter": "generic"},
        "error_console": {"formatter": "generic"},
    },
    "formatters": {"generic": {}},
}


def unusable(cfg: Any) -> Iterator[str]:
    """Yield what is wrong with the log configuration of *cfg*, gunicorn's ``Config``.

    If several are set, gunicorn prefers the dictionary to JSON, and JSON to INI.
    """
    if cfg.logconfig_dict:
        yield from _dangling("logconfig_dict", cfg.logconfig_dict)
    elif cfg.logconfig_json:
        yield from ignored(cfg)
        if Path(cfg.logconfig_json).exists():
            yield from _json("logconfig_json", Path(cfg.logconfig_json))
    elif cfg.logconfig:
        yield from _ini(Path(cfg.logconfig))


def unusable_in_worker(given: Any) -> Iterator[str]:
    """Yield what is wrong with uvicorn's ``log_config``, which a worker applies."""
    name = "log_config"
    if isinstance(given, dict):
        yield from _dangling(name, given, NO_DEFAULTS)
    elif str(given).endswith(".json"):
        yield from _json(name, Path(given), NO_DEFAULTS)
    elif isinstance(given, (str, Path)) and Path(given).suffix not in YAML:
        yield from _ini(Path(given), name)


def ignored(cfg: Any) -> Iterator[str]:
    """Yield a sentence if a file is set that gunicorn silently does without."""
    path = cfg.logconfig_json
    if path and not (cfg.logconfig_dict or Path(path).exists()):
        yield f"logconfig_json {path} does not exist, and gunicorn starts without it."


def _json(
    setting: str, path: Path, defaults: Mapping[str, Any] = DEFAULTS
) -> Iterator[str]:
    name = f"{setting} {path}"
    if path.suffix in YAML:
        yield _yaml(name, path)
    else:
        try:
            config = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            yield f"{name} cannot be read: {error}."
            return
        if isinstance(config, dict):
            yield from _dangling(name, config, defaults)
        else:
            yield f"{name} does not contain a JSON object."


def _ini(path: Path, setting: str = "logconfig") -> Iterator[str]:
    name = f"{setting} {path}"
    try:
        text = path.read_text()
    except OSError as error:
        yield f"{name} cannot be read: {error.strerror}."
        return
    if path.suffix in YAML:
        yield _yaml(name, path)
    elif path.suffix == ".json" or text.lstrip().startswith("{"):
        yield f"{name} is JSON, and logconfig reads INI: set logconfig_json to it."
        yield from _json("logconfig_json", path)
    else:
        yield from _sections(name, text)


def _sections(name: str, text: str) -> Iterator[str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        first_line = str(error).splitlines()[0].rstrip(".")
        yield f"{name} is not an INI file, which logconfig reads: {first_line}."
        return
    for section in ("loggers", "handlers", "formatters"):
        if section not in parser:
            yield f"{name} has no section [{section}]."


def _yaml(name: str, path: Path) -> str:
    return (
        f"{name} is YAML, which gunicorn does not read: write `import yaml` and "
        f'`logconfig_dict = yaml.safe_load(open("{path}"))` in gunicorn.conf.py.'
    )


def _dangling(
    name: str, given: Mapping[str, Any], defaults: Mapping[str, Any] = DEFAULTS
) -> Iterator[str]:
    """Yield a sentence for each name that *given* uses and that is not there.

    *defaults*: the top-level keys that *given* may lack.
    """
    config = {**defaults, **given}
    if "version" not in config:
        yield f'{name} has no version: add "version": 1.'
    handlers = config.get("handlers") or {}
    loggers = {"root": config.get("root"), **(config.get("loggers") or {})}
    for logger, its in loggers.items():
        key = "root" if logger == "root" else "loggers"
        if missing := _missing(its, "handlers", handlers):
            why = "is missing" if key in given else f'is missing: add "{key}": {{}}'
            yield f"{name}: the handler {missing!r} of logger {logger} {why}."
    for handler, its in handlers.items():
        for key, referred in (("formatter", "formatters"), ("filters", "filters")):
            if missing := _missing(its, key, config.get(referred) or {}):
                yield f"{name}: the {key} {missing!r} of handler {handler} is missing."
    yield from _absent(name, config)


def _absent(name: str, config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each class, and directory of a log file, that is not there.

    A class that is not of `logging` may make its directory.
    """
    for section in ("formatters", "filters", "handlers"):
        for key, its in (config.get(section) or {}).items():
            factory = (its or {}).get("()") or (its or {}).get("class")
            if why := _why_not_imported(factory):
                yield f"{name}: {section[:-1]} {key}: {why}."
            elif str(factory).startswith("logging."):
                folder = Path(its.get("filename") or ".").parent
                if not folder.is_dir():
                    lacks = f"the directory {folder} of {section[:-1]} {key}"
                    yield f"{name}: {lacks} does not exist."


def _why_not_imported(factory: Any) -> str:
    """Return why a handler, formatter or filter has no class; empty if it has."""
    try:
        if isinstance(factory, str):
            name = factory.removeprefix("ext://")
            logging.config.BaseConfigurator({}).resolve(name)
    except Exception as error:  # noqa: BLE001  its module may do anything
        return str(error).rstrip(".")
    return ""


def _missing(its: Any, key: str, known: Iterable[str]) -> str:
    """Return the first of the names under *key* that is not known."""
    names = (its or {}).get(key) or ()
    names = [names] if isinstance(names, str) else names
    return next((n for n in names if isinstance(n, str) and n not in known), "")
