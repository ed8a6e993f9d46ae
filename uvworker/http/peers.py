"""Which peers are believed: the address lists of gunicorn's settings.

Here lives the one reading of `forwarded_allow_ips` and `proxy_allow_ips`. Rule:
trust hangs on the address of a peer and on nothing that the peer says.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Address: TypeAlias = IPv4Address | IPv6Address
Peer: TypeAlias = tuple[str, int]  # host and port, as `socket.getpeername()[:2]`

LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class TrustedPeers:
    """An address list, read once.

    A peer on a unix socket is trusted always, as gunicorn documents for both
    settings: who may connect is decided by the permissions of the socket file.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    everyone: bool = False

    @classmethod
    def parse(cls, addresses: str | Iterable[str]) -> TrustedPeers:
        """Read `"10.0.0.0/8, ::1"` or a list of the same; `*` anywhere is everyone.

        Raises:
            ValueError: an entry is neither an address, nor a network, nor `*`.
                A network with host bits set (`10.0.0.1/8`) is a mistake and
                refused, as gunicorn refuses it.

        """
        if isinstance(addresses, str):
            addresses = addresses.split(",")
        entries = [entry.strip() for entry in addresses if entry.strip()]
        networks = tuple(ip_network(entry) for entry in entries if entry != "*")
        return cls(networks, everyone="*" in entries)

    def trusts(self, peer: Peer | None) -> bool:
        """Tell whether a connection's peer is believed; None is a unix socket."""
        if peer is None or self.everyone:
            return True
        address = parse_address(peer[0])
        return address is not None and self.includes(address)

    def includes(self, address: Address) -> bool:
        """Tell whether an address stands in the list."""
        return self.everyone or any(address in network for network in self.networks)


def parse_address(text: str) -> Address | None:
    """Read an IP address; None if it is not one.

    An IPv4-mapped address is read as IPv4: a dual-stack listener reports its IPv4
    peers as `::ffff:127.0.0.1`, which a list with `127.0.0.1` in it means.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
