"""Log configurations that gunicorn cannot use, most of them written for uvicorn.

gunicorn reads them before it loads the worker class, and exits with `Error: Unable to
configure root logger` or a traceback. So ``check`` says what to do. Rule: this room
reads the files and follows their references, but configures nothing, because a handler
would open its file.
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

YAML = (".yaml", ".yml")

# The top-level keys that gunicorn adds to a configuration that lacks them.
DEFAULTS: Mapping[str, Any] = {
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


def ignored(cfg: Any) -> Iterator[str]:
    """Yield a sentence if a file is set that gunicorn silently does without."""
    path = cfg.logconfig_json
    if path and not (cfg.logconfig_dict or Path(path).exists()):
        yield f"logconfig_json {path} does not exist, and gunicorn starts without it."


def _json(setting: str, path: Path) -> Iterator[str]:
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
            yield from _dangling(name, config)
        else:
            yield f"{name} does not contain a JSON object."


def _ini(path: Path) -> Iterator[str]:
    name = f"logconfig {path}"
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


def _dangling(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each name that *given* uses and does not define."""
    config = {**DEFAULTS, **given}
    handlers = config["handlers"] or {}
    for logger, its in {"root": config["root"], **(config["loggers"] or {})}.items():
        key = "root" if logger == "root" else "loggers"
        if missing := _missing(its, "handlers", handlers):
            why = "is missing" if key in given else f'is missing: add "{key}": {{}}'
            yield f"{name}: the handler {missing!r} of logger {logger} {why}."
    for handler, its in handlers.items():
        for key, referred in (("formatter", "formatters"), ("filters", "filters")):
            if missing := _missing(its, key, config.get(referred) or {}):
                yield f"{name}: the {key} {missing!r} of handler {handler} is missing."


def _missing(its: Any, key: str, known: Iterable[str]) -> str:
    """Return the first of the names under *key* that is not known."""
    names = (its or {}).get(key) or ()
    names = [names] if isinstance(names, str) else names
    return next((n for n in names if isinstance(n, str) and n not in known), "")
