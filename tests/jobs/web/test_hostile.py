"""What a client makes of servers that mean harm: none holds it beyond its limits, or leads it inwards."""

from __future__ import annotations

import gzip
import random
import time
import tracemalloc
import zlib
from typing import Any

import brotli
import pytest

from jobs.web.names import system_lookup
from jobs.web.reasons import REASONS

HEAD = b"HTTP/1.1 200 OK\r\n"
START = HEAD + b"Content-Length: 100000\r\n\r\n"
ZEROS = bytes(40_000_000)
SLACK_S = 15.0

# reason, whether it may pass, requests, and the page
PAGES: dict[str, tuple[str, bool, int, Any]] = {
    "drip": ("too-slow", True, 1, lambda kit: kit.drip(START, b"x", 0.05)),
    "drip under the read timeout": ("too-slow", True, 1, lambda kit: kit.drip(START, b"x", 0.3)),
    "fair rate, no end": ("transfer-timeout", True, 1, lambda kit: kit.drip(HEAD + b"\r\n", b"x" * 400, 0.01)),
    "hang before the head": ("timeout", True, 2, lambda kit: kit.hang()),
    "hang in the head": ("timeout", True, 2, lambda kit: kit.hang(HEAD)),
    "hang in the body": ("timeout", True, 2, lambda kit: kit.hang(START + b"x" * 500)),
    "reset before the head": ("connection", True, 2, lambda kit: kit.reset()),
    "reset in the body": ("connection", True, 2, lambda kit: kit.reset(START + b"x" * 500)),
    "shorter than it says": ("connection", True, 2, lambda kit: kit.closing(START + b"x" * 500)),
    "chunks without their end": (
        "connection", True, 2, lambda kit: kit.closing(HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\nabc")
    ),
    "slow header lines": ("too-slow", True, 1, lambda kit: kit.drip(HEAD, b"X-A: b\r\n", 0.05)),
    "endless header lines": ("bad-response", False, 1, lambda kit: kit.flood(HEAD, b"X-A: b\r\n" * 100)),
    "an endless header": ("bad-response", False, 1, lambda kit: kit.flood(HEAD + b"X: ", b"x" * 10_000)),
    "an endless status line": ("bad-response", False, 1, lambda kit: kit.flood(b"", b"x" * 10_000)),
    "continue for ever": ("bad-response", False, 1, lambda kit: kit.flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99)),
    "no HTTP": ("bad-response", False, 1, lambda kit: kit.closing(b"220 mail.example ESMTP\r\n")),
    "two lengths": (
        "bad-response", False, 1,
        lambda kit: kit.closing(HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg")
    ),
    "a huge announced length": (
        "too-large", False, 1, lambda kit: kit.hang(HEAD + b"Content-Length: 999999999\r\n\r\n")
    ),
    "a body without end": ("too-large", False, 1, lambda kit: kit.flood(HEAD + b"\r\n", b"x" * 50_000)),
    "chunks without number": (
        "too-large", False, 1,
        lambda kit: kit.flood(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 5000 + b"\r\nx\r\n"),
    ),
    "a gzip bomb": ("too-large", False, 1, lambda kit: kit.answer(gzip.compress(ZEROS), Content_Encoding="gzip")),
    "a deflate bomb": ("too-large", False, 1, lambda kit: kit.answer(zlib.compress(ZEROS), Content_Encoding="deflate")),
    "a br bomb": (
        "too-large", False, 1, lambda kit: kit.answer(brotli.compress(ZEROS, quality=5), Content_Encoding="br")
    ),
    "a bomb in a bomb": (
        "too-large", False, 1,
        lambda kit: kit.answer(gzip.compress(gzip.compress(ZEROS)), Content_Encoding="gzip, gzip"),
    ),
    "gzip that gives nothing": (
        "too-large", False, 1,
        lambda kit: kit.flood(
            HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff" * 5000
        ),
    ),
    "damaged gzip": (
        "encoding-damaged", False, 1,
        lambda kit: kit.answer(b"\x1f\x8b" + random.Random(1).randbytes(500), Content_Encoding="gzip"),
    ),
    "an encoding unknown here": (
        "encoding-unsupported", False, 1, lambda kit: kit.answer(b"x", Content_Encoding="compress")
    ),
    "a redirect without end": ("too-many-redirects", False, 4, lambda kit: kit.moved("/")),
    "a redirect to a file": ("redirect-refused", False, 1, lambda kit: kit.moved("file:///etc/hostname")),
    "a redirect to no URL": ("redirect-refused", False, 1, lambda kit: kit.moved("http://[::1/")),
    "a redirect with a password": ("url-credentials", False, 1, lambda kit: kit.moved("http://me:x@127.0.0.1/")),
    "a redirect to a name that is none": ("no-such-host", False, 1, lambda kit: kit.moved("http://nowhere.test/")),
    "a redirect to this machine": ("address-refused", False, 1, lambda kit: kit.moved("http://[::1]:22/")),
    "a redirect to the metadata": ("address-refused", False, 1, lambda kit: kit.moved("http://169.254.169.254/")),
}  # fmt: skip


@pytest.mark.parametrize("what", PAGES)
def test_a_hostile_answer_ends_with_its_reason(kit: Any, what: str) -> None:
    reason, transient, requests, page = PAGES[what]
    limits = {"max_bytes": 2_000_000, "max_redirects": 3, "min_rate_window_s": 1.0, "timeout_s": 1.0, "deadline_s": 3.0}
    with kit.serving({"/": page(kit)}) as site, kit.client(kit.names(), retries=1, **limits) as client:
        started = time.monotonic()
        answer = client.get(f"{site.url}/")
        assert (answer.reason, answer.transient, answer.requests) == (reason, transient, requests), answer.detail
        assert answer.detail
        assert not answer.data
        assert time.monotonic() - started < 3.0 * 2 + SLACK_S


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_bomb_is_not_unpacked(kit: Any, encoding: str) -> None:
    zeros = bytes(200_000_000)
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "br": lambda data: brotli.compress(data, quality=3)}
    bomb = pack[encoding](zeros)
    del zeros
    with kit.serving({"/": kit.answer(bomb, Content_Encoding=encoding)}) as site, kit.client() as client:
        tracemalloc.start()
        answer = client.get(f"{site.url}/", max_bytes=2_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert answer.reason == "too-large"
    assert peak < 20_000_000


def test_after_a_hostile_answer_the_next_request_is_served(kit: Any) -> None:
    pages = {what.replace(" ", "-"): page(kit) for what, (_, _, _, page) in PAGES.items() if "bomb" not in what}
    pages = {f"/{what}": page for what, page in pages.items()} | {"/good": kit.answer(b"good")}
    limits = {"max_bytes": 100_000, "retries": 0, "timeout_s": 1.0, "deadline_s": 1.5}
    with kit.serving(pages) as site, kit.client(kit.names(), **limits) as client:
        for path in pages:
            client.get(site.url + path)
            assert client.get(f"{site.url}/good").data == b"good", path


def test_no_damaged_answer_raises(kit: Any) -> None:
    seeded = random.Random(7)
    whole = [
        kit.answer(gzip.compress(b"licet" * 99), Content_Encoding="gzip", Retry_After="1"),
        kit.moved("http://127.0.0.1:1/x?y#z", 308),
        HEAD + b"Transfer-Encoding: chunked\r\nX-Robots-Tag: noai\r\n\r\n5\r\nlicet\r\n0\r\nX-A: b\r\n\r\n",
    ]

    def page(sock: Any, seen: int) -> bool:
        damaged = bytearray(seeded.choice(whole))
        for _ in range(seeded.randint(1, 6)):
            place = seeded.randrange(len(damaged))
            damaged[place : place + seeded.randint(0, 3)] = seeded.choice(
                [b"\0", b"\r\n", b":", b" ", b"\xff", b"\n\n", b"99999999999999999999", b"-1", b";", b"/", b"%", b"="]
            )
        sock.sendall(bytes(damaged))
        return False

    with kit.serving({"/": page}) as site, kit.client(retries=0, max_bytes=100_000, timeout_s=5) as client:
        reasons = {client.get(f"{site.url}/").reason for _ in range(600)}
    assert reasons <= set(REASONS) | {""}
    assert len(reasons) > 4


def test_no_connection_reaches_a_forbidden_address(kit: Any) -> None:
    lookup = kit.names(inward_test="127.0.0.2", both_test="127.0.0.2,127.0.0.1", mapped_test="::ffff:127.0.0.2")
    with kit.serving({"/": kit.answer(b"secret")}, "127.0.0.2") as inner:
        port = inner.port
        targets = [
            f"http://127.0.0.2:{port}/", f"http://2130706434:{port}/", f"http://0x7f.2:{port}/",
            f"http://0177.0.0.2:{port}/", f"http://127.2:{port}/", f"http://[::ffff:127.0.0.2]:{port}/",
            f"http://[::127.0.0.2]:{port}/", f"http://inward.test:{port}/", f"http://mapped.test:{port}/",
            f"http://INWARD.test:{port}/", f"//127.0.0.2:{port}/",
        ]  # fmt: skip
        pages = {f"/{n}": kit.moved(target) for n, target in enumerate(targets)}

        def looking_up(name: str) -> Any:
            return system_lookup(name) if name[0].isdigit() else lookup(name)

        with kit.serving(pages) as site, kit.client(looking_up) as client:
            for n, target in enumerate(targets):
                if target.startswith("http"):
                    answer = client.get(target)
                    assert (answer.reason, answer.requests) == ("address-refused", 0), target
                answer = client.get(f"{site.url}/{n}")
                assert (answer.reason, answer.requests, answer.transient) == ("address-refused", 1, False), target
            client.get(f"http://both.test:{port}/")  # goes to 127.0.0.1 alone
        assert inner.connections == 0


def test_a_name_that_changes_its_mind_is_connected_to_where_it_was_checked(kit: Any) -> None:
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])

    def lookup(name: str) -> Any:
        return [(2, 1, 6, "", (next(answers), 0))]

    page = kit.answer(b"x", Connection="close")
    with kit.serving({"/": page}) as outer, kit.serving({"/": page}, "127.0.0.2", outer.port) as inner:
        with kit.client(lookup, dns_ttl_s=0) as client:
            answers_got = [client.get(f"http://rebinding.test:{outer.port}/") for _ in range(2)]
        assert inner.connections == 0
    assert {answer.reason for answer in answers_got} == {"address-refused"}  # the second lookup is the connection's


def test_a_named_network_is_opened(kit: Any) -> None:
    open_to = kit.client(allow_networks=["127.0.0.2/32"])
    with kit.serving({"/": kit.answer(b"x")}, "127.0.0.2") as site, open_to as client:
        assert client.get(f"{site.url}/").data == b"x"
