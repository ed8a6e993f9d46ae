"""Each setting that `support_table` marks as honoured here has a test that sees its effect."""

# ruff: noqa: E501  # the name of a test is a promise, and may be long

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from uvworker.config.support_table import SUPPORT

TESTS = Path(__file__).parents[1]

HEADS = "service/settings/test_settings_effect.py::test_a_head_is_taken_or_refused_as_the_settings_say"
H2 = "service/network/test_http2.py"
H2_LIMITS = "service/network/test_http2_limits.py"
TLS = "service/network/test_tls.py"

# Where the effect of each setting that is kept here is seen from outside.
SEEN = {
    "backlog": "service/workers/test_even_accept.py::test_the_backlog_is_what_was_asked_for",
    "worker_connections": "service/settings/test_settings_effect.py::test_worker_connections_is_a_ceiling",
    "max_requests": "service/workers/test_recycle.py::test_a_worker_serves_exactly_max_requests",
    "max_requests_jitter": "service/workers/test_recycle.py::test_jitter_adds_up_to_itself",
    "timeout": "service/workers/test_blocked_loop.py::test_a_blocked_worker_names_the_line_and_is_replaced",
    "graceful_timeout": "service/stop/test_stop.py::test_requests_out_of_time_are_cut_and_the_app_still_shuts_down",
    "keepalive": "service/settings/test_settings_effect.py::test_keepalive_is_how_long_a_connection_may_be_idle",
    "threads": "service/settings/test_options_effect.py::test_threads_is_the_size_of_a_wsgi_apps_pool",
    "asgi_loop": "service/boot/test_boot.py::test_the_loop_is_asyncio_where_it_is_asked_for",
    "asgi_lifespan": "service/boot/test_boot_failure.py::test_lifespan_is_not_asked_where_it_is_off",
    "asgi_disconnect_grace_period": "service/settings/test_settings_effect.py::test_only_a_grace_period_that_is_set_cancels_the_app_of_a_client_that_left",
    "websocket_max_message_size": "service/settings/test_settings_effect.py::test_websocket_max_message_size_closes_with_1009",
    "http_parser": "service/settings/test_settings_effect.py::test_http_parser_chooses_who_reads",
    "limit_request_line": HEADS,
    "limit_request_fields": HEADS,
    "limit_request_field_size": HEADS,
    "reload": "service/reload/test_reload.py::test_a_saved_file_is_served",
    "reload_engine": "service/reload/test_reload.py::test_a_saved_file_is_served",
    "reload_extra_files": "service/reload/test_reload.py::test_an_extra_file_is_watched",
    "initgroups": "service/settings/test_settings_effect.py::test_initgroups_takes_all_groups_and_the_primary_one",
    "secure_scheme_headers": "service/settings/test_settings_effect.py::test_secure_scheme_headers_are_the_ones_that_count",
    "forwarded_allow_ips": "service/network/test_proxies.py::test_a_proxy_that_is_not_trusted_is_not_believed",
    "proxy_protocol": "service/network/test_proxies.py::test_an_announced_client_is_the_client",
    "proxy_allow_ips": "service/network/test_proxies.py::test_who_may_not_announce_is_refused",
    "permit_obsolete_folding": HEADS,
    "permit_unconventional_http_method": HEADS,
    "permit_unconventional_http_version": HEADS,
    "casefold_http_method": HEADS,
    "forwarder_headers": "service/settings/test_settings_effect.py::test_forwarder_headers_are_the_ones_that_count",
    "header_map": "service/settings/test_settings_effect.py::test_header_map_says_what_becomes_of_underscores",
    "root_path": "service/settings/test_settings_effect.py::test_root_path_is_in_front_of_the_path",
    "accesslog": "service/settings/test_settings_effect.py::test_the_access_log_has_the_format_that_is_set",
    "access_log_format": "service/settings/test_settings_effect.py::test_the_access_log_has_the_format_that_is_set",
    "errorlog": "service/settings/test_logs.py::test_the_error_log_is_gunicorns_file",
    "loglevel": "service/settings/test_logs.py::test_uvicorn_speaks_at_gunicorns_level",
    "logger_class": "service/settings/test_logs.py::test_a_logger_class_of_ones_own_hears_uvicorn",
    "logconfig": "service/settings/test_settings_effect.py::test_logconfig_says_where_access_lines_go",
    "logconfig_dict": "service/settings/test_settings_effect.py::test_logconfig_says_where_access_lines_go",
    "logconfig_json": "service/settings/test_settings_effect.py::test_logconfig_says_where_access_lines_go",
    "statsd_host": "service/settings/test_settings_effect.py::test_statsd_counts_requests_without_an_access_log",
    "worker_int": "service/settings/test_hooks.py::test_the_hooks_of_an_interrupted_worker",
    "worker_abort": "service/settings/test_hooks.py::test_the_hooks_of_a_worker_that_hangs",
    "pre_request": "service/settings/test_settings_effect.py::test_request_hooks_are_called_around_the_app",
    "post_request": "service/settings/test_settings_effect.py::test_request_hooks_are_called_around_the_app",
    "worker_exit": "service/settings/test_hooks.py::test_the_hooks_of_a_start_and_a_stop",
    "sendfile": "service/network/test_files.py::test_sendfile_says_whether_a_file_goes_by_its_path",
    "ssl_context": f"{TLS}::test_the_hook_alone_is_enough",
    "keyfile": f"{TLS}::test_certfile_and_keyfile_are_served",
    "certfile": f"{TLS}::test_certfile_and_keyfile_are_served",
    "cert_reqs": f"{TLS}::test_a_client_without_the_certificate_that_cert_reqs_wants_is_not_served",
    "ca_certs": f"{TLS}::test_the_app_sees_the_clients_certificate",
    "do_handshake_on_connect": f"{TLS}::test_a_stalled_handshake_is_dropped",
    "ciphers": f"{TLS}::test_only_the_ciphers_that_are_set_are_spoken",
    "http_protocols": f"{H2}::test_a_client_chooses_between_http_1_and_2",
    "http2_cleartext": f"{H2_LIMITS}::test_a_trusted_peer_speaks_http_2_without_tls",
    "http2_max_concurrent_streams": f"{H2_LIMITS}::test_more_streams_than_allowed_are_refused",
    "http2_max_header_list_size": f"{H2_LIMITS}::test_a_large_head_is_431",
}


def test_the_effect_of_each_setting_that_is_kept_here_is_seen():
    kept = {r.name for r in SUPPORT.values() if r.how and r.layer != "gunicorn"}
    assert set(SEEN) == kept


@pytest.mark.parametrize("node", sorted(set(SEEN.values())))
def test_the_test_that_sees_it_exists(node):
    file, _, name = node.partition("::")
    tree = ast.parse((TESTS / file).read_text())
    assert name in {
        item.name for item in tree.body if isinstance(item, ast.FunctionDef)
    }
