"""URLs that mean the same get one spelling; those that cannot be asked for get a reason."""

from __future__ import annotations

import pytest

from jobs.images.lists import urls
from jobs.images.lists.urls import Refused, canonical


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a/x.jpg", "http://a/x.jpg"),
        ("HTTP://Example.ORG:80/%7Eb/./c/../d#top", "http://example.org/~b/d"),
        ("https://example.org:443", "https://example.org/"),
        ("https://example.org:8443?", "https://example.org:8443/?"),
        ("http://example.org:080/", "http://example.org/"),
        ("http://example.org/a/%2e%2E/b/..", "http://example.org/"),
        ("http://example.org/../../x", "http://example.org/x"),
        ("http://example.org//a//b/", "http://example.org//a//b/"),
        ("http://example.org/a%2fb%e4%B8%ad?q=%7e&b=1&a=2", "http://example.org/a%2Fb%E4%B8%AD?q=~&b=1&a=2"),
        ("http://example.org/中 文".replace(" ", ""), "http://example.org/%E4%B8%AD%E6%96%87"),
        ("http://example.org/100%.jpg", "http://example.org/100%.jpg"),
        ("http://example.org/a|b?c=[d]", "http://example.org/a%7Cb?c=%5Bd%5D"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://BÜCHER\u3002example/", "http://xn--bcher-kva.example/"),
        ("http://ex%61mple.org/", "http://example.org/"),
        ("http://my_bucket.example/", "http://my_bucket.example/"),
        ("http://example.org./", "http://example.org./"),
        ("http://[2001:DB8:0::1]:80/", "http://[2001:db8::1]/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0177.0.0.1/", "http://127.0.0.1/"),
    ],
)
def test_one_spelling(url: str, expected: str) -> None:
    assert canonical(url) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("a/x.jpg", "url-malformed"),
        ("ftp://a/x.jpg", "url-malformed"),
        ("http:/a/x.jpg", "url-malformed"),
        ("http:///x.jpg", "url-malformed"),
        ("http://a:99999/x", "url-malformed"),
        ("http://a:0/x", "url-malformed"),
        ("http://a:x/", "url-malformed"),
        ("http://[::1/x", "url-malformed"),
        ("http://[fe80::1%25eth0]/", "url-malformed"),
        ("http://a/x y.jpg", "url-malformed"),
        ("http://a/x\u3000y.jpg", "url-malformed"),
        ("http://a\\@b/x", "url-malformed"),
        ("http://a/..\\x", "url-malformed"),
        ("http://a..b/", "url-malformed"),
        (f"http://{'a' * 64}.org/", "url-malformed"),
        ("http://a%00b/", "url-malformed"),
        ("http://a%2fb/", "url-malformed"),
        ("http://1.2.3.4.5/", "url-malformed"),
        ("http://256.1.1.1/", "url-malformed"),
        ("http://a.0x7g/x", ""),
        ("http://user@a/x", "url-credentials"),
        ("http://user:secret@a/x", "url-credentials"),
        ("http://a/x@y.jpg", ""),
    ],
)
def test_urls_that_cannot_be_asked_for(url: str, reason: str) -> None:
    found = canonical(url)
    assert (found.reason if isinstance(found, Refused) else "") == reason
    assert "secret" not in str(found)


def test_the_short_way_is_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("/", "/a.jpg", "//a/b.c/", "/a;b=1,2/(c)", "/a?b=/?c", "/-/~x_y", "/a.?x", "/...")
    hosts = ("example.org", "a-b.c1.example", "xn--bcher-kva.example", "1.2.a")
    shortly = [canonical(f"https://{host}{path}") for host in hosts for path in paths]
    matched = [bool(urls._CANONICAL.fullmatch(f"https://{host}{path}")) for host in hosts for path in paths]
    monkeypatch.setattr(urls, "_CANONICAL", urls.re.compile("(?!)"))
    assert [canonical(f"https://{host}{path}") for host in hosts for path in paths] == shortly
    assert sum(matched) == len(hosts) * (len(paths) - 1)  # "/..." begins with a dot and goes the long way
