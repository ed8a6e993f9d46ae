"""Writes ``settings.md`` and ``reference.md`` from what the worker itself reads.

``python docs/generate.py`` writes them; with ``--check`` it exits with 1 instead if a
page is not what it would write. A test runs that.
"""  # noqa: INP001  # a script

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import reference
from markdown import table as markdown_table

from uvworker.config.options import Option, Options, table
from uvworker.config.sources import ELSEWHERE, variable_of
from uvworker.config.support import Support as Setting
from uvworker.config.support import never
from uvworker.config.support_table import SECTIONS

HEAD = """\
# Settings and options

<!-- Written by docs/generate.py; change the tables in uvworker/config/ instead. -->

Each gunicorn setting is honoured, or named at start with the reason. `python -m
uvworker check`, followed by gunicorn's own arguments, says what your configuration
does, without a start. It exits with 1 if the service would not start, if
`gunicorn.conf.py` has an unknown name, or if the app cannot be imported.

- **gunicorn**: gunicorn itself honours the setting, as with any worker.
- **worker**: uvworker honours it, with any HTTP protocol.
- **HTTP**: uvworker's HTTP protocol honours it. It has no effect with
  `http_parser = "python"` or a protocol class of your own. What concerns a request's
  head also holds for HTTP/2.
- **in part**, **no**: what is not honoured, why, and what to use instead. *refused*
  means that gunicorn does not start if you change the setting and it cannot be honoured
  (a limit: if you make it stricter).
- A version is the first gunicorn that has the setting, if not all have it.
"""

OPTIONS_HEAD = """\
## Options

Options are for what gunicorn has no setting for. In `gunicorn.conf.py`:

```python
from uvworker import Worker

worker_class = Worker.configured(ws_ping_interval=10, max_rss="512M")
```

In the environment, or with gunicorn's `--env`: the variable in the table. uvicorn's own
options are read as its command line reads them; an empty variable is not set. In a
subclass: `CONFIG_KWARGS = {"ws_ping_interval": 10}`.

The environment wins over `configured()`, which wins over `CONFIG_KWARGS`, because the
operator sets it at start, as gunicorn's command line wins over the file. An option that
*overrides* a setting wins if both are set.

A wrong value or an unknown name is refused at start, except for the variables that
Kubernetes sets for a Service named `uvworker-...`. Sizes are bytes, or a number with K,
M, G or T (powers of 1024); durations are seconds.
"""

ELSEWHERE_HEAD = """\
## uvicorn's parameters that have no effect

They are refused in `CONFIG_KWARGS` and `configured()`, and reported as `UVICORN_*`
variables.
"""


LAYERS = {"protocol": "HTTP", "wsgi": "worker"}


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, *_settings(), OPTIONS_HEAD, *_options(), *_elsewhere()])


def _settings() -> Iterator[str]:
    for section, rows in SECTIONS.items():
        yield f"## {section}\n"
        yield markdown_table(
            ("setting", "honoured by", "what it does here"),
            ((_name(row), _layer(row), _effect(row)) for row in rows),
        )


def _name(row: Setting) -> str:
    return f"`{row.name}`" + (f" ({row.since})" if row.since else "")


def _layer(row: Setting) -> str:
    if not row.how:
        return "**no**"
    layer = LAYERS.get(row.layer, row.layer)
    return f"{layer}, **in part**" if row.lacks else layer


def _effect(row: Setting) -> str:
    refused = ""
    if row.refuse is not never:
        only = " with another protocol" if row.layer == "protocol" else ""
        refused = f"*refused*{only}"
    return "; ".join(filter(None, (row.how, row.lacks, refused)))


def _options() -> Iterator[str]:
    defaults = {item.name: item.default for item in fields(Options)}
    for owner, title in (("uvworker", "uvworker's own"), ("uvicorn", "uvicorn's")):
        yield f"### {title}\n"
        yield markdown_table(
            ("option", "variable", "default", "allowed", "what it does"),
            (
                _option(name, row, defaults[name])
                for name, row in table().items()
                if row.owner == owner
            ),
        )


def _option(name: str, row: Option, default: object) -> tuple[str, ...]:
    overrides = f" Overrides `{row.setting}`." if row.setting else ""
    variable = f"`{variable_of(name, row)}`"
    doc = row.doc + overrides
    return (f"`{name}`", variable, f"`{default!r}`", row.type.allowed, doc)


def _elsewhere() -> Iterator[str]:
    yield ELSEWHERE_HEAD
    yield markdown_table(
        ("parameter", "instead"),
        ((f"`{name}`", instead) for name, instead in ELSEWHERE.items()),
    )


PAGES = {"settings.md": page, "reference.md": reference.page}


def main() -> None:
    """Write the pages, or compare them."""
    for name, text in PAGES.items():
        path = Path(__file__).with_name(name)
        if "--check" not in sys.argv:
            path.write_text(text())
        elif path.read_text() != text():
            sys.exit(f"{path} is out of step; run python docs/generate.py")


if __name__ == "__main__":
    main()
