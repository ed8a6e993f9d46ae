"""Who the client is, by the headers of a trusted proxy.

Here is everything that a header may change in the ASGI scope: scheme, client, root path
and path. Rules: a header of an untrusted peer changes nothing; an address is believed
only if a trusted hop wrote it, so lists are read from the right; headers that
contradict one another are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

from ..accept.peers import LAST_PORT, Address, Peer, TrustedPeers, parse_address

Claims: TypeAlias = dict[bytes, list[bytes]]  # the values of each header we read
Origin: TypeAlias = tuple[Peer, bool]  # the sender, and whether it is a trusted hop

# A claimed address is at most `[` 45 characters `]:65535`, or a hidden name.
NODE_LENGTH = 64  # characters; longer ones are not an address, and take no cache slot
NODE_CACHE = 4096  # entries, about 1 MB; clients come back, and parsing costs 3 µs

X_FORWARDED_FOR = b"x-forwarded-for"
FORWARDED = b"forwarded"
SCRIPT_NAME = b"script_name"
PATH_INFO = b"path_info"

# ASGI's names of the schemes by scope type, for (False, True) = (plain, secure).
SCHEMES = {"http": ("http", "https"), "websocket": ("ws", "wss")}
# What a proxy calls them; some name the WebSocket's own scheme.
SECURE = {"http": False, "ws": False, "https": True, "wss": True}


class ForwardedError(Exception):
    """The trusted proxy's headers are malformed: the request is answered with 400."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What the proxies in front may change, by the settings.

    `trusts` is called once for each connection, `apply` once for each request of a
    trusted peer, `keeps` only for a header with an underscore in its name.
    """

    peers: TrustedPeers
    secure_values: Mapping[bytes, frozenset[bytes]]
    forwarder_headers: frozenset[bytes]
    header_map: str
    forwarded_header: str
    names: frozenset[bytes]  # of the headers that `apply` reads
    origin: Callable[[str], Origin | None]  # reads a node, through a bounded cache

    @classmethod
    def from_settings(
        cls,
        *,
        forwarded_allow_ips: str | Iterable[str] = ("127.0.0.1", "::1"),
        secure_scheme_headers: Mapping[str, str] | None = None,
        forwarder_headers: Iterable[str] = ("SCRIPT_NAME", "PATH_INFO"),
        header_map: Literal["drop", "refuse", "dangerous"] = "drop",
        forwarded_header: Literal["x-forwarded", "rfc7239"] = "x-forwarded",
    ) -> Forwarding:
        """Read gunicorn's settings of the same names.

        `forwarded_header` is this package's option: the family of headers that the
        proxy sets. The other family is not read, because a proxy passes on what it
        does not set, and a client may have written it.
        """
        peers = TrustedPeers.parse(forwarded_allow_ips)
        mapped = frozenset(_wire(name) for name in forwarder_headers)
        secure: dict[bytes, frozenset[bytes]] = {}
        if forwarded_header == "rfc7239":
            names = {FORWARDED}
        else:
            for name, value in (secure_scheme_headers or {}).items():
                secure[_wire(name)] = _secure_values(value)
            names = {X_FORWARDED_FOR, *secure}
        return cls(
            peers=peers,
            secure_values=secure,
            forwarder_headers=mapped,
            header_map=header_map,
            forwarded_header=forwarded_header,
            names=frozenset(names | (mapped & {SCRIPT_NAME, PATH_INFO})),
            origin=lru_cache(NODE_CACHE)(partial(_origin, peers)),
        )

    def trusts(self, peer: Peer | None) -> bool:
        """Return whether a connection's peer is a trusted proxy; None: a unix socket.

        Behind the PROXY protocol the peer is the client that the proxy announces: the
        proxy does not change what that client writes into headers.
        """
        return self.peers.trusts(peer)

    def keeps(self, name: bytes, *, trusted: bool) -> bool:
        """Return whether a header with an underscore in its name reaches the app.

        Gunicorn's `header_map` and `forwarder_headers`: `X_Real_Ip` and
        `X-Real-Ip` are one variable to CGI-like readers, so a client can forge the
        second by sending the first.

        Args:
            name: in lower case, with an underscore.
            trusted: what `trusts` returned for the connection.

        Raises:
            ForwardedError: `header_map = "refuse"`.

        """
        if trusted and not self.forwarder_headers.isdisjoint((name, b"*")):
            return True
        if self.header_map in ("drop", "dangerous"):
            return self.header_map == "dangerous"
        raise ForwardedError(
            f"header {name.decode('latin-1')!r} has an underscore in its name, "
            "which header_map = 'refuse' forbids"
        )

    def apply(self, scope: MutableMapping[str, Any]) -> None:
        """Change the scope of a trusted peer's request as its headers say.

        Args:
            scope: of type `http` or `websocket`; `scheme`, `client`, `root_path`,
                `path` and `raw_path` may change, `headers` never do.

        Raises:
            ForwardedError: the headers are malformed or contradict one another.

        """
        names = self.names
        said = [header for header in scope["headers"] if header[0] in names]
        if not said:
            return
        claims: Claims = {}
        for name, value in said:
            claims.setdefault(name, []).append(value)
        if self.forwarded_header == "rfc7239":
            self._apply_forwarded(scope, claims)
        else:
            hops = self._apply_forwarded_for(scope, claims)
            self._apply_scheme(scope, claims, *hops)
        if SCRIPT_NAME in claims or PATH_INFO in claims:
            _apply_mount(scope, claims)

    def _apply_forwarded_for(
        self, scope: MutableMapping[str, Any], claims: Claims
    ) -> tuple[int, int]:
        """Return the place of the client among the hops, and how many they are."""
        values = claims.get(X_FORWARDED_FOR)
        if not values:
            return 0, 0
        nodes = b",".join(values).decode("latin-1").split(",")
        client, place = self._walk([node.strip() for node in nodes])
        scope["client"] = client or scope["client"]
        return place, len(nodes)

    def _apply_scheme(
        self, scope: MutableMapping[str, Any], claims: Claims, place: int, hops: int
    ) -> None:
        meanings = self.secure_values
        verdicts = {
            value in meanings[name] or _hop(value, place, hops) in meanings[name]
            for name, values in claims.items()
            if name in meanings
            for value in values
        }
        if len(verdicts) > 1:
            raise ForwardedError(
                "the proxy's headers disagree on whether the client used https; "
                "let it set, or clear, each header of secure_scheme_headers"
            )
        for secure in verdicts:
            scope["scheme"] = SCHEMES[scope["type"]][secure]

    def _apply_forwarded(self, scope: MutableMapping[str, Any], claims: Claims) -> None:
        elements = [
            element
            for value in claims.get(FORWARDED, ())
            for element in parse_forwarded(value.decode("latin-1"))
        ]
        client, place = self._walk([element.get("for", "") for element in elements])
        scope["client"] = client or scope["client"]
        proto = elements[place].get("proto", "") if elements else ""
        secure = SECURE.get(proto.lower())
        if secure is not None:
            scope["scheme"] = SCHEMES[scope["type"]][secure]

    def _walk(self, nodes: Sequence[str]) -> tuple[Peer | None, int]:
        """Walk from our own proxy outwards, as long as the hops are trusted.

        An entry that is not an address (`unknown`, `_hidden`, garbage) ends the walk:
        no trusted hop wrote what is left of it. The client is then the last address
        read, as in nginx's realip module; uvicorn reports the garbage.

        Returns:
            the client, and the place in *nodes* where the walk ended.

        """
        client, place = None, 0
        for place in range(len(nodes) - 1, -1, -1):
            node = nodes[place]
            origin = self.origin(node) if len(node) <= NODE_LENGTH else None
            if origin is None:
                break
            client, trusted = origin
            if not trusted:
                break
        return client, place


def _wire(name: str) -> bytes:
    """Return a header's name as in an ASGI scope."""
    return name.lower().encode("latin-1")


def _secure_values(value: str) -> frozenset[bytes]:
    """Return the values for "secure"; Traefik sends wss for a WebSocket."""
    value = value.lower()
    values = {value, "wss"} if value == "https" else {value}
    return frozenset(item.encode("latin-1") for item in values)


def _hop(value: bytes, place: int, hops: int) -> bytes:
    """Return the list's item for the hop at *place*, in lower case: RFC 3986 3.1.

    A proxy that appends to X-Forwarded-Proto appends to X-Forwarded-For, too. So in
    lists of one length the items belong to the same hops, and only trusted hops are
    believed. Any other list begins with the client's item.
    """
    items = value.lower().split(b",")
    return items[place if len(items) == hops else 0].strip()


# -- addresses: RFC 7239 section 6, and what proxies write in X-Forwarded-For

_NODE = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))"
    r"(?::(?:(?P<port>[0-9]{1,5})|_[A-Za-z0-9._-]+))?"
    r"|(?P<bare>[0-9A-Fa-f:.]+)"
)


def parse_node(text: str) -> tuple[Address, int] | None:
    """Read `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.

    Returns the address and the port, 0 if that is unknown or hidden; None for
    anything else.
    """
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    address = parse_address(match["v6"] or match["v4"] or match["bare"])
    port = int(match["port"] or 0)
    if address is None or port > LAST_PORT:
        return None
    return address, port


def _origin(peers: TrustedPeers, node: str) -> Origin | None:
    """Return a node's address, and whether it is a trusted proxy."""
    found = parse_node(node)
    if found is None:
        return None
    address, port = found
    return (str(address), port), peers.includes(address)


# -- RFC 7239 section 4: elements divided by commas, pairs divided by semicolons

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PLAIN = r'[^\x00- ",;\\\x7f]+'
_QUOTED = r'(?:[^"\\]|\\.)*'
# No two parts can match the same blanks: a field of 8000 blanks stays cheap.
_PAIR = re.compile(rf'[ \t]*(?:({_NAME})=(?:({_PLAIN})|"({_QUOTED})")[ \t]*)?(;|,|\Z)')


def parse_forwarded(value: str) -> list[dict[str, str]]:
    """Read one `Forwarded` field into its elements, outermost hop first.

    Each field line is read by itself, so that a quote that a client leaves open cannot
    swallow what the proxy appends. Values may have `:` and brackets without quotes:
    proxies send them, against the grammar.

    Raises:
        ForwardedError: the field is malformed, or names a parameter twice in one
            element.

    """
    elements: list[dict[str, str]] = []
    element: dict[str, str] = {}
    position, end = 0, ","
    while end:
        match = _PAIR.match(value, position)
        if match is None:
            rest = value[position : position + NODE_LENGTH]
            raise ForwardedError(f"malformed Forwarded header at {rest!r}")
        name, plain, quoted, end = match.groups()
        if name:
            name = name.lower()
            if name in element:
                raise ForwardedError(f"{name!r} appears twice in a Forwarded element")
            element[name] = plain or re.sub(r"\\(.)", r"\1", quoted)
        if end != ";" and element:
            elements.append(element)
            element = {}
        position = match.end()
    return elements


# -- where the app is mounted: SCRIPT_NAME and PATH_INFO


def _apply_mount(scope: MutableMapping[str, Any], claims: Claims) -> None:
    """Turn SCRIPT_NAME and PATH_INFO into `root_path` and `path`.

    ASGI's `path` includes `root_path`, where CGI's PATH_INFO does not include
    SCRIPT_NAME. As in gunicorn, the request's path has to begin with SCRIPT_NAME (here
    with whole segments), because a proxy that strips the prefix looks like one that
    does not. A proxy that strips it has to send PATH_INFO, too.
    """
    script_name = _single(claims, SCRIPT_NAME)
    path_info = _single(claims, PATH_INFO)
    root = scope["root_path"]
    if script_name is not None:
        _unmount(scope, root)
        root = scope["root_path"] = script_name.rstrip("/")
    if path_info is not None:
        scope["path"] = root + path_info or "/"
    elif script_name is not None and not f"{scope['path']}/".startswith(f"{root}/"):
        raise ForwardedError(
            f"the path {scope['path']!r} does not begin with the SCRIPT_NAME "
            f"{script_name!r} that the proxy sent"
        )


def _unmount(scope: MutableMapping[str, Any], root: str) -> None:
    """Remove the configured `root_path`, which SCRIPT_NAME overrides."""
    if root:
        scope["path"] = scope["path"].removeprefix(root)
        scope["raw_path"] = scope["raw_path"].removeprefix(root.encode())


def _single(claims: Claims, name: bytes) -> str | None:
    """Return a header's only value; a client may have sent it besides the proxy."""
    if name not in claims:
        return None
    first, *others = claims[name]
    label, value = name.decode().upper(), first.decode("utf-8", "replace")
    if any(other != first for other in others):
        raise ForwardedError(f"{label} came twice, with different values")
    if value and not value.startswith("/"):
        raise ForwardedError(f"{label} {value!r} does not begin with a slash")
    return value
