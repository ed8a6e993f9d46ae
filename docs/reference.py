"""The text of ``reference.md``: everything public, from where it is defined."""  # noqa: INP001  # beside scripts

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from markdown import table as markdown_table

import uvworker
from uvworker import defaults
from uvworker.config.arguments import Arguments
from uvworker.config.options import Options, table
from uvworker.config.sources import variable_of
from uvworker.process import exits

HEAD = """\
# Reference

<!-- Written by docs/generate.py; change what it is read from instead. -->

Everything public. What is not named here may change in any release. What the settings
and options mean is in [settings.md](settings.md), how a worker lives in
[operations.md](operations.md).

## Worker classes

For gunicorn's `worker_class` (`-k`), as a string or, in `gunicorn.conf.py`, as a class.
"""

CONFIGURED = """\
## `Worker.configured(**options)`

Every worker class has it. It returns a subclass with these options, each of which
stands in [settings.md](settings.md) with its unit, its range and its variable. It is
typed: `mypy --strict` finds a wrong name or value in `gunicorn.conf.py`. Nothing is
checked in the call itself; a worker class that cannot be used is refused at start.
"""

ENVIRONMENT = {
    "`UVICORN_...`": "uvicorn's options, as its command line reads them",
    "`UVWORKER_...`": "uvworker's own options",
    "`UVWORKER_ID`": "set in each worker: its number, the smallest that is free",
    "`GUNICORN_CMD_ARGS`": "gunicorn's: further arguments of its command line",
    "`WEB_CONCURRENCY`, `PORT`": "read by gunicorn, and by `uvworker.defaults`",
}

DEFAULTS = """\
## `uvworker.defaults`

Production settings for `gunicorn.conf.py` (`from uvworker.defaults import *`), or as
all of it (`gunicorn -c python:uvworker.defaults main:app`).
"""

CHECK = """\
## `python -m uvworker check [gunicorn's arguments] [APP_MODULE]`

Says what a configuration does here, and imports the app; starts nothing. Exits with 0
if the service would start, 1 if it would not, if a name in `gunicorn.conf.py` is
nobody's or if the app does not import, and 2 where the arguments are wrong.
"""

SCOPE_HEAD = """\
## What the app is told

ASGI 3.0; HTTP 2.4 (over HTTP/2 2.3) and lifespan 2.0. Beyond what ASGI asks for:
"""

SCOPE = {
    '`scope["state"]["worker_id"]`': "the worker's number, as in `UVWORKER_ID`",
    '`scope["extensions"]["tls"]`': (
        "on a TLS connection: ASGI's `tls` extension 0.2, all fields; the chain beyond "
        "the client's own certificate from Python 3.13 on"
    ),
    '`scope["client"]`, `scope["scheme"]`': (
        "what a trusted proxy says of the client, by PROXY protocol or headers; "
        "`client` is `None` on a unix socket whose proxy says nothing"
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
