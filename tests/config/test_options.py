"""Options: one table, three sources, one validator."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from uvworker.config.arguments import Arguments
from uvworker.config.options import Options, table
from uvworker.config.service_links import is_service_link
from uvworker.config.settings import Settings
from uvworker.config.sources import (
    ELSEWHERE,
    OptionError,
    resolve,
    unapplied,
    variable_of,
)
from uvworker.config.value_types import BYTES, HEADERS, SECONDS

PARAMETERS = inspect.signature(uvicorn.Config).parameters


def refused(**sources: Any) -> str:
    with pytest.raises(OptionError) as error:
        resolve(PARAMETERS, **sources)
    return str(error.value)


# The table


def test_every_parameter_of_uvicorn_is_an_option_or_said_not_to_apply():
    assert set(PARAMETERS) <= set(table()) | set(ELSEWHERE)


def test_no_option_is_also_said_not_to_apply():
    assert not set(table()) & set(ELSEWHERE)


def test_defaults_are_uvicorns_own():
    passed_on = Options().for_uvicorn(PARAMETERS)
    theirs = {name: PARAMETERS[name].default for name in passed_on}
    assert passed_on == theirs | {"headers": []}


def test_every_default_is_allowed():
    for field in fields(Options):
        if field.name in table():
            assert table()[field.name].type.check(field.default) == field.default


def test_an_option_overrides_a_setting_that_exists():
    settings = {field.name for field in fields(Settings)}
    assert {row.setting for row in table().values()} - {""} <= settings


def test_the_types_for_checkers_name_every_option():
    assert set(get_type_hints(Arguments)) == set(table())


# Sources


def test_the_environment_wins_over_python_which_wins_over_a_subclass():
    sources = {
        "config_kwargs": {"ws_max_queue": 1, "ws": "wsproto", "limit_concurrency": 5},
        "configured": {"ws_max_queue": 2, "ws": "none"},
        "environ": {"UVICORN_WS_MAX_QUEUE": "3"},
    }
    options = resolve(PARAMETERS, **sources)
    assert options == Options(ws_max_queue=3, ws="none", limit_concurrency=5)


def test_the_environment_is_read_as_uvicorns_command_line_reads_it():
    environ = {
        "UVICORN_WS_PING_INTERVAL": "10",
        "UVICORN_SERVER_HEADER": "off",
        "UVICORN_DATE_HEADER": "No",
        "UVICORN_RESET_CONTEXTVARS": "",
        "UVICORN_HEADERS": "X-A:1 X-B:b:c",
        "UVICORN_LIMIT_CONCURRENCY": "7",
        "PATH": "/bin",
    }
    assert resolve(PARAMETERS, environ=environ) == Options(
        ws_ping_interval=10.0,
        server_header=False,
        date_header=False,
        headers=(("X-A", "1"), ("X-B", "b:c")),
        limit_concurrency=7,
    )


def test_uvicorns_command_line_agrees():
    """The real one: what click makes of a variable is what we make of it."""
    script = """if True:
        import sys, uvicorn
        names, sys.argv = sys.argv[1:], ["uvicorn", "app"]
        command = sys.modules["uvicorn.main"]
        command.run = lambda app, **given: print({name: given[name] for name in names})
        command.main()
    """
    environ = {
        "UVICORN_WS_PING_INTERVAL": "2.5",
        "UVICORN_SERVER_HEADER": "f",
        "UVICORN_PROXY_HEADERS": " YES ",
        "UVICORN_WS_PER_MESSAGE_DEFLATE": "0",
        "UVICORN_WS_MAX_QUEUE": "9",
        "UVICORN_ROOT_PATH": "/a b",
        "UVICORN_LIMIT_CONCURRENCY": "",
    }
    names = [variable.removeprefix("UVICORN_").lower() for variable in environ]
    said = subprocess.run(
        [sys.executable, "-c", script, *names],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    ours = resolve(PARAMETERS, environ=environ)
    assert said.stdout.strip() == str({name: getattr(ours, name) for name in names})


def test_headers_with_spaces_stand_one_a_line():
    environ = {"UVICORN_HEADERS": "X-Robots-Tag: noindex, nofollow\nX-B: 2\n"}
    assert resolve(PARAMETERS, environ=environ).headers == (
        ("X-Robots-Tag", "noindex, nofollow"),
        ("X-B", "2"),
    )


@pytest.mark.parametrize("text", ["off", "None", "0"])
def test_a_limit_can_be_switched_off_in_the_environment(text):
    environ = {"UVWORKER_HEADER_TIMEOUT": text, "UVICORN_WS_PING_INTERVAL": text}
    off = Options(header_timeout=None, ws_ping_interval=None)
    assert resolve(PARAMETERS, environ=environ) == off


@pytest.mark.parametrize("value", ["512M", "512MiB", " 512 mb", 512 << 20])
def test_sizes_are_bytes_or_a_number_with_a_unit(value):
    options = resolve(PARAMETERS, configured={"max_rss": value})
    assert options.max_rss == 512 << 20


def test_a_parameter_of_a_newer_uvicorn_reaches_it():
    options = resolve([*PARAMETERS, "shiny"], config_kwargs={"shiny": [1]})
    assert options.for_uvicorn([*PARAMETERS, "shiny"])["shiny"] == [1]


def test_none_for_what_gunicorn_owns_is_not_set():
    assert resolve(PARAMETERS, config_kwargs={"log_config": None}) == Options()


# Refusals: the source, the value, what is allowed


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"config_kwargs": {"lifspan": "off"}}, ["CONFIG_KWARGS", "mean lifespan?"]),
        ({"config_kwargs": {"port": 80}}, ["CONFIG_KWARGS", "port", "bind"]),
        ({"config_kwargs": {"lifespan": "yes"}}, ['"auto", "on", "off"', "'yes'"]),
        ({"configured": {"ws_ping_interval": "3"}}, ["configured(ws_ping_", "seconds"]),
        ({"configured": {"max_rss": -1}}, ["-1", "512M"]),
        ({"configured": {"max_rss": "12 parsecs"}}, ["12 parsecs", "512M"]),
        ({"configured": {"ws_max_queue": True}}, ["True", "whole number"]),
        ({"configured": {"ssl_certfile": "x"}}, ["gunicorn's certfile"]),
        ({"environ": {"UVWORKER_MAXRSS": "1"}}, ["MAXRSS", "UVWORKER_MAX_RSS?"]),
        ({"environ": {"UVWORKER_WS": "none"}}, ["UVICORN_WS?"]),
        ({"environ": {"UVWORKER_DRAIN_DELAY": "nan"}}, ["UVWORKER_DRAIN_", "nan"]),
        ({"environ": {"UVWORKER_DRAIN_DELAY": "1e400"}}, ["inf", "seconds"]),
        ({"environ": {"UVICORN_DATE_HEADER": "maybe"}}, ["maybe", "True or False"]),
        ({"environ": {"UVICORN_LOOP": "uvlop"}}, ["uvlop", "uvloop"]),
        ({"environ": {"UVICORN_HEADERS": "X-A: 1"}}, ["UVICORN_HEADERS", "one a line"]),
        ({"environ": {"UVICORN_FORWARDED_ALLOW_IPS": "10.0.0.1/8"}}, ["10.0.0.1/8"]),
    ],
)
def test_an_error_names_the_source_and_what_is_allowed(sources, words):
    message = refused(**sources)
    assert all(word in message for word in words), message


def test_an_option_that_the_installed_uvicorn_lacks_is_refused():
    with pytest.raises(OptionError, match="too old"):
        resolve([], configured={"ws_max_queue": 5})


def test_the_id_that_the_worker_exports_is_no_option():
    assert resolve(PARAMETERS, environ={"UVWORKER_ID": "0"}) == Options()


def test_variables_that_cannot_apply_are_reported_not_refused():
    environ = {"UVICORN_PORT": "80", "UVICORN_WSS": "none", "UVICORN_FOO": "1"}
    environ |= {"UVICORN_WS": "none", "UVICORN_HOST": ""}
    port, slip = unapplied(environ)
    assert "bind" in port
    assert "UVICORN_WS?" in slip


# Kubernetes


def service_links(name: str, address: str = "10.43.0.9") -> dict[str, str]:
    """Return what Kubernetes sets for a Service *name* with a port named "http"."""
    url = f"tcp://{f'[{address}]' if ':' in address else address}:8000"
    ends = {
        "SERVICE_HOST": address,
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "SERVICE_PORT_WEB_UI": "8001",
        "PORT": url,
        "PORT_8000_TCP": url,
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": address,
        "PORT_53_UDP": url.replace("tcp", "udp"),
        "PORT_53_UDP_PROTO": "udp",
    }
    return {f"{name}_{end}": value for end, value in ends.items()}


@pytest.mark.parametrize("address", ["10.43.0.9", "fd00:10:96::9"])
@pytest.mark.parametrize(
    "name",
    ["", "_DEMO", "_MAX_RSS", "_MAXRSS", "_2", "_SERVICE_PORT", "_PORT", "_ID"],
)
def test_the_variables_of_a_service_with_our_name_set_nothing(name, address):
    environ = service_links(f"UVWORKER{name}", address)
    environ |= service_links(f"UVICORN{name}", address)
    assert resolve(PARAMETERS, environ=environ) == Options()
    assert unapplied(environ) == []


@pytest.mark.parametrize(
    "variable",
    ["UVWORKER_PORT", "UVWORKER_HEALTH_PORT", "UVWORKER_DEMO_PORT_8000_TCP_PORTS"],
)
def test_a_variable_that_only_ends_as_a_services_is_no_option(variable):
    assert f"{variable} is not an option" in refused(environ={variable: "8000"})


def test_no_option_is_taken_for_a_services_variable():
    for name, row in table().items():
        for value in "1", "10.0.0.1", "tcp://10.0.0.1:80", "tcp":
            assert not is_service_link(variable_of(name, row), value)


# Kinds


@given(st.integers(0, 10**9) | st.floats(0, 10**9))
def test_any_duration_survives_its_text(seconds):
    assert SECONDS.check(SECONDS.parse(repr(seconds))) == seconds


@given(st.integers(0, 2**60), st.sampled_from(["", "K", "M", "G", "T"]))
def test_a_unit_multiplies(number, unit):
    assert BYTES.check(f"{number}{unit}") == number * 1024 ** " KMGT".index(unit or " ")


NAMES = st.from_regex("[a-z-]+", fullmatch=True) | st.text()
VALUES = st.text("\r\n\0\t a:\xe9", max_size=5) | st.text()


@given(st.lists(st.tuples(NAMES, VALUES), max_size=2))
def test_no_header_can_split_a_response(headers):
    try:
        taken = HEADERS.check(headers)
    except ValueError:
        return
    for name, value in taken:  # type: ignore[attr-defined]
        assert name
        assert not set("\r\n\0") & set(name + value)
        assert (name + value).encode("latin-1")


@given(st.sampled_from(sorted(table())), st.text())
def test_text_of_any_kind_is_taken_or_refused_by_name(name, text):
    variable = variable_of(name, table()[name])
    try:
        resolve(PARAMETERS, environ={variable: text})
    except OptionError as error:
        assert str(error).startswith(variable)  # noqa: PT017  # most text is refused
