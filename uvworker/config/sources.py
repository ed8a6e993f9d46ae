"""Where options are set, which source wins, and what is refused.

Lowest first: the ``CONFIG_KWARGS`` of a subclass, then ``Worker.configured()``, then
the environment. The environment wins because the operator sets it at start, as
gunicorn's command line and ``GUNICORN_CMD_ARGS`` win over its configuration file.
gunicorn's ``--env`` sets it too.

Every option is checked here, once, with a message that names the source. This room
imports neither gunicorn nor uvicorn: uvicorn's parameter names are passed in.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from .options import Option, Options, table
from .service_links import is_service_link

PREFIXES = {"uvicorn": "UVICORN_", "uvworker": "UVWORKER_"}
EXPORTED = frozenset({"UVWORKER_ID"})  # set by the worker for the app; not an option

# uvicorn's parameters that have no effect in a worker, and what to use instead.
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
    """Options that are refused: each with its source, its value and what is allowed.

    *problems*: a sentence for each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def resolve(
    parameters: Collection[str],
    *,
    config_kwargs: Mapping[str, object] = MappingProxyType({}),
    written: Mapping[str, object] = MappingProxyType({}),
    configured: Mapping[str, object] = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Options:
    """Check every source and return the options.

    Args:
        parameters: the parameter names of the installed ``uvicorn.Config``.
        config_kwargs: the ``CONFIG_KWARGS`` of a worker class.
        written: what a subclass has written to its ``self.config``.
        configured: the arguments of ``Worker.configured()``.
        environ: the environment of the worker.

    Raises:
        OptionError: with all names and values that are refused.

    """
    reading = _Reading(parameters)
    reading.take_uvicorns(config_kwargs, 'CONFIG_KWARGS["{}"]')
    reading.take_uvicorns(written, "self.config.{}")
    reading.take(configured, "Worker.configured({}=...)")
    reading.take_variables(environ)
    if reading.problems:
        raise OptionError(*reading.problems)
    return Options(**reading.values)  # type: ignore[arg-type]  # each passed its kind


def unapplied(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each ``UVICORN_*`` variable that has no effect here.

    Such a variable is reported, not refused, because another program may use it. An
    unknown name is only reported if it is similar to an option's.
    """
    return [
        sentence
        for variable in sorted(environ)
        if variable.startswith(PREFIXES["uvicorn"]) and environ[variable]
        if not is_service_link(variable, environ[variable])
        if (sentence := _why_unapplied(variable))
    ]


def _why_unapplied(variable: str) -> str:
    name = variable.removeprefix(PREFIXES["uvicorn"]).lower()
    if name in ELSEWHERE:
        return f"{variable} does not apply: {ELSEWHERE[name]}."
    if variable in _variables().values():
        return ""
    near = _nearest(name, _variables())
    return f"{variable} is not an option{near}" if near != "." else ""


# uvicorn's, where they are neither None nor False.
DEFAULTS = (
    ("workers", 1),
    ("reload_delay", 0.25),
    ("timeout_worker_healthcheck", 5),
    ("ssl_version", ssl.PROTOCOL_TLS_SERVER),
)


def asks_for_nothing(name: str, value: object) -> bool:
    """Return whether a value of uvicorn's asks for nothing that gunicorn decides.

    Such as ``reload=False``, None, which is uvicorn's "not set", and its defaults.

    Args:
        name: a name in `ELSEWHERE`.
        value: what it is set to.

    """
    return value in (None, False) or (name, value) in DEFAULTS


class _Reading:
    """The options read so far, and the problems found in them.

    *parameters*: the parameter names of the installed ``uvicorn.Config``.
    """

    def __init__(self, parameters: Collection[str]) -> None:
        self.values: dict[str, object] = {}
        self.problems: list[str] = []
        self._parameters = parameters

    def take_uvicorns(self, given: Mapping[str, object], spelling: str) -> None:
        """Read options from a source that may use any parameter of uvicorn's.

        A parameter of an uvicorn newer than our table is passed on unchecked.
        """
        newer = {
            name: value
            for name, value in given.items()
            if name in self._parameters and name not in table()
            if name not in ELSEWHERE
        }
        if newer:
            so_far: Any = self.values.get("unknown_to_us", {})
            self.values["unknown_to_us"] = MappingProxyType({**so_far, **newer})
        rest = {n: value for n, value in given.items() if n not in newer}
        self.take(rest, spelling)

    def take(self, given: Mapping[str, object], spelling: str) -> None:
        """Read options from Python code; *spelling* is the source, for messages."""
        for name, value in given.items():
            source = spelling.format(name)
            if name in table():
                self._check(name, value, source)
            elif name not in ELSEWHERE:
                near = _nearest(name, {known: known for known in table()})
                self.problems.append(f"{source} is not an option{near}")
            elif not asks_for_nothing(name, value):
                why = ELSEWHERE[name]
                self.problems.append(f"{source} cannot be honoured: {why}.")

    def take_variables(self, environ: Mapping[str, str]) -> None:
        """Read the variables of options; as in click, an empty one is not set."""
        for variable, text in sorted(environ.items()):
            prefixed = variable.startswith(PREFIXES["uvworker"])
            if prefixed and not is_service_link(variable, text):
                self._require(variable)
        for name, row in table().items():
            variable = variable_of(name, row)
            if text := environ.get(variable, ""):
                self._parse(name, text, variable)

    def _require(self, variable: str) -> None:
        """Refuse a variable with our prefix that does not belong to an option."""
        if variable not in EXPORTED and variable not in _variables().values():
            name = variable.removeprefix(PREFIXES["uvworker"]).lower()
            near = _nearest(name, _variables())
            self.problems.append(f"{variable} is not an option{near}")

    def _parse(self, name: str, text: str, variable: str) -> None:
        try:
            value = table()[name].type.parse(text)
        except ValueError:
            self._refuse(name, text, variable)
        else:
            self._check(name, value, variable)

    def _check(self, name: str, value: object, source: str) -> None:
        row = table()[name]
        if row.owner == "uvicorn" and not row.setting and name not in self._parameters:
            self.problems.append(f"{source}: the installed uvicorn is too old for it.")
            return
        try:
            self.values[name] = row.type.check(value)
        except ValueError:
            self._refuse(name, value, source)

    def _refuse(self, name: str, value: object, source: str) -> None:
        allowed = table()[name].type.allowed
        self.problems.append(f"{source} is {value!r}; allowed: {allowed}.")


def variable_of(name: str, row: Option) -> str:
    """Return the environment variable that sets option `name`."""
    return PREFIXES[row.owner] + name.upper()


def _variables() -> dict[str, str]:
    return {name: variable_of(name, row) for name, row in table().items()}


def _nearest(name: str, names: Mapping[str, str]) -> str:
    """Return the end of a sentence: a suggestion, or only the full stop.

    Args:
        name: the unknown name.
        names: maps each option to its spelling.

    """
    near = get_close_matches(name, names, n=1, cutoff=0.75)
    return f"; did you mean {names[near[0]]}?" if near else "."
