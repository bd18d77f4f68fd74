"""What a client asks for, and what it makes of honest answers."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import os
import threading
import time
import zlib
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import brotli
import pytest

from jobs.web.answer import Answer, check_hash
from jobs.web.client import client_for
from jobs.web.options import FetchOptions
from jobs.web.reasons import REASONS, TRANSIENT, WebError

PHOTO = os.urandom(150_000)
TEXT = b"licet " * 20_000


def chunked(kit: Any, body: bytes) -> bytes:
    blocks = [body[start : start + 7000] for start in range(0, len(body), 7000)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + b"0\r\n\r\n"
    return kit.answer(framed, Transfer_Encoding="chunked").replace(b"Content-Length", b"X-Length")


def test_the_bytes_that_the_server_has_are_fetched(kit: Any) -> None:
    deflate = zlib.compressobj(wbits=-15)
    pages = {
        "/plain": (kit.answer(PHOTO), PHOTO),
        "/empty": (kit.answer(b""), b""),
        "/chunked": (chunked(kit, PHOTO), PHOTO),
        "/gzip": (kit.answer(gzip.compress(TEXT), Content_Encoding="gzip"), TEXT),
        "/zlib": (kit.answer(zlib.compress(TEXT), Content_Encoding="deflate"), TEXT),
        "/deflate": (kit.answer(deflate.compress(TEXT) + deflate.flush(), Content_Encoding="deflate"), TEXT),
        "/br": (kit.answer(brotli.compress(TEXT), Content_Encoding="br"), TEXT),
        "/both": (chunked(kit, gzip.compress(PHOTO)).replace(b"X-Length", b"Content-Encoding: gzip\r\nX-A"), PHOTO),
        "/no-coding": (kit.answer(PHOTO, Content_Encoding="none"), PHOTO),
        "/until-the-end": (kit.closing(kit.answer(PHOTO).replace(b"Content-Length", b"X-Length")), PHOTO),
    }  # fmt: skip
    with kit.serving({path: page for path, (page, _) in pages.items()}) as site, kit.client() as client:
        for path, (_, content) in pages.items():
            answer = client.get(site.url + path)
            assert (answer.reason, answer.status, answer.requests) == ("", 200, 1), (path, answer.detail)
            assert answer.data == content, path
            assert answer.sha256 == hashlib.sha256(content).hexdigest()
            assert answer.n_bytes > 30
            assert not answer.transient


def test_an_answer_keeps_each_value_of_a_header(kit: Any) -> None:
    page = b"HTTP/1.1 200 OK\r\nX-Robots-Tag: noai\r\nContent-Length: 0\r\nx-robots-tag: bot: noindex, nofollow\r\n\r\n"
    with kit.serving({"/": page}) as site, kit.client() as client:
        headers = client.get(f"{site.url}/").headers
    assert headers.get_all("X-ROBOTS-TAG") == ["noai", "bot: noindex, nofollow"]
    assert headers.get("x-robots-tag") == "noai, bot: noindex, nofollow"
    assert (headers.get_all("nothing"), headers.get("nothing", "else")) == ([], "else")


def test_a_request_says_who_asks_and_carries_no_credentials(
    kit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    options = {"user_agent": "tests/1", "contact_url": "https://tests.example/bot", "headers": {"X-Purpose": "tests"}}
    with kit.serving({"/": kit.answer(b"x", Set_Cookie="id=1")}) as site, kit.client(**options) as client:
        for _ in range(2):
            assert client.get(f"{site.url}/#part", accept="text/plain").data == b"x"
        head = site.heads[1].lower()
    assert "user-agent: tests/1 (+https://tests.example/bot)" in head
    assert "x-purpose: tests" in head
    assert "accept: text/plain" in head
    assert f"host: 127.0.0.1:{site.port}" in head
    for word in ("cookie", "authorization", "proxy", "#part"):
        assert word not in head


def test_connections_are_kept_alive_and_shared_by_threads(kit: Any) -> None:
    pages = {"/photo": kit.answer(PHOTO), "/moved": kit.moved("/photo"), "/gone": kit.answer(b"gone", 410)}
    with kit.serving(pages) as site, kit.client() as client:

        def work() -> None:
            for path in ("/photo", "/gone", "/moved", "/photo"):
                client.get(site.url + path)

        for _ in range(4):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert (len(site.heads), site.connections) == (20, 1)


def test_a_connection_that_was_closed_meanwhile_is_replaced_at_once(kit: Any) -> None:
    def page(sock: Any, seen: int) -> bool:
        sock.sendall(kit.answer(b"x"))
        return seen % 2 == 1  # every second answer is the connection's last, which it does not say

    with kit.serving({"/": page}) as site, kit.client(retries=0) as client:
        assert [client.get(f"{site.url}/").reason for _ in range(8)] == [""] * 8
        assert site.connections == 4


def test_redirects_are_followed_counted_and_asked_about(kit: Any) -> None:
    pages = {
        "/a": kit.moved("/b?x=1#y", 301),
        "/b?x=1": kit.moved("c", 307),
        "/c": kit.answer(b"x"),
        "/loop": kit.moved("/loop"),
    }
    asked: list[str] = []

    def before_hop(url: str) -> str | None:
        asked.append(url)
        return "robots-denied" if url.endswith("/c") and len(asked) > 2 else None

    with kit.serving(pages) as site, kit.client(max_redirects=3) as client:
        answer = client.get(f"{site.url}/a", before_hop=before_hop)
        assert (answer.data, answer.url) == (b"x", f"{site.url}/c")
        assert answer.hops == (f"{site.url}/a", f"{site.url}/b?x=1")
        assert asked == [f"{site.url}/b?x=1", f"{site.url}/c"]
        answer = client.get(f"{site.url}/a", before_hop=before_hop)
        assert (answer.reason, answer.transient, answer.requests) == ("robots-denied", False, 2)
        answer = client.get(f"{site.url}/loop")
        assert (answer.reason, answer.transient, answer.requests) == ("too-many-redirects", False, 4)
        assert client.get(f"{site.url}/loop", max_redirects=0).requests == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_tried_again(kit: Any, status: int) -> None:
    pages = {"/passing": kit.first_then(kit.answer(b"", status), kit.answer(b"x")), "/lasting": kit.answer(b"", status)}
    with kit.serving(pages) as site, kit.client(retries=2) as client:
        answer = client.get(f"{site.url}/passing")
        assert (answer.data, answer.requests) == (b"x", 2)
        answer = client.get(f"{site.url}/lasting")
        assert (answer.reason, answer.status, answer.requests, answer.transient) == ("http-status", status, 3, True)
        assert client.get(f"{site.url}/lasting", retries=0).requests == 1


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410, 451, 501])
def test_a_final_status_is_not_tried_again(kit: Any, status: int) -> None:
    with kit.serving({"/": kit.answer(b"", status)}) as site, kit.client() as client:
        answer = client.get(f"{site.url}/")
        assert (answer.reason, answer.status, answer.requests, answer.transient) == ("http-status", status, 1, False)


def test_retry_after_is_obeyed_in_both_forms(kit: Any) -> None:
    for form in ("seconds", "date"):

        def busy(sock: Any, seen: int, form: str = form) -> bool:
            soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
            header = "1" if form == "seconds" else format_datetime(soon, usegmt=True)
            sock.sendall(kit.answer(b"x") if seen > 1 else kit.answer(b"", 429, Retry_After=header))
            return True

        with kit.serving({"/": busy}) as site, kit.client(max_wait_s=10) as client:
            started = time.monotonic()
            answer = client.get(f"{site.url}/")
            assert (answer.data, answer.requests) == (b"x", 2)
            assert time.monotonic() - started >= 1


def test_retry_after_is_obeyed_up_to_the_longest_wait(kit: Any) -> None:
    page = kit.first_then(kit.answer(b"", 503, Retry_After="86400"), kit.answer(b"x"))
    with kit.serving({"/": page}) as site, kit.client(max_wait_s=0.1) as client:
        assert client.get(f"{site.url}/").data == b"x"


def test_given_hashes_are_verified(kit: Any) -> None:
    with kit.serving({"/": kit.answer(PHOTO)}) as site, kit.client() as client:
        for algorithm in ("md5", "sha256", "sha512"):
            digits = hashlib.new(algorithm, PHOTO).hexdigest()
            assert client.get(f"{site.url}/", expect_hash=f"{algorithm}:{digits.upper()}").data == PHOTO
            wrong = client.get(f"{site.url}/", expect_hash=f"{algorithm}:{digits[::-1]}")
            assert (wrong.reason, wrong.data, wrong.transient, wrong.requests) == ("hash-mismatch", b"", False, 1)
        answer = client.get(f"{site.url}/", expect_hash="crc32:12345678")
        assert (answer.reason, answer.requests) == ("hash-malformed", 0)


def test_the_start_of_a_text_that_is_too_large_is_kept(kit: Any) -> None:
    pages = {"/": kit.answer(TEXT), "/gzip": kit.answer(gzip.compress(TEXT), Content_Encoding="gzip")}
    with kit.serving(pages) as site, kit.client() as client:
        for path in pages:
            answer = client.get(site.url + path, max_bytes=50_000)
            assert (answer.reason, answer.data) == ("too-large", TEXT[:50_000])
            assert client.get(site.url + path, max_bytes=len(TEXT)).data == TEXT


def test_a_hash_is_checked_later_too() -> None:
    check_hash(Answer(data=b"x"), "")
    check_hash(Answer(data=b"x"), f"sha512:{hashlib.sha512(b'x').hexdigest()}")
    for expected, reason in {
        "md5:" + "0" * 32: "hash-mismatch",
        "crc32:1": "hash-malformed",
        "x": "hash-malformed",
    }.items():
        with pytest.raises(WebError) as caught:
            check_hash(Answer(data=b"x"), expected)
        assert caught.value.reason == reason


def test_urls_are_refused_before_any_request(kit: Any) -> None:
    with kit.client() as client:
        for url in (
            "",
            "x.jpg",
            "ftp://127.0.0.1/x",
            "file:///etc/hostname",
            "http://",
            "http://[::1",
            "http://127.0.0.1:99999/",
        ):
            answer = client.get(url)
            assert (answer.reason, answer.requests, answer.transient) == ("url-malformed", 0, False), url
        for url in ("http://me:secret@127.0.0.1/", "http://me@127.0.0.1/", "http://:secret@127.0.0.1/"):
            answer = client.get(url)
            assert (answer.reason, answer.requests) == ("url-credentials", 0)
            assert "secret" not in answer.detail
        label = client.get("http://" + "a" * 70 + ".example/")
        assert (label.reason, label.requests) == ("url-malformed", 0)


def test_odd_characters_in_a_url_are_encoded(kit: Any) -> None:
    with kit.serving({"/a%20b/%C3%BC?q=%7B%20%7D": kit.answer(b"x")}) as site, kit.client() as client:
        assert client.get(f" {site.url}/a b/ü?q={{ }}\n").data == b"x", site.paths


def test_a_unit_deadline_ends_a_transfer_a_wait_and_a_queue(kit: Any) -> None:
    pages = {"/hang": kit.hang(), "/busy": kit.answer(b"", 429, Retry_After="5")}
    with kit.serving(pages) as site, kit.client(timeout_s=20, max_wait_s=20, host_connections=1) as client:
        started = time.monotonic()
        answer = client.get(f"{site.url}/busy", give_up_at=started + 0.3)
        assert (answer.reason, answer.transient, answer.requests) == ("unit-deadline", True, 1)
    with kit.serving(pages) as site, kit.client(timeout_s=20, max_wait_s=20, host_connections=1) as client:
        give_up_at = time.monotonic() + 0.5
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(client.get(f"{site.url}/hang", give_up_at=give_up_at)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert [answer.reason for answer in results] == ["unit-deadline"] * 3
        assert sorted(answer.requests for answer in results) == [0, 0, 1]
        over = client.get(f"{site.url}/hang", give_up_at=time.monotonic() - 1)
        assert (over.reason, over.requests) == ("unit-deadline", 0)


def test_a_process_keeps_one_client_for_the_same_options() -> None:
    client = client_for(FetchOptions(headers={"X-Test": "1"}))
    assert client_for(FetchOptions(headers={"X-Test": "1"})) is client
    assert client_for(FetchOptions(headers={"X-Test": "2"})) is not client


def test_a_forked_process_has_a_client_of_its_own(kit: Any) -> None:
    options = FetchOptions(**{**kit.QUICK, **kit.HOME})
    with kit.serving({"/": kit.answer(b"x")}) as site:
        assert client_for(options).get(f"{site.url}/").data == b"x"
        mine = id(client_for(options))
        child = os.fork()
        if child == 0:
            good = id(client_for(options)) != mine and client_for(options).get(f"{site.url}/").data == b"x"
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client_for(options).get(f"{site.url}/").data == b"x"
        assert site.connections == 2


def test_transient_reasons_are_reasons() -> None:
    assert TRANSIENT.issubset(REASONS)
