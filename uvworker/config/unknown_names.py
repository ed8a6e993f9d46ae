"""Names in ``gunicorn.conf.py`` that gunicorn does not know, and silently ignores.

``keep_alive = 75`` changes nothing, because the setting is ``keepalive``. Such a name
is a mistake or the author's own constant. The rule: a constant is read somewhere in the
file, a mistake is not. So a name is reported only if the file sets it at its top level
and never reads it, and if it is similar to a setting or is an option. Imported names
and names with a leading underscore are not reported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .options import table
from .sources import ELSEWHERE
from .support_table import SECTIONS, SUPPORT

# Ours has settings of a newer gunicorn than may be installed, which ignores them.
DEFAULTS = Path(__file__).parents[1] / "defaults.py"

NEAR = 0.8  # difflib's ratio; typing errors are above 0.9, "bind_host" is 0.67

HOOKS = frozenset(
    row.name
    for section in ("Server Hooks", "Dirty Arbiter Hooks")
    for row in SECTIONS[section]
)

# Names of other servers, of gunicorn's command line and of old gunicorns, that the
# ratio does not find; in lower case, without underscores.
ALIASES: Mapping[str, str] = {
    "accesslogfile": "accesslog",
    "accesslogformat": "access_log_format",
    "address": "bind",
    "autoreload": "reload",
    "cwd": "chdir",
    "djangosettings": "raw_env",
    "env": "raw_env",
    "environment": "raw_env",
    "envvars": "raw_env",
    "errorlogfile": "errorlog",
    "gracefulshutdowntimeout": "graceful_timeout",
    "keepalivetimeout": "keepalive",
    "listen": "bind",
    "logfile": "errorlog",
    "logformat": "access_log_format",
    "logsyslog": "syslog",
    "maxrequestsperchild": "max_requests",
    "maxrequestsperworker": "max_requests",
    "name": "proc_name",
    "nworkers": "workers",
    "numberofworkers": "workers",
    "numthreads": "threads",
    "numworkers": "workers",
    "pid": "pidfile",
    "preload": "preload_app",
    "processes": "workers",
    "processname": "proc_name",
    "proxyallowfrom": "proxy_allow_ips",
    "reloadextrafile": "reload_extra_files",
    "shutdowntimeout": "graceful_timeout",
    "sslca": "ca_certs",
    "sslcert": "certfile",
    "sslkey": "keyfile",
    "threadcount": "threads",
    "threadscount": "threads",
    "trustedproxies": "forwarded_allow_ips",
    "workercount": "workers",
    "workermaxrequests": "max_requests",
    "workerscount": "workers",
    "workertimeout": "timeout",
    "workertype": "worker_class",
    "workingdirectory": "chdir",
}
OPTION_ALIASES: Mapping[str, str] = {
    "clientmaxbodysize": "max_body_size",
    "limitrequestbody": "max_body_size",
    "maxmemory": "max_rss",
    "maxmemoryperchild": "max_rss",
    "maxworkerlifetime": "max_lifetime",
    "maxworkermemory": "max_rss",
    "memorylimit": "max_rss",
    "workermaxmemory": "max_rss",
    "workermaxmemoryperchild": "max_rss",
    "workermemorylimit": "max_rss",
    "workerlifetime": "max_lifetime",
}

# Common words: a mistake only if the value is one that the setting could have.
WORDS = frozenset({"address", "env", "environment", "listen", "name", "pid"})


def unknown_names(cfg: Any) -> list[str]:
    """Return a sentence for each mistaken name in the file that *cfg* was read from.

    Call it after gunicorn has read the file: at start, or in the arbiter after HUP.

    Args:
        cfg: gunicorn's ``Config``.

    """
    path = configuration_file(cfg)
    if path is None or path.suffix == ".pyc" or path == DEFAULTS:
        return []
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):  # gone or changed since gunicorn read it
        return []
    return [f"{path.name}: {mistake}" for mistake in mistakes(tree, cfg.settings)]


def configuration_file(cfg: Any) -> Path | None:
    """Return the file that gunicorn read, None if there is none."""
    location = str(cfg.settings["config"].get() or "")
    is_module = location.startswith("python:")
    name = location.removeprefix("python:") if is_module else "__config__"
    source = getattr(sys.modules.get(name), "__file__", None)
    return Path(source) if source else None


def mistakes(tree: ast.Module, settings: Collection[str]) -> list[str]:
    """Return a sentence for each name in *tree* that was meant as a setting.

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
        name: value
        for name, value in _assigned(tree)
        if not name.startswith("_") and name not in settings and name not in read
        if name not in WORDS or _is_meant(name, value)
    }
    return [
        sentence
        for name, value in candidates.items()
        if (sentence := _explain(name, settings, is_function=value is None))
    ]


def _is_meant(name: str, value: ast.expr | None) -> bool:
    """Return whether *value* is a literal; for an environment, one with NAME=value."""
    if name in ("env", "environment") and isinstance(value, ast.Constant):
        return "=" in str(value.value)
    return isinstance(value, (ast.Constant, ast.List, ast.Tuple, ast.Dict))


def _assigned(parent: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Yield each name that is set outside functions and classes, and its value.

    The value is None for a function.
    """
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, None
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from ((name, node.value) for name in _targets(node) if node.value)
        elif not isinstance(node, ast.ClassDef):
            yield from _assigned(node)


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    return [
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def _explain(name: str, settings: Collection[str], *, is_function: bool) -> str:
    if name in SUPPORT:
        return f"{name} is not a setting of this gunicorn{_instead_of(name)}."
    if is_function:
        near = _nearest(name, HOOKS)
        return f"{name}() is not a hook; did you mean {near}?" if near else ""
    if name in table() and table()[name].setting not in settings:
        return f"{name} is an option: Worker.configured({name}=...) sets it."
    if near := _meant(name, settings):
        return f"{name} is not a setting and has no effect; did you mean {near}?"
    if name in ELSEWHERE and name != "app":  # -c may name the app's own module
        return f"{name} is not a setting and has no effect: {ELSEWHERE[name]}."
    return ""


def _meant(name: str, settings: Collection[str]) -> str:
    if option := OPTION_ALIASES.get(_folded(name)):
        return f"Worker.configured({option}=...)"
    twin = table()[name].setting if name in table() else ""
    return twin or ALIASES.get(_folded(name)) or _nearest(name, settings)


def _instead_of(setting: str) -> str:
    """Say since when gunicorn has *setting*, and which option does the same here."""
    options = [name for name, row in table().items() if row.setting == setting]
    option = f", and is the option {options[0]} here" if options else ""
    return f"; it came with gunicorn {SUPPORT[setting].since}{option}"


def _nearest(name: str, names: Collection[str]) -> str:
    """Return the most similar of *names*; case and underscores do not count."""
    folded = {_folded(known): known for known in names}
    near = get_close_matches(_folded(name), folded, n=1, cutoff=NEAR)
    return folded[near[0]] if near else ""


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
