"""Who the client is behind a trusted proxy, and what nobody else may claim."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidHeaderName, InvalidSchemeHeaders
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import assume, given
from hypothesis import strategies as st
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from uvworker.accept.peers import TrustedPeers
from uvworker.http.forwarded import (
    ForwardedError,
    Forwarding,
    parse_forwarded,
    parse_node,
)

PROXY = ("10.0.0.1", 40000)
DEFAULTS = Config().settings
SECURE = DEFAULTS["secure_scheme_headers"].get()


def forwarding(**settings):
    settings.setdefault("forwarded_allow_ips", "10.0.0.0/8")
    settings.setdefault("secure_scheme_headers", SECURE)
    return Forwarding.from_settings(**settings)


def scope_of(*headers, path="/app/page", root_path="", scope_type="http"):
    return {
        "type": scope_type,
        "scheme": {"http": "http", "websocket": "ws"}[scope_type],
        "client": PROXY,
        "root_path": root_path,
        "path": root_path + path,
        "raw_path": (root_path + path).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }


def applied(*headers, settings=None, **request):
    scope = scope_of(*headers, **request)
    before = list(scope["headers"])
    forwarding(**settings or {}).apply(scope)
    assert scope["headers"] == before  # never rewritten
    return scope


def client(value, **settings):
    return applied(("x-forwarded-for", value), settings=settings)["client"]


# -- which peers are trusted


@pytest.mark.parametrize(
    ("allowed", "host", "trusted"),
    [
        ("127.0.0.1,::1", "127.0.0.1", True),
        ("127.0.0.1,::1", "::1", True),
        ("127.0.0.1, ::1", "127.0.0.2", False),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        ("2001:db8::/32", "2001:db8:0:0::1", True),
        ("2001:db8::/32", "10.0.0.1", False),
        ("*", "203.0.113.1", True),
        (["10.0.0.1", "*"], "203.0.113.1", True),
        ("", "127.0.0.1", False),
        ([], "127.0.0.1", False),
        # a dual-stack listener's name of an IPv4 peer
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.2", False),
        ("10.0.0.1", "somewhere", False),
    ],
)
def test_address_lists_mean_what_gunicorn_documents(allowed, host, trusted):
    assert forwarding(forwarded_allow_ips=allowed).trusts((host, 1)) is trusted


def test_unix_peer_is_trusted_whatever_the_list_says():
    assert forwarding(forwarded_allow_ips="").trusts(None)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "localhost", "10.0.0.0/33"])
def test_mistaken_address_list_is_refused(entry):
    with pytest.raises(ValueError, match=r"10|localhost"):
        TrustedPeers.parse(["127.0.0.1", entry])


# -- scheme


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ([], "http"),
        ([("x-forwarded-proto", "https")], "https"),
        ([("x-forwarded-proto", "http")], "http"),
        ([("x-forwarded-ssl", "on")], "https"),
        ([("x-forwarded-ssl", "off")], "http"),
        ([("x-forwarded-protocol", "ssl")], "https"),
        ([("x-forwarded-proto", "https"), ("x-forwarded-ssl", "on")], "https"),
        ([("x-forwarded-proto", "HTTPS")], "https"),
        ([("x-forwarded-proto", "Http")], "http"),
        ([("x-forwarded-proto", "wss")], "https"),
        ([("x-forwarded-proto", "WSS")], "https"),
        ([("x-forwarded-proto", "ws")], "http"),
        ([("x-forwarded-proto", "")], "http"),
        ([("x-forwarded-ssl", "On")], "https"),
        ([("x-forwarded-proto", "https, http")], "https"),
        ([("x-forwarded-proto", "https,http,http")], "https"),
        ([("x-forwarded-proto", "wss, ws")], "https"),
        ([("x-forwarded-proto", "HTTPS , http")], "https"),
        ([("x-forwarded-proto", "http, https")], "http"),
    ],
)
def test_scheme_follows_secure_scheme_headers(headers, scheme):
    assert applied(*headers)["scheme"] == scheme
    secured = {"http": "ws", "https": "wss"}[scheme]
    assert applied(*headers, scope_type="websocket")["scheme"] == secured


@pytest.mark.parametrize(
    ("nodes", "schemes", "scheme"),
    [
        ("203.0.113.7", "https", "https"),
        ("203.0.113.7, 10.0.0.2", "https, http", "https"),
        ("203.0.113.7, 10.0.0.2", "http, https", "http"),
        ("6.6.6.6, 203.0.113.7, 10.0.0.2", "https, http, https", "http"),
        ("6.6.6.6, 203.0.113.7", "https, http", "http"),
        ("203.0.113.7, 10.0.0.2", "https", "https"),
        ("203.0.113.7", "https, http", "https"),
        ("unknown, 10.0.0.2", "https, http", "https"),
    ],
)
def test_a_list_of_schemes_is_believed_as_far_as_the_list_of_addresses(
    nodes, schemes, scheme
):
    """Whoever wrote the address of a hop wrote its scheme, too."""
    said = applied(("x-forwarded-for", nodes), ("x-forwarded-proto", schemes))
    assert said["scheme"] == scheme


def test_scheme_headers_that_are_not_configured_mean_nothing():
    settings = {"secure_scheme_headers": {"X-Front": "tls"}}
    assert applied(("x-forwarded-proto", "https"), settings=settings)["scheme"] == (
        "http"
    )
    assert applied(("x-front", "tls"), settings=settings)["scheme"] == "https"
    settings = {"secure_scheme_headers": {}}
    assert applied(("x-forwarded-proto", "https"), settings=settings)["scheme"] == (
        "http"
    )


@pytest.mark.parametrize(
    "headers",
    [
        [("x-forwarded-proto", "http"), ("x-forwarded-ssl", "on")],
        [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")],
    ],
)
def test_contradicting_scheme_headers_are_refused(headers):
    with pytest.raises(ForwardedError, match="disagree"):
        applied(*headers)


# -- client


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("203.0.113.7", ("203.0.113.7", 0)),
        ("203.0.113.7:4711", ("203.0.113.7", 4711)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("[2001:DB8::7]:4711", ("2001:db8::7", 4711)),
        ("::ffff:203.0.113.7", ("203.0.113.7", 0)),
        # from the right, over trusted hops, to the first untrusted one
        ("6.6.6.6, 203.0.113.7, 10.1.1.1", ("203.0.113.7", 0)),
        ("6.6.6.6,203.0.113.7", ("203.0.113.7", 0)),
        # all of them trusted: the outermost
        ("10.3.3.3, 10.2.2.2", ("10.3.3.3", 0)),
        # garbage has no address, and what stands left of it no sponsor
        ("6.6.6.6, unknown", PROXY),
        ("6.6.6.6, _hidden, 10.1.1.1", ("10.1.1.1", 0)),
        ("6.6.6.6, ", PROXY),
        ("", PROXY),
        ("203.0.113.7:http", PROXY),
        ("203.0.113.7:65536", PROXY),
        ("[203.0.113.7", PROXY),
        ("203.0.113.300", PROXY),
        ("fe80::1%eth0", PROXY),
        ("1" * 5000, PROXY),
        ("localhost", PROXY),
    ],
)
def test_client_is_the_last_address_that_a_trusted_hop_wrote(value, expected):
    assert client(value) == expected


def test_field_lines_are_one_list():
    lines = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.7"),
        ("x-forwarded-for", "10.1.1.1"),
    ]
    assert applied(*lines)["client"] == ("203.0.113.7", 0)


def test_star_trusts_the_outermost_address():
    assert client("203.0.113.7, 8.8.8.8", forwarded_allow_ips="*") == ("203.0.113.7", 0)
    assert client("6.6.6.6, x, 8.8.8.8", forwarded_allow_ips="*") == ("8.8.8.8", 0)


def test_unix_peer_gets_the_clients_address():
    scope = scope_of(("x-forwarded-for", "203.0.113.7"))
    scope["client"] = None
    forwarding().apply(scope)
    assert scope["client"] == ("203.0.113.7", 0)


HOSTS = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["10.0.0.1", "10.9.9.9", "203.0.113.7", "2001:db8::1"]),
)
ENTRIES = st.one_of(
    HOSTS, st.tuples(HOSTS, st.integers(0, 70000)).map(lambda x: f"{x[0]}:{x[1]}")
)


@given(st.lists(HOSTS, min_size=1, max_size=5))
def test_client_agrees_with_uvicorn_on_lists_of_addresses(hosts):
    assume(
        not any(ip_address(host).version == 6 and "::ffff:" in host for host in hosts)
    )
    scope = scope_of(("x-forwarded-for", ", ".join(hosts)))

    async def app(scope, _receive, _send):
        assert scope["client"] == client(", ".join(hosts))

    asyncio.run(ProxyHeadersMiddleware(app, ["10.0.0.0/8"])(scope, None, None))


@given(st.lists(st.one_of(ENTRIES, st.text(st.characters(max_codepoint=255)))))
def test_any_list_gives_an_address_from_the_list_or_the_peer(entries):
    value = ",".join(entries)
    scope = scope_of()
    scope["headers"] = [(b"x-forwarded-for", value.encode("latin-1"))]
    forwarding().apply(scope)
    assert scope["client"] == PROXY or parse_node(scope["client"][0]) is not None


# -- RFC 7239

RFC7239 = {"forwarded_header": "rfc7239"}


@pytest.mark.parametrize(
    ("value", "expected", "scheme"),
    [
        ("for=203.0.113.7;proto=https;by=10.0.0.1", ("203.0.113.7", 0), "https"),
        ('For="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", 4711), "http"),
        ("for=203.0.113.7:4711;proto=HTTPS", ("203.0.113.7", 4711), "https"),
        ('for="203.0.113.7:_p0rt" ; proto=wss', ("203.0.113.7", 0), "https"),
        # the proto of the hop that the client reached, not of those inside
        (
            "for=203.0.113.7;proto=https, for=10.1.1.1;proto=http",
            ("203.0.113.7", 0),
            "https",
        ),
        ("for=6.6.6.6;proto=https, for=203.0.113.7", ("203.0.113.7", 0), "http"),
        ("for=6.6.6.6, for=unknown;proto=https", PROXY, "https"),
        ("for=6.6.6.6, for=_hidden, for=10.1.1.1", ("10.1.1.1", 0), "http"),
        ("proto=https", PROXY, "https"),
        ('for="203.0.113\\.7"', ("203.0.113.7", 0), "http"),
        ("for=203.0.113.7;proto=gopher", ("203.0.113.7", 0), "http"),
        (",,", PROXY, "http"),
        ("", PROXY, "http"),
    ],
)
def test_forwarded_gives_client_and_scheme(value, expected, scheme):
    scope = applied(("forwarded", value), settings=RFC7239)
    assert (scope["client"], scope["scheme"]) == (expected, scheme)


@pytest.mark.parametrize(
    "value",
    [
        'for="203.0.113.7',
        'for="x, for="[2001:db8::1]"',
        "for",
        "for=",
        "=x",
        "for=a b",
        "for=1.1.1.1;for=2.2.2.2",
        "for =1.1.1.1",
        'for="a"b',
    ],
)
def test_malformed_forwarded_is_refused(value):
    with pytest.raises(ForwardedError, match="Forwarded"):
        applied(("forwarded", value), settings=RFC7239)


def test_open_quote_of_a_client_cannot_swallow_the_proxys_line():
    lines = [("forwarded", 'for="'), ("forwarded", 'for="203.0.113.7"')]
    with pytest.raises(ForwardedError):
        applied(*lines, settings=RFC7239)


def test_only_the_configured_family_of_headers_is_read():
    """A proxy hands on what it does not set: a client could have written it."""
    both = [
        ("forwarded", "for=203.0.113.7"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
    ]
    scope = applied(*both, settings=RFC7239)
    assert (scope["client"], scope["scheme"]) == (("203.0.113.7", 0), "http")
    scope = applied(*both)
    assert (scope["client"], scope["scheme"]) == (("6.6.6.6", 0), "https")


@given(st.text(st.sampled_from('for=;,"\\ \t[]:1.a_')))
def test_any_forwarded_is_parsed_or_refused(value):
    try:
        elements = parse_forwarded(value)
    except ForwardedError:
        return
    assert all(element for element in elements)


TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["for", "by", "host", "proto"]), TOKENS, min_size=1
        ),
        min_size=1,
    )
)
def test_quoted_forwarded_elements_come_back(elements):
    def quoted(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    value = ", ".join(
        ";".join(f"{name}={quoted(text)}" for name, text in element.items())
        for element in elements
    )
    assert parse_forwarded(value) == elements


def test_long_blanks_cost_no_more_than_their_length():
    """A regular expression that could match blanks two ways would run for hours."""
    with pytest.raises(ForwardedError):
        parse_forwarded("for=a" + " " * 60_000 + "b")
    with pytest.raises(ForwardedError):
        parse_forwarded(" " * 60_000 + "=")


# -- SCRIPT_NAME and PATH_INFO


def test_script_name_becomes_root_path_and_path_keeps_it():
    scope = applied(("script_name", "/app"))
    assert (scope["root_path"], scope["path"]) == ("/app", "/app/page")
    assert scope["raw_path"] == b"/app/page"


@pytest.mark.parametrize("path", ["/application", "/other", "/"])
def test_path_outside_script_name_is_refused(path):
    with pytest.raises(ForwardedError, match="SCRIPT_NAME"):
        applied(("script_name", "/app"), path=path)


@pytest.mark.parametrize("path", ["/app", "/app/", "/app//x"])
def test_path_at_script_name_is_served(path):
    scope = applied(("script_name", "/app/"), path=path)
    assert (scope["root_path"], scope["path"]) == ("/app", path)


def test_path_info_is_the_path_below_script_name():
    scope = applied(
        ("script_name", "/app"), ("path_info", "/ä b"), path="/whatever%20else"
    )
    assert (scope["root_path"], scope["path"]) == ("/app", "/app/ä b")
    assert scope["raw_path"] == b"/whatever%20else"  # as it came, says ASGI


def test_path_info_alone_goes_below_the_configured_root_path():
    scope = applied(("path_info", "/page"), path="/x", root_path="/root")
    assert (scope["root_path"], scope["path"]) == ("/root", "/root/page")


def test_script_name_overrides_the_configured_root_path():
    scope = applied(("script_name", "/app"), root_path="/root")
    assert (scope["root_path"], scope["path"]) == ("/app", "/app/page")
    assert scope["raw_path"] == b"/app/page"


@pytest.mark.parametrize(
    "headers",
    [
        [("script_name", "/app"), ("script_name", "/admin")],
        [("path_info", "/a"), ("path_info", "/b")],
        [("script_name", "app")],
        [("path_info", "page")],
    ],
)
def test_doubtful_mount_headers_are_refused(headers):
    with pytest.raises(ForwardedError, match=r"SCRIPT_NAME|PATH_INFO"):
        applied(*headers)


def test_mount_headers_not_in_forwarder_headers_mean_nothing():
    scope = applied(("script_name", "/x"), settings={"forwarder_headers": []})
    assert (scope["root_path"], scope["path"]) == ("", "/app/page")


# -- names with underscores


@pytest.mark.parametrize(
    ("header_map", "name", "trusted", "kept"),
    [
        ("drop", b"x_real_ip", True, False),
        ("drop", b"x_real_ip", False, False),
        ("dangerous", b"x_real_ip", False, True),
        ("drop", b"remote_user", True, True),
        ("refuse", b"remote_user", True, True),
        ("drop", b"remote_user", False, False),
    ],
)
def test_underscored_names_pass_only_as_header_map_says(
    header_map, name, trusted, kept
):
    policy = forwarding(header_map=header_map, forwarder_headers=["REMOTE_USER"])
    assert policy.keeps(name, trusted=trusted) is kept


@pytest.mark.parametrize("trusted", [True, False])
def test_underscored_name_is_refused_on_demand(trusted):
    with pytest.raises(ForwardedError, match="x_real_ip"):
        forwarding(header_map="refuse").keeps(b"x_real_ip", trusted=trusted)


def test_star_lets_every_underscored_name_of_a_trusted_proxy_pass():
    policy = forwarding(forwarder_headers=["*"])
    assert policy.keeps(b"x_real_ip", trusted=True)
    assert not policy.keeps(b"x_real_ip", trusted=False)


# -- the twin: gunicorn's own parser

NAMES = [
    "X-Forwarded-Proto",
    "X-Forwarded-Ssl",
    "X-Forwarded-Protocol",
    "SCRIPT_NAME",
    "X_Forwarded_Proto",
    "Remote_User",
    "Accept",
]
VALUES = ["https", "http", "on", "off", "ssl", "/app", ""]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4),
    st.sampled_from(["drop", "refuse", "dangerous"]),
    st.sampled_from([PROXY, ("203.0.113.9", 1), None]),
)
def test_scheme_and_header_map_agree_with_gunicorn(headers, header_map, peer):
    theirs = gunicorns_reading(headers, header_map, peer)
    assert our_reading(headers, header_map, peer) == theirs


def gunicorns_reading(headers, header_map, peer):
    cfg = Config()
    cfg.set("forwarded_allow_ips", "10.0.0.1")
    cfg.set("header_map", header_map)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    raw = f"GET /app/page HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()
    try:
        request = Request(cfg, IterUnreader([raw]), peer or "")
    except (InvalidHeaderName, InvalidSchemeHeaders):
        return "refused"
    return request.scheme, [name for name, _ in request.headers if name != "HOST"]


def our_reading(headers, header_map, peer):
    policy = forwarding(forwarded_allow_ips="10.0.0.1", header_map=header_map)
    trusted = policy.trusts(peer)
    lower = [(name.lower(), value) for name, value in headers]
    try:
        kept = [
            header
            for header in lower
            if "_" not in header[0] or policy.keeps(header[0].encode(), trusted=trusted)
        ]
        scope = scope_of(*(header for header in kept if header[0] != "script_name"))
        if trusted:
            policy.apply(scope)
    except ForwardedError:
        return "refused"
    return scope["scheme"], [name.upper() for name, _ in kept]
