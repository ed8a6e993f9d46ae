"""Where options are set, what wins, and what is refused.

Lowest first: the ``CONFIG_KWARGS`` of a subclass, then ``Worker.configured()``, then
the environment. The environment wins because it is what the operator says at start,
as gunicorn's command line and ``GUNICORN_CMD_ARGS`` win over its configuration file;
gunicorn's ``--env`` ends up there too.

Everything is checked here, once, with a message that names the source. Nothing here
runs per request, and nothing here knows gunicorn or uvicorn: uvicorn's parameter
names are passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import NoReturn

from .options import Options, Row, table

PREFIXES = {"uvicorn": "UVICORN_", "uvworker": "UVWORKER_"}
EXPORTED = frozenset({"UVWORKER_ID"})  # what the worker tells the app, not an option

# uvicorn's parameters and variables that cannot reach a worker, and what to set.
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "app": "the application is gunicorn's argument",
        "app_dir": "use gunicorn's chdir or pythonpath",
        "host": "use gunicorn's bind",
        "port": "use gunicorn's bind",
        "uds": "use gunicorn's bind, unix:PATH",
        "fd": "use gunicorn's bind, fd://NUMBER",
        "backlog": "use gunicorn's backlog",
        "workers": "use gunicorn's workers",
        "reload": "use gunicorn's reload",
        "reload_dirs": "use gunicorn's reload_extra_files",
        "reload_includes": "use gunicorn's reload_extra_files",
        "reload_excludes": "gunicorn's reload has nothing like it",
        "reload_delay": "gunicorn's reload has nothing like it",
        "log_config": "use gunicorn's logconfig, logconfig_dict or logconfig_json",
        "log_level": "use gunicorn's loglevel",
        "use_colors": "gunicorn's log has no colours; use logconfig_dict",
        "timeout_graceful_shutdown": "use gunicorn's graceful_timeout",
        "timeout_worker_healthcheck": "use gunicorn's timeout",
        "timeout_notify": "the heartbeat is the worker's own; use gunicorn's timeout",
        "callback_notify": "the heartbeat is the worker's own",
        "ssl_keyfile": "use gunicorn's keyfile",
        "ssl_certfile": "use gunicorn's certfile",
        "ssl_version": "use gunicorn's ssl_context hook",
        "ssl_cert_reqs": "use gunicorn's cert_reqs",
        "ssl_ca_certs": "use gunicorn's ca_certs",
        "ssl_ciphers": "use gunicorn's ciphers",
        "ssl_context_factory": "use gunicorn's ssl_context hook",
    }
)


class OptionError(ValueError):
    """An option that cannot be taken: its source, its value, and what is allowed."""


def resolve(
    parameters: Collection[str],
    *,
    config_kwargs: Mapping[str, object] = MappingProxyType({}),
    configured: Mapping[str, object] = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Options:
    """Check every source and return what holds.

    Args:
        parameters: the parameter names of the installed ``uvicorn.Config``.
        config_kwargs: the ``CONFIG_KWARGS`` of a worker class.
        configured: the arguments of ``Worker.configured()``.
        environ: the environment of the worker.

    Raises:
        OptionError: a name or value cannot be taken.

    """
    given: dict[str, object] = {}
    given |= _from_config_kwargs(config_kwargs, parameters)
    given |= _from_python(configured, "Worker.configured({}=...)", parameters)
    given |= _from_environment(environ, parameters)
    return Options(**given)  # type: ignore[arg-type]  # each value passed its kind


def unapplied(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each ``UVICORN_*`` variable that changes nothing here.

    Such a variable is reported, not refused: it may be there for another program.
    A name that nobody knows is only mentioned when it looks like a slip.
    """
    return [
        sentence
        for variable in sorted(environ)
        if variable.startswith(PREFIXES["uvicorn"]) and environ[variable]
        if (sentence := _why_unapplied(variable))
    ]


def _why_unapplied(variable: str) -> str:
    name = variable.removeprefix(PREFIXES["uvicorn"]).lower()
    if name in ELSEWHERE:
        return f"{variable} does not apply: {ELSEWHERE[name]}"
    if variable in _variables().values():
        return ""
    near = _nearest(name, _variables())
    return f"{variable} is no option{near}" if near else ""


def _from_config_kwargs(
    given: Mapping[str, object], parameters: Collection[str]
) -> dict[str, object]:
    """Read a subclass's ``CONFIG_KWARGS``, which may use any name of uvicorn's.

    A parameter that only a newer uvicorn has goes through unchecked: uvicorn knows
    better. None for one that gunicorn owns is what uvicorn calls "not set".
    """
    younger = {
        name: value
        for name, value in given.items()
        if name in parameters and name not in table() and name not in ELSEWHERE
    }
    rest = {
        name: value
        for name, value in given.items()
        if name not in younger and not (name in ELSEWHERE and value is None)
    }
    values = _from_python(rest, 'CONFIG_KWARGS["{}"]', parameters)
    if younger:
        values["unknown_to_us"] = MappingProxyType(younger)
    return values


def _from_python(
    given: Mapping[str, object], spelling: str, parameters: Collection[str]
) -> dict[str, object]:
    values = {}
    spelled = {name: name for name in table()}
    for name, value in given.items():
        source = spelling.format(name)
        if name in ELSEWHERE:
            raise OptionError(f"{source} cannot be honoured: {ELSEWHERE[name]}")
        if name not in table():
            raise OptionError(f"{source} is no option{_nearest(name, spelled)}")
        values[name] = _checked(name, value, source, parameters)
    return values


def _from_environment(
    environ: Mapping[str, str], parameters: Collection[str]
) -> dict[str, object]:
    """Read the variables of options; an empty one is not set, as in click."""
    for variable in sorted(environ):
        if variable.startswith(PREFIXES["uvworker"]) and variable not in EXPORTED:
            _require_variable(variable)
    values = {}
    for name, row in table().items():
        variable = variable_of(name, row)
        if text := environ.get(variable, ""):
            try:
                value = row.kind.parse(text)
            except ValueError:
                _refuse(variable, text, row)
            values[name] = _checked(name, value, variable, parameters)
    return values


def _checked(
    name: str, value: object, source: str, parameters: Collection[str]
) -> object:
    row = table()[name]
    if row.owner == "uvicorn" and not row.setting and name not in parameters:
        raise OptionError(f"{source}: the installed uvicorn is too old for it")
    try:
        return row.kind.check(value)
    except ValueError:
        _refuse(source, value, row)


def _refuse(source: str, value: object, row: Row) -> NoReturn:
    raise OptionError(f"{source} is {value!r}; allowed: {row.kind.allowed}") from None


def variable_of(name: str, row: Row) -> str:
    """Return the environment variable that sets option `name`."""
    return PREFIXES[row.owner] + name.upper()


def _variables() -> dict[str, str]:
    return {name: variable_of(name, row) for name, row in table().items()}


def _require_variable(variable: str) -> None:
    """Raise unless one of our own variables is an option's, spelled right."""
    if variable not in _variables().values():
        name = variable.removeprefix(PREFIXES["uvworker"]).lower()
        raise OptionError(f"{variable} is no option{_nearest(name, _variables())}")


def _nearest(name: str, names: Mapping[str, str]) -> str:
    """Return a suggestion out of `names`, which maps an option to its spelling."""
    near = get_close_matches(name, names, n=1, cutoff=0.75)
    return f"; did you mean {names[near[0]]}?" if near else ""
