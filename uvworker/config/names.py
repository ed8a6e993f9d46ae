"""Names in ``gunicorn.conf.py`` that gunicorn does not know, and does not mention.

gunicorn skips every name that is no setting, so that ``keep_alive = 75`` changes
nothing. Whether such a name is a slip or the author's own constant, its source tells:
a constant is read somewhere in the file, a slip never is. So a name is reported only
if the file sets it at its top level, never reads it, and it is near a setting, or is
an option's. Imported names are not the file's own, and names with a leading
underscore are the author's by convention.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .contract import CONTRACT, SECTIONS
from .options import table
from .sources import ELSEWHERE

NEAR = 0.8  # difflib's ratio; typing slips are above 0.9, "bind_host" is 0.67

HOOKS = frozenset(
    row.name
    for section in ("Server Hooks", "Dirty Arbiter Hooks")
    for row in SECTIONS[section]
)

# Names of other servers, and of gunicorn's command line, that no ratio finds.
ALIASES: Mapping[str, str] = {
    "access_logfile": "accesslog",
    "access_logformat": "access_log_format",
    "error_logfile": "errorlog",
    "keep_alive_timeout": "keepalive",
    "log_file": "errorlog",
    "log_syslog": "syslog",
    "preload": "preload_app",
    "proxy_allow_from": "proxy_allow_ips",
    "reload_extra_file": "reload_extra_files",
    "worker_timeout": "timeout",
}


def unknown_names(cfg: Any) -> list[str]:
    """Return a sentence for each slip in the configuration file that *cfg* came from.

    Runs after gunicorn read the file: at start, or in the arbiter after HUP.

    Args:
        cfg: gunicorn's ``Config``.

    """
    path = configuration_file(cfg)
    if path is None or path.suffix == ".pyc":
        return []
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):  # gone or changed since gunicorn read it
        return []
    return [f"{path.name}: {slip}" for slip in slips(tree, cfg.settings)]


def configuration_file(cfg: Any) -> Path | None:
    """Return the source of the configuration that gunicorn read, if there is one."""
    location = str(cfg.settings["config"].get() or "")
    is_module = location.startswith("python:")
    name = location.removeprefix("python:") if is_module else "__config__"
    source = getattr(sys.modules.get(name), "__file__", None)
    return Path(source) if source else None


def slips(tree: ast.Module, settings: Collection[str]) -> list[str]:
    """Return a sentence for each name in *tree* that was meant for a setting.

    Args:
        tree: the configuration file, parsed.
        settings: the names that the installed gunicorn knows.

    """
    read = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)
    }
    candidates = {
        name: is_function
        for name, is_function in _assigned(tree)
        if not name.startswith("_") and name not in settings and name not in read
    }
    return [
        sentence
        for name, is_function in candidates.items()
        if (sentence := _explain(name, settings, is_function))
    ]


def _assigned(parent: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield each name that is set outside functions and classes, and if by ``def``."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, True
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from ((name, False) for name in _targets(node))
        elif not isinstance(node, ast.ClassDef):
            yield from _assigned(node)


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    return [
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def _explain(name: str, settings: Collection[str], is_function: bool) -> str:
    if name in CONTRACT:
        return f"{name} is no setting of this gunicorn{_instead_of(name)}."
    if is_function:
        near = _nearest(name, HOOKS)
        return f"{name}() is no hook; did you mean {near}?" if near else ""
    if name in table() and table()[name].setting not in settings:
        return f"{name} is an option: Worker.configured({name}=...) sets it."
    twin = table()[name].setting if name in table() else ""
    if near := twin or ALIASES.get(name) or _nearest(name, settings):
        return f"{name} is no setting and has no effect; did you mean {near}?"
    if name in ELSEWHERE and name != "app":  # -c may name the app's own module
        return f"{name} is no setting and has no effect: {ELSEWHERE[name]}."
    return ""


def _instead_of(setting: str) -> str:
    """Return how to have what only a newer gunicorn has a setting for."""
    options = [name for name, row in table().items() if row.setting == setting]
    option = f", and is the option {options[0]} here" if options else ""
    return f"; it came with gunicorn {CONTRACT[setting].since}{option}"


def _nearest(name: str, names: Collection[str]) -> str:
    """Return the nearest of *names*, whatever the case and the underscores."""
    folded = {_folded(known): known for known in names}
    near = get_close_matches(_folded(name), folded, n=1, cutoff=NEAR)
    return folded[near[0]] if near else ""


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
