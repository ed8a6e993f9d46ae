"""gunicorn's cfg becomes plain values, the same on every gunicorn."""

from __future__ import annotations

from dataclasses import fields

import pytest
from gunicorn.config import KNOWN_SETTINGS

from uvworker.config.options import Options
from uvworker.config.settings import UNLIMITED_MESSAGE, Settings, translate

from .test_support_table import Config, configured, skip_unless_known


def test_defaults_are_those_of_gunicorn():
    """Where a gunicorn lacks a setting, it gets the default of the newest."""
    assert translate(Config(), Options()) == Settings()


def test_every_field_is_a_setting():
    skip_unless_known("websocket_max_message_size")  # the newest has them all
    known = {setting.name for setting in KNOWN_SETTINGS}
    assert {field.name for field in fields(Settings)} <= known


def test_settings_are_plain_and_frozen():
    settings = translate(configured(forwarded_allow_ips="10.0.0.1,*"), Options())
    assert settings.forwarded_allow_ips == ("10.0.0.1", "*")
    with pytest.raises(AttributeError):
        settings.keepalive = 5  # type: ignore[misc]


@pytest.mark.parametrize(("given", "ceiling"), [(1000, None), (999, 999), (5, 5)])
def test_the_default_number_of_connections_is_no_ceiling(given, ceiling):
    cfg = configured(worker_connections=given)
    assert translate(cfg, Options()).worker_connections == ceiling


def test_proxy_protocol_is_a_mode_also_where_gunicorn_has_a_boolean():
    assert translate(configured(proxy_protocol=True), Options()).proxy_protocol in {
        "v1",
        "auto",
    }


def test_hooks_that_nobody_set_are_none():
    def pre_request(worker, req):
        pass

    assert translate(Config(), Options()).pre_request is None
    settings = translate(configured(pre_request=pre_request), Options())
    assert settings.pre_request is pre_request


@pytest.mark.parametrize(
    ("parser", "http"), [("auto", "auto"), ("fast", "httptools"), ("python", "h11")]
)
def test_parsers_have_uvicorns_names(parser, http):
    skip_unless_known("http_parser")
    assert translate(configured(http_parser=parser), Options()).http_parser == http


def test_options_override_the_settings_that_they_name():
    options = Options(
        loop="asyncio",
        http="h11",
        http2=True,
        lifespan="off",
        root_path="/api",
        ws_max_size=0,
        timeout_keep_alive=65.0,
        limit_max_requests=9,
        limit_max_requests_jitter=3,
        forwarded_allow_ips=("*",),
        access_log=False,
    )
    settings = translate(configured(keepalive=5, accesslog="-"), options)
    assert settings == Settings(
        asgi_loop="asyncio",
        http_parser="h11",
        http_protocols=("h2", "h1"),
        asgi_lifespan="off",
        root_path="/api",
        websocket_max_message_size=UNLIMITED_MESSAGE,
        keepalive=65.0,
        max_requests=9,
        max_requests_jitter=3,
        forwarded_allow_ips=("*",),
        accesslog=None,
    )


def test_uvicorns_access_log_names_no_destination():
    on = Options(access_log=True)
    assert translate(Config(), on).accesslog is None
    assert translate(configured(accesslog="-"), on).accesslog == "-"
