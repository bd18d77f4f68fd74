"""Which addresses may be connected to. Knows numbers alone, no names: see `jobs.web.names`.

A list of URLs is hostile input: a name may lead to this machine, to its neighbours, or to a cloud's metadata.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # public by its number, but inside Azure the host's own agent
    )
]  # fmt: skip
"""IANA's registry of special-purpose IPv4 addresses, multicast, the reserved quarter."""

_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20", "2620:4f:8000::/48")
]
"""IANA's registry of special-purpose IPv6 addresses within 2000::/3; what lies outside of it is not public at all."""

_IPV4_LAST = [
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
]
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_ISATAP = 0x00005EFE


@dataclass(frozen=True)
class AddressRules:
    """Which addresses may be connected to: public ones, and those of networks that were named."""

    allowed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    everything: bool = False
    """For a proxy's own address, which the person who runs the job has chosen."""

    @classmethod
    def of(cls, networks: Iterable[str], everything: bool = False) -> AddressRules:
        """Rules from networks as people write them. Raises `ValueError` for what is none."""
        return cls(tuple(map(ipaddress.ip_network, networks)), everything)

    def permit(self, address: IPAddress) -> bool:
        """Whether it may be connected to. An address with an IPv4 address inside needs that one permitted too."""
        if self.everything:
            return True
        named = any(address.version == network.version and address in network for network in self.allowed)
        if isinstance(address, ipaddress.IPv4Address):
            return named or not any(address in network for network in _NOT_PUBLIC_4)
        inside = embedded_ipv4(address)
        if inside is not None:
            return named and all(map(self.permit, inside))
        return named or (address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6))


def embedded_ipv4(address: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...] | None:
    """The IPv4 addresses to which an IPv6 address of a transition mechanism leads; None for any other address.

    IPv4-mapped and -compatible (RFC 4291), IPv4-translated (RFC 2765), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056),
    Teredo (RFC 4380), ISATAP (RFC 5214). `::` and `::1` are read as IPv4-compatible, and lead nowhere public either.
    """
    number = int(address)
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if any(address in network for network in _IPV4_LAST) or number >> 32 & 0xFDFFFFFF == _ISATAP:
        return (low,)
    if address in _6TO4:
        return (ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF),)
    if address in _TEREDO:
        server, client = number >> 64 & 0xFFFFFFFF, int(low) ^ 0xFFFFFFFF
        return (ipaddress.IPv4Address(server), ipaddress.IPv4Address(client))
    return None
