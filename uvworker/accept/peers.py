"""Which peers are trusted: the address lists of gunicorn's settings.

`forwarded_allow_ips` and `proxy_allow_ips` are parsed here and nowhere else. Rule:
trust depends on the address of a peer, and on nothing that the peer sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Peer: TypeAlias = tuple[str, int]  # host and port, as `socket.getpeername()[:2]`

LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class TrustedPeers:
    """An address list, parsed once.

    A peer on a unix socket is always trusted, as gunicorn documents for both
    settings: the permissions of the socket file decide who may connect.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    everyone: bool = False

    @classmethod
    def parse(cls, addresses: str | Iterable[str]) -> TrustedPeers:
        """Parse `"10.0.0.0/8, ::1"` or a list of addresses; `*` is everyone.

        Raises:
            ValueError: an entry is neither an address, nor a network, nor `*`. As
                in gunicorn, a network with host bits set (`10.0.0.1/8`) is refused.

        """
        if isinstance(addresses, str):
            addresses = addresses.split(",")
        entries = [entry.strip() for entry in addresses if entry.strip()]
        networks = tuple(ip_network(entry) for entry in entries if entry != "*")
        return cls(networks, everyone="*" in entries)

    def trusts(self, peer: Peer | None) -> bool:
        """Return whether a connection's peer is trusted; None is a unix socket."""
        if peer is None or self.everyone:
            return True
        address = parse_address(peer[0])
        return address is not None and self.includes(address)

    def includes(self, address: Address) -> bool:
        """Return whether the list includes an address."""
        return self.everyone or any(address in network for network in self.networks)


def parse_address(text: str) -> Address | None:
    """Parse an IP address; None if it is not one.

    An IPv4-mapped address becomes an IPv4 address: a dual-stack listener reports its
    IPv4 peers as `::ffff:127.0.0.1`, and a list with `127.0.0.1` must match that.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
