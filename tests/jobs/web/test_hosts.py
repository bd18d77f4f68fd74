"""What a host is spared."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from jobs.web.hosts import Host, Hosts
from jobs.web.reasons import WebError


def host(connections: int = 0, requests_per_s: float = 0, failures: int = 0, cooldown_s: float = 60) -> Host:
    return Host(connections, requests_per_s, failures, cooldown_s)


def reason_of(host: Host, until: float = 0.0) -> str:
    with pytest.raises(WebError) as caught:
        host.enter(until)
    return caught.value.reason


def test_a_site_that_wants_to_be_asked_slowly_is_whatever_the_limit() -> None:
    for limit in (0, 100):
        slow = host(requests_per_s=limit)
        slow.slow_down(3600)
        slow.enter(0.0)
        slow.leave(True)
        assert reason_of(slow) == "unit-deadline"
        slow.slow_down(0.001)  # a later, looser wish changes nothing
        assert reason_of(slow) == "unit-deadline"


def test_a_host_serves_no_more_at_once_than_its_limit(kit: Any) -> None:
    active, most, lock = [0], [0], threading.Lock()

    def page(sock: Any, seen: int) -> bool:
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        time.sleep(0.02)
        with lock:
            active[0] -= 1
        sock.sendall(kit.answer(b"x"))
        return True

    with kit.serving({"/": page}) as site, kit.client(host_connections=2) as client:
        results: list[str] = []
        threads = [
            threading.Thread(target=lambda: results.append(client.get(f"{site.url}/").reason)) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert results == [""] * 12
        assert most[0] == site.connections == 2


def test_a_turn_is_waited_for_until_the_time_is_over() -> None:
    one = host(connections=1)
    one.enter(float("inf"))
    assert reason_of(one, time.monotonic() + 0.05) == "unit-deadline"
    one.leave(True)
    one.enter(0.0)


def test_requests_are_spread_over_time() -> None:
    slow = host(requests_per_s=5)
    for _ in range(5):  # a second's worth at once
        slow.enter(0.0)
    assert reason_of(slow, time.monotonic() + 0.01) == "unit-deadline"
    started = time.monotonic()
    slow.enter(started + 10)
    assert time.monotonic() - started > 0.05


def test_a_host_that_asks_for_a_pause_gets_it_from_everybody() -> None:
    one = host()
    one.pause(30)
    assert reason_of(one, time.monotonic() + 0.05) == "unit-deadline"


def test_limits_can_be_lifted() -> None:
    free = host()
    for _ in range(1000):
        free.enter(0.0)
    for _ in range(1000):
        free.leave(False)
    free.enter(0.0)


def test_a_dead_host_is_left_alone_and_tried_again_by_one() -> None:
    dead = host(failures=3, cooldown_s=0.2)
    for _ in range(3):
        dead.enter(0.0)
        dead.leave(False)
    assert reason_of(dead) == "host-down"
    time.sleep(0.25)
    dead.enter(0.0)  # the one
    assert reason_of(dead) == "host-down"
    dead.leave(False)
    assert reason_of(dead) == "host-down"
    time.sleep(0.25)
    dead.enter(0.0)
    dead.leave(None)  # it ended without saying anything about the host
    dead.enter(0.0)
    dead.leave(True)
    dead.enter(0.0)
    dead.enter(0.0)


def test_one_success_between_failures_keeps_a_host() -> None:
    fair = host(failures=3)
    for good in (False, False, True, False, False):
        fair.enter(0.0)
        fair.leave(good)
    fair.enter(0.0)


def test_urls_of_a_dead_host_cost_no_request(kit: Any) -> None:
    with kit.serving({"/": kit.reset(), "/good": kit.answer(b"x")}) as site:
        with kit.client(host_failures=4, retries=2) as client:
            answers = [client.get(f"{site.url}/") for _ in range(5)]
            assert [answer.requests for answer in answers] == [3, 1, 0, 0, 0]
            assert [answer.reason for answer in answers] == ["connection"] * 2 + ["host-down"] * 3
            assert all(answer.transient for answer in answers)
        assert len(site.heads) == 4


def test_hosts_are_kept_apart() -> None:
    hosts = Hosts(1, 0, 0, 60)
    hosts.of("a.test").enter(0.0)
    assert hosts.of("a.test") is hosts.of("a.test")
    hosts.of("b.test").enter(0.0)
    assert reason_of(hosts.of("a.test")) == "unit-deadline"
