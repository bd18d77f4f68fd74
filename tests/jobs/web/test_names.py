"""Names: looked up once, kept for a while, never waited for beyond one's time."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest

from jobs.web.addresses import AddressRules
from jobs.web.names import Resolver
from jobs.web.reasons import WebError


class Zone:
    """A resolver's other side: it counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, name: str) -> list[Any]:
        self.asked[name] += 1
        self.open.wait(20)
        if name == "nowhere.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name == "breaking.test":
            raise OSError("no descriptors left")
        if name == "failing.test":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [
            (2, 1, 6, "", ("93.184.216.34", 0)),
            (10, 1, 6, "", ("fe80::1%lo", 0, 0, 1)),
            (2, 1, 6, "", ("10.0.0.1", 0)),
        ]


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def reason_of(resolver: Resolver, name: str, until: float) -> str:
    with pytest.raises(WebError) as caught:
        resolver.addresses(name, until)
    return caught.value.reason


def test_a_name_is_looked_up_once_and_gives_permitted_addresses_alone() -> None:
    zone = Zone()
    resolver = Resolver(AddressRules(), lookup=zone)
    for name in ("photos.test", "PHOTOS.test", "photos.test"):
        assert [str(address) for address in resolver.addresses(name, soon())] == ["93.184.216.34"]
    assert zone.asked == {"photos.test": 1}


def test_addresses_are_looked_up_again_when_their_time_is_over() -> None:
    zone = Zone()
    resolver = Resolver(AddressRules(), ttl_s=0, negative_ttl_s=0, lookup=zone)
    for _ in range(3):
        resolver.addresses("photos.test", soon())
        reason_of(resolver, "nowhere.test", soon())
    assert zone.asked == {"photos.test": 3, "nowhere.test": 3}


def test_that_a_name_does_not_exist_is_remembered() -> None:
    zone = Zone()
    resolver = Resolver(AddressRules(), lookup=zone)
    for _ in range(3):
        assert reason_of(resolver, "nowhere.test", soon()) == "no-such-host"
        assert reason_of(resolver, "failing.test", soon()) == "dns"
        assert reason_of(resolver, "breaking.test", soon()) == "dns"
    assert zone.asked["nowhere.test"] == 1


def test_threads_that_want_one_name_share_one_lookup() -> None:
    zone = Zone()
    zone.open.clear()
    resolver = Resolver(AddressRules(), lookup=zone)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(resolver.addresses("a.test", soon()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    zone.open.set()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert zone.asked == {"a.test": 1}


def test_a_lookup_that_hangs_holds_nobody_beyond_his_time(kit: Any) -> None:
    zone = Zone()
    zone.open.clear()
    resolver = Resolver(AddressRules(), lookup=zone)
    assert reason_of(resolver, "a.test", soon(0.1)) == "dns"
    with kit.client(zone, retries=5) as client:
        answer = client.get("http://b.test/", give_up_at=soon(0.3))
    assert (answer.reason, answer.requests) == ("unit-deadline", 0)
    zone.open.set()
    assert resolver.addresses("a.test", soon())


def test_addresses_need_no_lookup() -> None:
    zone = Zone()
    resolver = Resolver(AddressRules(), lookup=zone)
    assert [str(address) for address in resolver.addresses("[2a00::1]", soon())] == ["2a00::1"]
    assert reason_of(resolver, "[::ffff:10.0.0.1]", soon()) == "address-refused"
    assert not zone.asked


def test_the_systems_resolver_reads_odd_spellings() -> None:
    resolver = Resolver(AddressRules())
    for name in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost"):
        assert reason_of(resolver, name, soon()) == "address-refused", name
