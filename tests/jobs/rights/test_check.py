"""Rights against a real server: what is asked, how often, what follows, and what is kept of it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cbor2
import pytest

from jobs.rights.check import Rights, rights_for
from jobs.rights.finding import timeless, unite
from jobs.rights.options import PROTOCOLS, RightsOptions
from jobs.rights.reasons import REASONS, TRANSIENT
from jobs.rights.sites import Sites
from jobs.rights.tdmrep import TdmRep
from jobs.web.client import Client
from jobs.web.options import FetchOptions
from licet.errors import UsageError

FILES = ["/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"]
NO_DMI = "<plus:DataMining>DMI-PROHIBITED</plus:DataMining>"


def test_a_site_that_says_nothing_is_asked_once_and_allows(site: Any, rights: Rights) -> None:
    first = rights.before(site.url + "/a.jpg")
    second = rights.before(site.url + "/b.jpg")
    assert first.allowed and second.allowed
    assert (first.reason, first.detail, first.transient) == ("", "", False)
    assert (first.requests, second.requests) == (3, 0)
    assert site.log == FILES
    assert first.said == second.said
    assert first.said_without_times == {
        "robots.txt": {"status": 404},
        "aipref": {"robots.txt": {"status": 404}},
        "ai.txt": {"status": 404},
        "tdmrep": {"file": {"status": 404}},
    }


def test_everything_that_was_asked_has_its_time_in_utc_seconds(site: Any, rights: Rights, headers: Any) -> None:
    said = unite(rights.before(site.url + "/a.jpg").said, rights.after(site.url + "/a.jpg", headers(), b"x").said)
    assert set(said) == set(PROTOCOLS)
    times = re.findall(r'"at": "(.*?)"', json.dumps(said))
    assert len(times) == 9  # TDMRep and AIPREF were asked in two places
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at) for at in times)
    assert '"at"' not in json.dumps(timeless(said))
    assert set(timeless(said)) == set(PROTOCOLS)


@pytest.mark.parametrize(
    ("path", "body", "reason", "asked"),
    [
        ("/robots.txt", "User-agent: *\nDisallow: /", "robots-disallowed", 1),
        ("/robots.txt", "User-agent: *\nContent-Usage: train-ai=n", "aipref-disallowed", 1),
        ("/ai.txt", "User-agent: *\nDisallow: *.jpg", "ai-txt-disallowed", 2),
        ("/.well-known/tdmrep.json", '[{"location": "/", "tdm-reservation": 1}]', "tdm-reserved", 3),
    ],
)
def test_the_first_no_decides_and_ends_the_asking(
    site: Any, rights: Rights, path: str, body: str, reason: str, asked: int
) -> None:
    site.put(path, body)
    finding = rights.before(site.url + "/a.jpg")
    assert (finding.allowed, finding.reason, finding.transient) == (False, reason, False)
    assert finding.requests == len(site.log) == asked
    assert finding.detail
    assert reason in REASONS
    assert "rule" in json.dumps(finding.said)
    assert len(json.dumps(finding.said)) < 1000


@pytest.mark.parametrize(
    ("protocols", "asked"),
    [
        ([], []),
        (["x-robots-tag", "iptc-plus", "c2pa"], []),
        (["robots.txt"], ["/robots.txt"]),
        (["aipref"], ["/robots.txt"]),
        (["ai.txt"], ["/ai.txt"]),
        (["tdmrep"], ["/.well-known/tdmrep.json"]),
    ],
)
def test_what_does_not_bind_is_not_asked(site: Any, rights: Rights, protocols: list[str], asked: list[str]) -> None:
    site.put("/robots.txt", "User-agent: *\nAllow: /")
    finding = rights.before(site.url + "/a.jpg", protocols)
    assert finding.allowed
    assert site.log == asked
    assert set(finding.said) == set(protocols) - {"x-robots-tag", "iptc-plus", "c2pa"}


def test_a_preference_does_not_bind_as_a_crawling_rule_nor_the_other_way(site: Any, rights: Rights) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /private/\nContent-Usage: train-ai=n")
    assert rights.before(site.url + "/a.jpg", ["robots.txt"]).allowed
    assert rights.before(site.url + "/private/a.jpg", ["aipref"]).reason == "aipref-disallowed"
    assert rights.before(site.url + "/private/a.jpg", ["robots.txt"]).reason == "robots-disallowed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_client_error_means_yes(site: Any, rights: Rights, status: int) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /", status)
    assert rights.before(site.url + "/a.jpg", ["robots.txt"]).allowed


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 429])
def test_a_server_error_means_not_now(site: Any, make_rights: Callable[..., Rights], status: int) -> None:
    site.put("/robots.txt", "User-agent: *\nAllow: /", status)
    rights = make_rights(failed_ttl_s=0.001)
    finding = rights.before(site.url + "/a.jpg")
    assert (finding.allowed, finding.reason, finding.transient) == (False, "robots-unreachable", True)
    assert finding.reason in TRANSIENT
    assert str(status) in finding.detail
    assert site.log == ["/robots.txt"]
    site.put("/robots.txt", "User-agent: *\nAllow: /")
    threading.Event().wait(0.01)
    assert rights.before(site.url + "/a.jpg").allowed


def test_a_host_that_does_not_answer_means_not_now(rights: Rights) -> None:
    finding = rights.before("http://127.0.0.1:1/a.jpg", ["robots.txt"])
    assert (finding.allowed, finding.reason, finding.transient) == (False, "robots-unreachable", True)
    assert finding.said_without_times == {"robots.txt": {"status": 0}}


def test_an_ai_txt_that_cannot_be_read_means_not_now_but_a_tdmrep_that_cannot_takes_no_part(
    site: Any, rights: Rights
) -> None:
    site.put("/.well-known/tdmrep.json", "", 503)
    assert rights.before(site.url + "/a.jpg", ["tdmrep"]).allowed
    site.put("/ai.txt", "", 503)
    finding = rights.before(site.url + "/a.jpg", ["ai.txt", "tdmrep"])
    assert (finding.reason, finding.transient) == ("ai-txt-unreachable", True)


@pytest.mark.parametrize(("hops", "allowed"), [(1, False), (5, False), (6, True)])
def test_five_redirects_are_followed_and_more_are_no_file(site: Any, rights: Rights, hops: int, allowed: bool) -> None:
    site.put("/robots.txt", "", 302, Location="/1")
    for n in range(1, hops):
        site.put(f"/{n}", "", 301, Location=f"/{n + 1}")
    site.put(f"/{hops}", "User-agent: *\nDisallow: /")
    finding = rights.before(site.url + "/a.jpg", ["robots.txt"])
    assert finding.allowed is allowed
    assert finding.requests == 6 if allowed else hops + 1


def test_a_long_file_is_read_to_500_kib(site: Any, rights: Rights) -> None:
    text = "User-agent: *\nDisallow: /in/\n"
    text += "# padding\n" * ((500 * 1024 - len(text)) // 10) + "#" * 20 + "\nDisallow: /out/\n" + "# padding\n" * 9000
    site.put("/robots.txt", text)
    assert not rights.before(site.url + "/in/a.jpg", ["robots.txt"]).allowed
    assert rights.before(site.url + "/out/a.jpg", ["robots.txt"]).allowed


def test_a_crawl_delay_can_be_asked_for_once_it_is_known(site: Any, rights: Rights) -> None:
    site.put("/robots.txt", "User-agent: *\nCrawl-delay: 2")
    assert rights.crawl_delay_s(site.url) is None
    rights.before(site.url + "/a.jpg", ["robots.txt"])
    assert rights.crawl_delay_s(site.url + "/b.jpg") == 2.0
    assert len(site.log) == 1


@pytest.mark.parametrize("url", ["ftp://example.org/a.jpg", "/a.jpg", "http:///a.jpg", ""])
def test_a_url_without_a_site_is_refused(rights: Rights, url: str) -> None:
    assert rights.before(url).reason == "no-site"


def test_many_threads_ask_a_site_once(site: Any, rights: Rights) -> None:
    site.slow_s = 0.1
    site.put("/robots.txt", "User-agent: *\nDisallow: /7.jpg")
    with ThreadPoolExecutor(16) as threads:
        findings = list(threads.map(lambda n: rights.before(f"{site.url}/{n}.jpg"), range(64)))
    assert sorted(site.log) == sorted(FILES)
    assert sum(finding.requests for finding in findings) == 3
    assert [n for n, finding in enumerate(findings) if not finding.allowed] == [7]


def test_who_waits_for_another_thread_waits_no_longer_than_its_own_time(site: Any, rights: Rights) -> None:
    site.slow_s = 1.0
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(rights.before, site.url + "/a.jpg", ["robots.txt"])
        while not site.log:
            time.sleep(0.01)
        second = rights.before(site.url + "/a.jpg", ["robots.txt"], time.monotonic() + 0.05)
        assert not first.done()
        assert (second.reason, second.transient, second.requests) == ("robots-unreachable", True, 0)
        assert first.result().allowed


def test_a_getter_that_raises_leaves_no_thread_waiting() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def get(url: str, **_: Any) -> Any:
        entered.set()
        go_on.wait(5)
        raise KeyboardInterrupt

    sites = Sites(get, 10, 10**6, 10.0, 10.0)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(sites.ask, "http://h/robots.txt", TdmRep)
        entered.wait(5)
        second = threads.submit(sites.ask, "http://h/robots.txt", TdmRep)
        go_on.set()
        for waiting in (first, second):
            with pytest.raises(KeyboardInterrupt):
                waiting.result(timeout=5)


def test_answers_are_kept_for_their_time_and_within_bounds() -> None:
    asked: list[str] = []
    clock = [0.0]

    class Empty:
        data, status, reason, detail, transient, requests = b"[]", 200, "", "", False, 1

    def get(url: str, **_: Any) -> Any:
        asked.append(url)
        return Empty()

    sites = Sites(get, 2, 10**6, 100.0, 10.0, clock=lambda: clock[0])
    for url in ("a", "b", "a", "c", "a", "b"):  # b was the least recently used when c came
        sites.ask(url, TdmRep)
    assert asked == ["a", "b", "c", "b"]
    clock[0] = 100.0
    assert sites.known("b") is None
    sites.ask("b", TdmRep)
    assert asked == ["a", "b", "c", "b", "b"]
    small = Sites(get, 100, 600, 100.0, 10.0)
    small.ask("a", TdmRep)
    small.ask("b", TdmRep)
    assert small.known("a") is None
    assert small.known("b") is not None


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], ""),
        ([("X-Robots-Tag", "noai")], "x-robots-tag"),
        ([("x-robots-tag", "otherbot: noai"), ("X-ROBOTS-TAG", "licet: noindex")], "x-robots-tag"),
        ([("TDM-Reservation", "1"), ("TDM-Policy", "https://example.org/p")], "tdm-reserved"),
        ([("Content-Usage", "train-ai=n")], "aipref-disallowed"),
    ],
)
def test_headers_of_the_answer_are_heard(
    rights: Rights, headers: Any, lines: list[tuple[str, str]], reason: str
) -> None:
    finding = rights.after("http://h/a.jpg", headers(*lines), b"", PROTOCOLS)
    assert finding.reason == reason
    assert finding.allowed is (reason == "")
    assert finding.requests == 0
    assert rights.after("http://h/a.jpg", headers(*lines), b"", []).said == {}


def test_metadata_of_the_image_is_heard(
    rights: Rights,
    headers: Any,
    make_image: Callable[..., bytes],
    make_xmp: Callable[[str], bytes],
    carrying: Callable[..., bytes],
    make_store: Callable[..., bytes],
) -> None:
    plus = make_image("JPEG", make_xmp(NO_DMI))
    assert rights.after("http://h/a", headers(), plus).reason == "plus-prohibited"
    assert rights.after("http://h/a", headers(), plus, ["c2pa", "tdmrep"]).allowed
    tdm = make_image("WEBP", make_xmp("<tdm:reservation>1</tdm:reservation><tdm:policy>https://e.org/p</tdm:policy>"))
    finding = rights.after("http://h/a", headers(), tdm)
    assert finding.reason == "tdm-reserved"
    assert finding.said_without_times["tdmrep"] == {"xmp": "1", "policy": "https://e.org/p"}
    assert rights.after("http://h/a", headers(), tdm, ["iptc-plus"]).allowed
    assertion = cbor2.dumps({"entries": {"c2pa.data_mining": {"use": "notAllowed"}}})
    credentials = carrying("PNG", make_store([("c2pa.training-mining", b"cbor", assertion)]))
    finding = rights.after("http://h/a", headers(), credentials)
    assert (finding.reason, finding.detail) == ("c2pa-not-allowed", "c2pa.data_mining: notAllowed")
    assert finding.said_without_times["c2pa"] == {"entries": {"c2pa.data_mining": "notAllowed"}}
    assert rights.after("http://h/a", headers(), credentials, ["iptc-plus", "tdmrep"]).allowed


def test_ai_txt_is_asked_again_when_the_type_is_known(
    site: Any, rights: Rights, headers: Any, make_image: Callable[..., bytes]
) -> None:
    site.put("/ai.txt", "User-Agent: *\nDisallow: *.jpg\n")
    url = site.url + "/image?id=7"
    before = rights.before(url)
    assert before.allowed
    after = rights.after(url, headers(), make_image("JPEG"))
    assert after.reason == "ai-txt-disallowed"
    assert rights.after(url, headers(), make_image("PNG")).allowed
    assert len(site.log) == 3
    both = timeless(unite(before.said, after.said))
    assert both["ai.txt"] == {"status": 200, "rule": "Disallow: *.jpg (line 2)"}


def test_what_was_said_before_and_after_is_one(site: Any, rights: Rights, headers: Any) -> None:
    site.put("/.well-known/tdmrep.json", '[{"location": "/", "tdm-reservation": 0}]')
    url = site.url + "/a.jpg"
    after = rights.after(url, headers(("tdm-reservation", "1"), ("Content-Usage", "search=n")), b"")
    said = timeless(unite(rights.before(url).said, after.said))
    assert said["tdmrep"] == {"file": {"status": 200, "rule": "/: 0 (rule 1)"}, "header": "1"}
    assert said["aipref"] == {"robots.txt": {"status": 404}, "header": "search=n"}


def test_redirects_are_checked_at_their_own_site(site: Any, rights: Rights) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /private/")
    hops = rights.hops(["robots.txt"])
    assert hops(site.url + "/public/a.jpg") is None
    assert hops(site.url + "/private/a.jpg") == "robots-disallowed"
    assert hops.requests == 1
    assert hops.last.detail == "Disallow: /private/ (line 2)"


def test_one_process_has_one_memory_for_a_client() -> None:
    one, other = Client(FetchOptions()), Client(FetchOptions())
    assert rights_for(one.get, RightsOptions()) is rights_for(one.get, RightsOptions())
    assert rights_for(one.get, RightsOptions()) is not rights_for(other.get, RightsOptions())
    assert rights_for(one.get, RightsOptions()) is not rights_for(one.get, RightsOptions(ttl_s=60))


@pytest.mark.parametrize("options", [{"ttl_s": 86_401}, {"ttl_s": 0}, {"max_files": 0}, {"agent": ""}])
def test_options_without_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="rights"):
        RightsOptions(**options)


def test_the_same_with_the_client_of_the_jobs(site: Any) -> None:
    site.put("/robots.txt", "User-agent: licet\nDisallow: /private/\n" + "# padding\n" * 60_000)
    site.put("/moved.jpg", "", 302, Location="/private/a.jpg")
    options = FetchOptions(allow_networks=["127.0.0.0/8"], backoff_s=0.01, retries=1)
    with Client(options) as client:
        rights = Rights(client.get, options.user_agent)
        assert rights.before(site.url + "/moved.jpg").requests == 3
        hops = rights.hops()
        answer = client.get(site.url + "/moved.jpg", before_hop=hops)
        assert (answer.reason, hops.requests) == ("robots-disallowed", 0)
        assert rights.after(answer.url, answer.headers, answer.data).allowed
        site.put("/ai.txt", "", 503)
        finding = Rights(client.get).before(site.url + "/a.jpg", ["ai.txt"])
        assert (finding.reason, finding.transient, finding.requests) == ("ai-txt-unreachable", True, 2)
        finding = Rights(client.get).before("http://127.0.0.1:1/a.jpg")
        assert (finding.reason, finding.transient) == ("robots-unreachable", True)
    with Client(FetchOptions()) as strict:
        finding = Rights(strict.get).before(site.url + "/a.jpg")
        assert (finding.reason, finding.transient, finding.requests) == ("robots-unreachable", False, 0)
