"""robots.txt by RFC 9309: groups, precedence, encodings; and what is found in it for people."""

from __future__ import annotations

import random

import pytest
from protego import Protego

from jobs.rights.groups import our_lines, product_token
from jobs.rights.patterns import Pattern, Target, target_of
from jobs.rights.robots import Robots


def target(path: str) -> Target:
    found = target_of("https://example.org" + path)
    assert found is not None
    return found


def allows(text: str, path: str = "/a/b.jpg", agent: str = "licet") -> bool:
    return Robots(text, agent).allows(target(path))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        ("no robots file at all\n<html>", True),
        ("User-agent: *\nDisallow: /", False),
        ("User-agent: *\nDisallow:", True),
        ("Disallow: /", True),  # a rule of no group
        ("user-AGENT: *\nDISALLOW: /", False),
        ("\ufeffUser-agent: *\nDisallow: /", False),
        ("User-agent: *\rDisallow: /", False),
        ("User-agent: * # all\n  Disallow : / # everything", False),
        ("User-agent *\nDisallow /", False),
        # our group instead of everyone's, wherever it stands
        ("User-agent: *\nDisallow: /\nUser-agent: licet\nAllow: /", True),
        ("User-agent: licet\nDisallow: /\n\nUser-agent: *\nAllow: /", False),
        ("User-agent: LICET\nDisallow: /", False),
        ("User-agent: licet/2.0\nDisallow: /", False),
        ("User-agent: licet\n\nUser-agent: *\nDisallow: /", False),  # a blank line does not end a group
        ("User-agent: licet\nDisallow:\nUser-agent: *\nDisallow: /", True),
        # names are compared whole
        ("User-agent: lic\nDisallow: /", True),
        ("User-agent: licetbot\nDisallow: /", True),
        ("User-agent: not-licet\nDisallow: /", True),
        # several groups of one name are one; several names share a group
        ("User-agent: licet\nAllow: /a/\nUser-agent: x\nDisallow: /\nUser-agent: licet\nDisallow: /a/b", False),
        ("User-agent: x\nUser-agent: licet\nDisallow: /", False),
        ("User-agent: *\nSitemap: https://example.org/s.xml\nDisallow: /", False),
        ("User-agent: licet\nCrawl-delay: 3\nUser-agent: x\nDisallow: /", False),  # no rule, so it ends no group
        # the longest rule wins, Allow at a tie, whatever the order
        ("User-agent: *\nDisallow: /\nAllow: /a/", True),
        ("User-agent: *\nAllow: /a/\nDisallow: /a/b", False),
        ("User-agent: *\nDisallow: /a/\nAllow: /a/", True),
        # special characters
        ("User-agent: *\nDisallow: /*.jpg$", False),
        ("User-agent: *\nDisallow: /*.jp$", True),
        ("User-agent: *\nDisallow: /*/b", False),
        ("User-agent: *\nDisallow: *b.jpg", False),
        ("User-agent: *\nDisallow: /A/", True),  # paths have case
        ("User-agent: *\nDisallow: a/", True),
        ("User-agent: *\nDisalow: /", False),  # a misspelling that RFC 9309's authors accept
    ],
)
def test_the_group_and_the_rule_that_count(text: str, allowed: bool) -> None:
    assert allows(text) is allowed


@pytest.mark.parametrize(
    ("rule", "path", "allowed"),
    [
        ("/foo/bar?baz=quz", "/foo/bar?baz=quz", False),
        ("/foo/bar?baz=quz", "/foo/bar", True),
        ("/foo/bar/ツ", "/foo/bar/%E3%83%84", False),
        ("/foo/bar/%E3%83%84", "/foo/bar/ツ", False),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz", False),
        ("/foo/baz", "/foo/%62az", False),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-*.html", False),
        ("/path/foo-%24", "/path/foo-$", False),
        ("/a%3Cb", "/a<b", False),
    ],
)
def test_percent_encoding_does_not_matter(rule: str, path: str, allowed: bool) -> None:
    robots = Robots(f"User-agent: *\nDisallow: {rule}", "licet")
    assert robots.allows(target(path)) is allowed
    assert (robots.refusal(target(path)) is None) is allowed


def test_robots_txt_itself_may_always_be_read() -> None:
    assert allows("User-agent: *\nDisallow: /", "/robots.txt")


def test_the_rule_that_refuses_is_named() -> None:
    robots = Robots(
        "User-agent: x\nDisallow: /\n\nUser-agent: *\nDisallow: /a\nDisallow: /a/*.jpg\nDisallow: /z", "licet"
    )
    assert str(robots.refusal(target("/a/b.jpg"))) == "Disallow: /a/*.jpg (line 6)"


def test_no_rule_is_lost_among_many() -> None:
    rules = "".join(f"Disallow: /folder{n}/\n" for n in range(5000))
    robots = Robots("User-agent: *\n" + rules, "licet")
    assert str(robots.refusal(target("/folder4711/x.jpg"))) == "Disallow: /folder4711/ (line 4713)"
    assert not robots.allows(target("/folder4711/x.jpg"))
    assert robots.allows(target("/folder5000/x.jpg"))


@pytest.mark.parametrize(("value", "delay_s"), [("2.5", 2.5), ("0", 0), ("-1", None), ("inf", None), ("soon", None)])
def test_a_crawl_delay_is_read(value: str, delay_s: float | None) -> None:
    assert Robots(f"User-agent: *\nCrawl-delay: {value}", "licet").crawl_delay_s == delay_s


@pytest.mark.parametrize(
    ("user_agent", "token"), [("licet/0.1 (+https://example.org)", "licet"), ("Our-Bot", "our-bot"), ("", "")]
)
def test_our_name_is_the_beginning_of_our_user_agent(user_agent: str, token: str) -> None:
    assert product_token(user_agent) == token


def test_lines_keep_their_numbers_and_their_order() -> None:
    lines = our_lines("# hello\nUser-agent: *\nallow: /x # why\n\nContent-Usage: train-ai=n\n", "licet")
    assert [str(line) for line in lines] == ["Allow: /x (line 3)", "Content-Usage: train-ai=n (line 5)"]


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("HTTP://Example.ORG:80/a?b#c", "http://example.org", "/a?b"),
        ("https://example.org:443", "https://example.org", "/"),
        ("https://example.org:8443?q", "https://example.org:8443", "/?q"),
        ("http://user:pass@example.org/x", "http://example.org", "/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080", "/x"),
        ("http://a@b@example.org/x", "http://example.org", "/x"),
        ("http://[::1/%41", "http://[::1", "/%41"),
    ],
)
def test_origins_are_scheme_host_and_port(url: str, origin: str, path: str) -> None:
    found = target_of(url)
    assert found is not None
    assert (found.origin, found.path) == (origin, path)


@pytest.mark.parametrize(
    "url", ["ftp://example.org/x", "/x.jpg", "http:///x", "http://:80/x", "https://", "", "http://h/\udcff"]
)
def test_what_names_no_site_has_no_origin(url: str) -> None:
    assert target_of(url) is None


def test_no_file_and_no_url_is_too_strange() -> None:
    chance = random.Random(9)
    letters = "/*$%?#&;=:@[]\\ \t\r\nUAdé\u2028\u0085\x00\ufeff0Fx"
    for _ in range(1500):
        words = [
            "User-agent:",
            "*",
            "licet",
            "Disallow:",
            "Allow:",
            "Content-Usage:",
            "train-ai=n",
            "Crawl-delay:",
            "\n",
        ]
        text = " ".join(chance.choices([*words, *letters], k=chance.randrange(30)))
        found = target_of(
            "http://" + "".join(chance.choices("ab[]:%@/.é", k=6)) + "/" + "".join(chance.choices(letters, k=9))
        )
        for robots in (Robots(text, "licet"), Robots("User-agent: *\nDisallow: " + text, "licet")):
            if found is not None and not robots.allows(found):
                assert robots.refusal(found) is not None or "$" in text
            if found is not None and (stated := robots.usage.decisive(found)) is not None:
                assert stated[0] in (True, False, None)


def test_patterns_match_as_protego_matches_them() -> None:
    chance = random.Random(3)
    letters = ["a", "b", "/", "*", "?", "=", "&", "%2F", "%61", "%2a", "%", "é", "%C3%A9", " ", '"', "%zz", "+"]
    covered = 0
    for _ in range(6000):
        text = "/" + "".join(chance.choices(letters, k=chance.randrange(5)))
        path = "/" + "".join(chance.choices(letters, k=chance.randrange(7)))
        protego = Protego.parse(f"User-agent: *\nDisallow: {text}")
        matches = Pattern(text.strip()).matches(target(path))
        assert matches is not protego.can_fetch("http://h" + path, "*"), (text, path)
        covered += matches
    assert covered > 500


@pytest.mark.parametrize(
    ("text", "path", "matches"),
    [
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/a*$", "/abc", True),
        ("/a*c$", "/abcbc", True),
        ("/a*bc$", "/abcb", False),
        ("/ab*b$", "/ab", False),
        ("/a$b", "/a$b", True),
        ("*", "/", True),
        ("", "/a", True),
        ("**a", "/xa", True),
    ],
)
def test_a_final_dollar_is_the_end_of_the_path(text: str, path: str, matches: bool) -> None:
    assert Pattern(text).matches(target(path)) is matches
