"""The fetch stage against a real HTTP server."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.images.fetch import Fetcher, fetch
from jobs.images.records import REASONS, Fetched
from licet.records import Rejected, SourceRecord


def record(url: str) -> SourceRecord:
    return SourceRecord(row_id="r1", source_id="photos", url=url)


def fetch_one(url: str, **options: Any) -> tuple[Fetched | Rejected, Fetcher]:
    values = {"timeout_s": 1.0, "retries": 2, "backoff_s": 0.01, "max_wait_s": 2.0, **options}
    with Fetcher("licet-tests/1", **values) as fetcher:
        return fetch(record(url), fetcher), fetcher


@pytest.mark.parametrize("path", ["/chelsea.jpg", "/chunked.jpg", "/moved.jpg"])
def test_the_bytes_that_the_server_has_are_fetched(web: Any, path: str) -> None:
    result, _ = fetch_one(web.url + path)
    assert isinstance(result, Fetched)
    assert result.data == web.files["/chelsea.jpg"]


@pytest.mark.parametrize(
    ("path", "reason", "requests"),
    [
        ("/nothing", "http-status", 1),
        ("/always-500", "http-status", 3),
        ("/slow.jpg", "timeout", 3),
        ("/dripping.jpg", "timeout", 1),
        ("/huge.jpg", "too-large", 1),
        ("/broken-off.jpg", "connection", 3),
        ("/loop", "too-many-redirects", 4),
        ("/to-file", "redirect-refused", 1),
    ],
)
def test_what_cannot_be_fetched_is_rejected_with_a_reason(web: Any, path: str, reason: str, requests: int) -> None:
    result, fetcher = fetch_one(web.url + path, max_bytes=1_000_000, deadline_s=1.0, max_redirects=3)
    assert isinstance(result, Rejected)
    assert (result.stage, result.reason) == ("fetch", reason)
    assert reason in REASONS
    assert result.detail
    assert result.requests == fetcher.sent["r1"] == len(web.log) == requests


def test_an_answer_that_may_change_is_asked_for_again(web: Any) -> None:
    for path in ("/flaky.jpg", "/busy.jpg"):
        result, _ = fetch_one(web.url + path)
        assert isinstance(result, Fetched)
        assert result.requests == web.hits[path] == 2


def test_a_refused_connection_is_rejected() -> None:
    result, _ = fetch_one("http://127.0.0.1:9/x.jpg", retries=1)
    assert isinstance(result, Rejected)
    assert (result.reason, result.requests) == ("connection", 2)


def test_a_host_that_is_no_host_is_rejected() -> None:
    result, _ = fetch_one("http://" + "a" * 70 + ".example/x.jpg")
    assert isinstance(result, Rejected)
    assert result.reason in ("url-malformed", "connection")


def test_connections_are_kept_alive_and_say_who_asks(web: Any) -> None:
    with Fetcher("licet-tests/1") as fetcher:
        for _ in range(5):
            assert isinstance(fetch(record(f"{web.url}/coffee.jpg"), fetcher), Fetched)
    assert (len(web.log), web.connections, web.agents) == (5, 1, {"licet-tests/1"})


def test_proxies_of_the_environment_are_not_used(web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    result, _ = fetch_one(f"{web.url}/coffee.jpg")
    assert isinstance(result, Fetched)
