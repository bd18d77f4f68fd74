"""X-Robots-Tag, TDMRep and Content-Usage: what header lines mean for us."""

from __future__ import annotations

import datetime
import random

import pytest

from jobs.rights import aipref, tdmrep, xrobots
from jobs.rights.patterns import Target, target_of
from jobs.rights.robots import Robots

NOW = datetime.datetime(2026, 11, 21, 16, 0, tzinfo=datetime.timezone.utc)


def target(path: str) -> Target:
    found = target_of("https://example.org" + path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ([], False),
        (["noai"], True),
        (["NoImageAI"], True),
        (["noindex"], True),
        (["noimageindex"], True),
        (["none"], True),
        (["noml"], True),
        (["all"], False),
        (["nofollow, noarchive,nosnippet , max-snippet:20"], False),
        (["nofollow", "noai"], True),  # several headers
        (["nofollow,noai"], True),
        (["noaiplease"], False),
        # agents
        (["otherbot: noindex"], False),
        (["otherbot: noindex, noai"], False),  # the name holds for the rest of the line
        (["otherbot: noindex", "noai"], True),  # and for no other line
        (["licet: noindex"], True),
        (["LICET : NOAI"], True),
        (["*: noai"], True),
        (["otherbot: nofollow, licet: noai"], True),
        (["licet: all, otherbot: noai"], False),
        # values with colons
        (["unavailable_after: 25 Jun 2010 15:00:00 PST"], True),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST"], False),
        (["unavailable_after: Friday, 25-Jun-10 15:00:00 PST"], True),
        (["unavailable_after: Wed, 25 Jun 2031 15:00:00 GMT, noai"], True),
        (["unavailable_after: Wed, 25 Jun 2031 15:00:00 GMT, nofollow"], False),
        (["unavailable_after: 2010-06-25T15:00:00Z"], True),
        (["unavailable_after: 2010-06-25"], True),
        (["otherbot: unavailable_after: 25 Jun 2010 15:00:00 PST"], False),
        (["licet: unavailable_after: 25 Jun 2010 15:00:00 PST"], True),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noindex"], True),
        (["unavailable_after: some day"], False),
        (["max-image-preview: none"], False),  # the value of another directive
        # malformed
        ([""], False),
        ([",,:,: ,a:"], False),
        ([":noai"], False),
        (["unavailable_after:"], False),
        (["unavailable_after: Friday,"], False),
        (["noai;noindex"], False),
    ],
)
def test_x_robots_tag_directives_that_are_for_us_refuse(lines: list[str], refused: bool) -> None:
    word = xrobots.header(lines, "licet", NOW)
    assert (word.reason == "x-robots-tag") is refused
    assert bool(word.detail) is refused


def test_what_x_robots_tag_says_to_others_is_not_kept() -> None:
    assert xrobots.header(["otherbot: noindex"], "licet", NOW).said == {}
    assert xrobots.header(["max-snippet:20, nofollow"], "licet", NOW).said == {"header": "max-snippet: 20, nofollow"}


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("train-ai=n", False),
        ("train-ai=y", True),
        ("train-ai=n, search=y", False),
        ("search=n", None),
        ("train-ai=y, train-ai=n", False),  # the last of several
        ("train-ai=n;reason=x", False),  # parameters mean nothing
        ("train-ai;allow=n, train-ai=y", True),
        ("train-ai", None),
        ("train-ai=?0", None),
        ('train-ai="n"', None),
        ("train-ai=no", None),
        ("train-ai=N", None),
        ("Train-AI=n", None),  # no dictionary
        ("train-ai=n,", None),
        ("train-ai=n, (((", None),
        ("train-ai=n, a=@99999999999999", None),  # a date that no calendar has
        ("é=1, train-ai=n", None),
        ("", None),
        # earlier drafts
        ("ai=n", False),
        ("tdm=n, train-ai=y", True),  # the narrowest decides
        ("bots=n", False),
        ("genai=n", False),
    ],
)
def test_content_usage_is_a_structured_dictionary(expression: str, allowed: bool | None) -> None:
    assert aipref.preference(expression) is allowed


def test_several_content_usage_lines_are_one_dictionary() -> None:
    assert aipref.header(["search=y", "train-ai=n"]).reason == "aipref-disallowed"
    assert aipref.header(["train-ai=y"]) == ({"header": "train-ai=y"}, "", "")
    assert aipref.header([]) == ({}, "", "")


ROBOTS = """
User-Agent: *
Allow: /
Content-Usage: train-ai=n
Content-Usage: /ai-ok/ train-ai=y
Content-Usage: /ai-ok/*.png$ train-ai=n # not the drawings
Content-Usage: /both/\ttrain-ai=y
Content-Usage: /both/ train-ai=n
Content-Usage: /search/ search=y
Content-Usage: /%C3%A4/ train-ai=y

User-Agent: ExampleBot
Content-Usage: / train-ai=y
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/test", False),
        ("/ai-ok/test", True),
        ("/ai-ok/test.png", False),
        ("/both/x", False),  # the stricter of two equals
        ("/search/x", None),  # the longest rule counts, though it says nothing of training
        ("/ä/x", True),
    ],
)
def test_content_usage_in_robots_txt_goes_by_the_longest_path(path: str, allowed: bool | None) -> None:
    stated = Robots(ROBOTS, "licet").usage.decisive(target(path))
    assert stated is not None
    assert stated[0] is allowed


def test_content_usage_of_another_group_is_not_ours() -> None:
    stated = Robots(ROBOTS, "examplebot").usage.decisive(target("/test"))
    assert stated is not None
    assert stated[0] is True
    assert Robots("User-agent: x\nContent-Usage: train-ai=n", "licet").usage.decisive(target("/")) is None


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("Content-Signal: search=yes,ai-train=no", False),
        ("Content-Signal: /images/ ai-train=no", False),
        ("Content-Signal: /other/ ai-train=no", None),
        ("Content-Signal: ai-train=yes\nContent-Usage: train-ai=n", False),
        ("content-signal: AI-TRAIN=NO", False),
        ("Content-Signal: search=yes", None),
    ],
)
def test_content_signals_count_too(line: str, allowed: bool | None) -> None:
    stated = Robots(f"User-agent: *\n{line}\nAllow: /", "licet").usage.decisive(target("/images/x.jpg"))
    assert (stated[0] if stated else None) is allowed


@pytest.mark.parametrize(
    ("values", "reserved"),
    [
        ([], False),
        (["1"], True),
        ([" 1 "], True),
        (["0"], False),
        (["2"], False),
        (["true"], False),
        (["0, 1"], False),  # a protocol error is as if unset
        (["0", "1"], True),
    ],
)
def test_a_tdm_reservation_header_is_one_or_zero(values: list[str], reserved: bool) -> None:
    assert (tdmrep.header(values, ["https://example.org/p.json"]).reason == "tdm-reserved") is reserved


def test_a_policy_is_kept_with_its_reservation() -> None:
    word = tdmrep.header(["1"], ["https://example.org/p.json"])
    assert word.said == {"header": "1", "policy": "https://example.org/p.json"}
    assert word.detail == "tdm-reservation: 1, policy https://example.org/p.json"


def test_no_header_is_too_strange() -> None:
    chance = random.Random(4)
    letters = "noai,:;= \t\"'()@?*/\\-_%\x00\x7fé\u2028train-ai=nunavailable_after:licet0123456789"
    for _ in range(3000):
        value = "".join(chance.choices(letters, k=chance.randrange(40)))
        for line in (value, "train-ai=" + value, "unavailable_after: " + value, "licet: " + value):
            assert xrobots.header([line], "licet", NOW).reason in ("", "x-robots-tag")
            assert aipref.header([line]).reason in ("", "aipref-disallowed")
            assert tdmrep.header([line], [line]).reason in ("", "tdm-reserved")
