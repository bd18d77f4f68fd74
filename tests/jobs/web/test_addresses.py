"""Which addresses may be connected to."""

from __future__ import annotations

import ipaddress

import pytest

from jobs.web.addresses import AddressRules, embedded_ipv4

PUBLIC = ["8.8.8.8", "93.184.216.34", "198.17.255.255", "172.32.0.1", "2606:2800:220:1:248:1893:25c8:1946", "2a00::1"]
FORBIDDEN = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "2001:db8::1",
    "2001:10::1", "2001:20::1", "3fff::1", "5f00::1", "4000::1",
    "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "::127.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8",
    "64:ff9b::a00:1", "64:ff9b:1::8.8.8.8", "2002:808:808::1", "2002:7f00:1::1", "2001:0:808:808::f7f7:f7f7",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert AddressRules().permit(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", FORBIDDEN)
def test_all_others_are_refused(address: str) -> None:
    assert not AddressRules().permit(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("::ffff:10.0.0.1", ("10.0.0.1",)),
        ("::10.0.0.1", ("10.0.0.1",)),
        ("64:ff9b::10.0.0.1", ("10.0.0.1",)),
        ("64:ff9b:1:aaaa::10.0.0.1", ("10.0.0.1",)),
        ("2002:a00:1:5::9", ("10.0.0.1",)),
        ("2001:0:102:304:8000:63bf:f5ff:fffe", ("1.2.3.4", "10.0.0.1")),
        ("2a00::5efe:10.0.0.1", ("10.0.0.1",)),
        ("2a00::200:5efe:10.0.0.1", ("10.0.0.1",)),
        ("2a00::1", None),
        ("fe80::1", None),
    ],
)
def test_an_ipv4_address_inside_an_ipv6_address_is_found(address: str, inside: tuple[str, ...] | None) -> None:
    expected = None if inside is None else tuple(map(ipaddress.IPv4Address, inside))
    assert embedded_ipv4(ipaddress.IPv6Address(address)) == expected


def test_named_networks_are_opened_and_nothing_beside_them() -> None:
    rules = AddressRules.of(["10.1.0.0/16", "fd00:1::/32", "64:ff9b::/96"])
    for address in ("10.1.2.3", "fd00:1::5", "64:ff9b::8.8.8.8", "64:ff9b::10.1.0.1", "8.8.8.8"):
        assert rules.permit(ipaddress.ip_address(address)), address
    for address in ("10.2.0.1", "fd00:2::5", "::ffff:10.1.2.3", "64:ff9b::10.2.0.1", "64:ff9b::127.0.0.1"):
        assert not rules.permit(ipaddress.ip_address(address)), address


def test_what_holds_a_private_address_by_isatap_is_refused() -> None:
    assert not AddressRules().permit(ipaddress.ip_address("2a00::5efe:10.0.0.1"))
