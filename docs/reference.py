"""The text of ``reference.md``: everything public, from where it is defined.

mkdocstrings was tried: it has a signature for each public name, but neither variables
and defaults of options, nor the comments above settings, nor exit codes, and GitHub
shows nothing of it.
"""  # noqa: INP001  # beside scripts

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

from markdown import table as markdown_table

import uvworker
from uvworker import defaults, health
from uvworker.config.arguments import Arguments
from uvworker.config.options import Options, table
from uvworker.config.sources import variable_of
from uvworker.process import exits

HEAD = """\
# Reference

<!-- Written by docs/generate.py; change what it is read from instead. -->

The whole public interface. Anything else may change in any release. Settings and
options are described in [settings.md](settings.md), the life of a worker in
[operations.md](operations.md).

## Worker classes

For gunicorn's `worker_class` (`-k`), as a string or, in `gunicorn.conf.py`, as a class.
"""

CONFIGURED = """\
## `Worker.configured(**options)`

A class method of every worker class. It returns a subclass with these options;
[settings.md](settings.md) has the unit and range of each. It is typed: `mypy --strict`
finds a wrong name or value in `gunicorn.conf.py`. The call itself checks nothing; a
wrong option is refused at start.
"""

ENVIRONMENT = {
    "`UVICORN_...`": "uvicorn's options, as its command line reads them",
    "`UVWORKER_...`": "uvworker's own options",
    "`UVWORKER_ID`": "set in each worker: its number, the smallest free one",
    "`GUNICORN_CMD_ARGS`": "gunicorn's: further arguments of its command line",
    "`WEB_CONCURRENCY`, `PORT`": "read by gunicorn, and by `uvworker.defaults`",
}

DEFAULTS = """\
## `uvworker.defaults`

Production settings, to import in `gunicorn.conf.py` (`from uvworker.defaults import *`)
or to use instead of it (`gunicorn -c python:uvworker.defaults main:app`).
"""

CHECK = """\
## `python -m uvworker check [gunicorn's arguments] [APP_MODULE]`

Prints what a configuration does, and what of the machine does not fit it (CPUs, memory,
descriptors, the backlog, the place of heartbeats, certificates), and imports the app,
without a start; no hook runs, and no port is taken. `--stop-timeout` is the time after
which the engine kills, in seconds
(`stop_grace_period`, `terminationGracePeriodSeconds`) or as the name of a systemd unit;
a check that runs in a unit, say as `ExecStartPre`, asks systemd by itself.
`--proxy-keepalive SECONDS` is how long the proxy keeps an idle connection. `--json`
prints an object with a list of sentences for each section. Exits with 0 if the service
would start; with 1 if it would not, if `gunicorn.conf.py` has an unknown name, or if
the app cannot be imported; with 2 if the arguments are wrong. What the machine lacks is
no reason to fail.
"""

TOP = """\
## `python -m uvworker top [ADDRESS]`

Shows in a terminal what `status` prints, with requests a second and the requests in
flight, once a second, until `q` or Ctrl-C. A service that does not answer is asked on.
Exits with 0, or with 2 if the arguments are wrong or there is no terminal.
"""

RELOAD = """\
## `python -m uvworker reload [ADDRESS]`

Sends `HUP` to the arbiter of the service whose `ops_bind` is ADDRESS, by default the
variable `UVWORKER_OPS_BIND`, and waits. Exits with 0 once the new workers serve; with 1
if they cannot boot and the old ones serve on, or if the service does not answer; with 2
if the arguments are wrong.
"""

HEALTH = """\
## `uvworker.health`

The app's own checks, of what it cannot work without. Importing it has no effect.
"""

STACKS = """\
## `python -m uvworker stacks [ID] [ADDRESS]`

Prints the stacks of all threads and tasks of the worker with this number, or of all
workers. ADDRESS is as for `status`. Exits with 0 if there is one to print, with 1 if
the service or the worker does not answer, with 2 if the arguments are wrong.
"""

STATUS = """\
## `python -m uvworker status [ADDRESS] [--json] [--quiet] [--watch]`

Prints the status of the service whose `ops_bind` is ADDRESS, by default the variable
`UVWORKER_OPS_BIND`. Exits with 0 if the service is ready, with 1 if it is not or does
not answer, with 2 if the arguments are wrong.
"""

SCOPE_HEAD = """\
## The scope

ASGI 3.0; HTTP 2.3, WebSocket 2.4 and lifespan 2.0. In addition to what ASGI requires:
"""

SCOPE = {
    '`scope["state"]["worker_id"]`': "the worker's number, as in `UVWORKER_ID`",
    '`scope["extensions"]["tls"]`': (
        "on a TLS connection: ASGI's `tls` extension 0.2, all fields; the chain beyond "
        "the client's own certificate from Python 3.13 on"
    ),
    '`scope["client"]`, `scope["scheme"]`': (
        "from a trusted proxy's PROXY header or HTTP headers, if any; else `client` is "
        "the peer, `None` on a unix socket"
    ),
    '`scope["server"]`': "`(path, None)` on a unix socket",
    '`scope["root_path"]`, `scope["path"]`': (
        "`root_path`, or a trusted proxy's `SCRIPT_NAME` and `PATH_INFO`"
    ),
}

MEANING = ("variable", "meaning")
CODES = ("CLEAN", "ABORTED", "BOOT_FAILED", "APP_NOT_LOADED")


def page() -> str:
    """Return the page."""
    return "\n".join(
        [
            *(HEAD, _classes()),
            *(CONFIGURED, _options()),
            *("## Environment\n", markdown_table(MEANING, ENVIRONMENT.items())),
            *(DEFAULTS, _defaults()),
            CHECK,
            RELOAD,
            STATUS,
            TOP,
            STACKS,
            *(HEALTH, _functions(health)),
            *(SCOPE_HEAD, markdown_table(("where", "what"), SCOPE.items())),
            *("## Exit codes of a worker\n", _exits()),
        ]
    )


def _classes() -> str:
    return markdown_table(
        ("name", "what it is"),
        ((f"`uvworker.{name}`", _class(name)) for name in uvworker.__all__),
    )


def _class(name: str) -> str:
    cls = getattr(uvworker, name)
    if cls.__name__ != name:
        return f"`{cls.__name__}`, by the name that uvicorn gave to its own"
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _options() -> str:
    types = {
        name: getattr(hint, "__forward_arg__", str(hint))
        for name, hint in Arguments.__annotations__.items()
    }
    given = {item.name: item.default for item in fields(Options)}
    return markdown_table(
        ("option", "type", "default", "variable"),
        (
            (f"`{name}`", f"`{types[name]}`", f"`{given[name]!r}`", _variable(name))
            for name in table()
        ),
    )


def _variable(name: str) -> str:
    return f"`{variable_of(name, table()[name])}`"


def _defaults() -> str:
    return markdown_table(("setting", "value", "why"), _assignments(defaults.__file__))


def _assignments(path: str) -> Iterator[tuple[str, str, str]]:
    """Yield each public setting with its value, as written, and the comment above."""
    source = Path(path).read_text()
    lines, why = source.splitlines(), ""
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign) or ast.unparse(node.targets) == "__all__":
            continue
        above = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.startswith("# "):
                break
            above.insert(0, line.removeprefix("# "))
        directly_below = bool(lines[node.lineno - 2])
        why = " ".join(above) or (why if directly_below else "")
        name = ast.unparse(node.targets[0])
        value = ast.get_source_segment(
            source, node.value
        )  # `unparse` varies by version
        yield f"`{name}`", f"`{value}`", why


def _functions(module: ModuleType) -> str:
    """Return the signature and the docstring of each public function of *module*."""
    source = Path(str(module.__file__)).read_text()
    lines = source.splitlines()
    return "\n".join(
        "\n".join(("```python", *lines[node.lineno - 1 : end], "```", ""))
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and (end := node.body[0].end_lineno)
    )


def _exits() -> str:
    source = Path(exits.__file__).read_text()
    rows = (
        line.partition("  # ")
        for line in source.splitlines()
        if line.partition(" = ")[0] in CODES
    )
    return markdown_table(
        ("code", "when, and what the arbiter does"),
        ((f"`{code.partition(' = ')[2]}`", why) for code, _, why in rows),
    )
