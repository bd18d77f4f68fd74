"""May this record be used for this purpose? Every rule, and how rules combine."""

from __future__ import annotations

import itertools
from dataclasses import asdict

import pytest

from licet.errors import UsageError
from licet.licences import alternatives
from licet.policy import RULES, Outcome, Policy, Purpose, admit, merge_duplicates
from licet.records import Rejected, SourceRecord

ALLOW, OBLIGED, REVIEW, DENY = Outcome
RESEARCH, COMMERCIAL, REDISTRIBUTION = Purpose
BADNESS = {outcome: rank for rank, outcome in enumerate(Outcome)}

EVERY_RULE = [
    ("licence-unknown", "NOASSERTION", True, (DENY, DENY, DENY)),
    ("licence-reserved", "LicenseRef-All-Rights-Reserved", True, (DENY, DENY, DENY)),
    ("licence-unlisted", "LicenseRef-Museum-1", True, (REVIEW, REVIEW, REVIEW)),
    ("licence-non-commercial", "CC-BY-NC-4.0", True, (OBLIGED, DENY, OBLIGED)),
    ("licence-no-derivatives", "CC-BY-ND-4.0", True, (OBLIGED, DENY, DENY)),
    ("credit-missing", "CC-BY-4.0", False, (REVIEW, REVIEW, REVIEW)),
    ("licence-with-obligations", "CC-BY-SA-4.0", True, (OBLIGED, OBLIGED, OBLIGED)),
    ("licence-free", "CC0-1.0", False, (ALLOW, ALLOW, ALLOW)),
]


def record(licence: str, creator: str = "", attribution: str = "") -> SourceRecord:
    return SourceRecord("id", "photos", "http://a.example/1", licence=licence, creator=creator, attribution=attribution)


@pytest.mark.parametrize(("rule", "licence", "credited", "outcomes"), EVERY_RULE)
def test_each_rule_decides_for_each_purpose(
    rule: str, licence: str, credited: bool, outcomes: tuple[Outcome, ...]
) -> None:
    for purpose, outcome in zip(Purpose, outcomes, strict=True):
        decision = Policy(purpose).decide(licence, credited)
        assert decision.outcome is outcome
        assert decision.allowed == (outcome in (ALLOW, OBLIGED))
        spoke = rule if outcome in (DENY, REVIEW) else decision.rule
        assert (decision.rule, decision.reason) == (spoke, RULES[spoke])


def test_every_rule_is_tested() -> None:
    assert [rule for rule, *_ in EVERY_RULE] == list(RULES)


def test_or_picks_the_best_alternative_and_the_first_on_a_tie() -> None:
    policy = Policy(COMMERCIAL)
    assert policy.decide("CC-BY-NC-4.0 OR CC-BY-4.0 OR CC0-1.0", True).licence == "CC0-1.0"
    assert policy.decide("CC-BY-SA-4.0 OR CC-BY-4.0", True).licence == "CC-BY-SA-4.0"
    assert policy.decide("CC-BY-4.0 OR CC-BY-SA-4.0", True).licence == "CC-BY-4.0"
    assert policy.decide("NOASSERTION OR MIT", True).licence == "MIT"


def test_and_unites_obligations_and_one_denial_denies_all() -> None:
    decision = Policy(RESEARCH).decide("CC-BY-SA-4.0 AND MIT", True)
    assert {o.value for o in decision.obligations} == {"attribution", "share-alike", "keep-notice"}
    for partner in ("MIT", "CC0-1.0", "LicenseRef-Museum-1"):
        assert Policy(COMMERCIAL).decide(f"CC-BY-NC-4.0 AND {partner}", True).rule == "licence-non-commercial"
        assert Policy(RESEARCH).decide(f"NOASSERTION AND {partner}", True).outcome is DENY


@pytest.mark.parametrize(
    "unknown", ["", "NONE", "NOASSERTION", "NOASSERTION AND CC0-1.0", "LicenseRef-Museum-1", "Beerware"]
)
@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("credited", [True, False])
def test_unknown_is_never_allowed_by_default(unknown: str, purpose: Purpose, credited: bool) -> None:
    assert not Policy(purpose).decide(unknown, credited).allowed


def test_an_override_lets_its_own_rule_speak_otherwise() -> None:
    policy = Policy(RESEARCH, {"licence-unknown": ALLOW, "licence-with-obligations": DENY})
    assert policy.decide("NOASSERTION", True).outcome is ALLOW
    assert policy.decide("CC-BY-4.0", True).rule == "licence-with-obligations"
    assert not policy.decide("CC-BY-4.0", True).allowed


@pytest.mark.parametrize(
    ("overridden", "licence", "still"),
    [
        ("licence-unknown", "NOASSERTION AND CC-BY-NC-4.0", "licence-non-commercial"),
        ("licence-non-commercial", "CC-BY-NC-ND-4.0", "licence-no-derivatives"),
        ("licence-unlisted", "LicenseRef-Museum-1 AND LicenseRef-All-Rights-Reserved", "licence-reserved"),
        ("licence-no-derivatives", "CC-BY-ND-4.0", "credit-missing"),
    ],
)
def test_an_override_does_not_silence_other_rules(overridden: str, licence: str, still: str) -> None:
    decision = Policy(COMMERCIAL, {overridden: ALLOW}).decide(licence, credited=still != "credit-missing")
    assert (decision.rule, decision.allowed) == (still, False)


def test_an_override_of_no_rule_is_refused_with_the_rules() -> None:
    with pytest.raises(UsageError, match="'licence-fre' names no rule: choose from licence-unknown, "):
        Policy(RESEARCH, {"licence-fre": ALLOW})


def test_the_hash_tells_policies_apart_that_decide_differently() -> None:
    policies = [
        *(Policy(purpose) for purpose in Purpose),
        Policy(RESEARCH, {"licence-unknown": ALLOW}),
        Policy(RESEARCH, {"licence-unknown": REVIEW}),
        Policy(RESEARCH, {"licence-unlisted": ALLOW, "licence-unknown": ALLOW}),
    ]
    assert len({policy.hash for policy in policies}) == len(policies)
    swapped = Policy(RESEARCH, {"licence-unknown": ALLOW, "licence-unlisted": ALLOW})
    assert swapped.hash == policies[-1].hash


def test_admission_returns_the_record_or_says_why_not() -> None:
    let_in = admit(record("CC-BY-4.0", creator="Zoë"), Policy(COMMERCIAL))
    assert not isinstance(let_in, Rejected)
    assert let_in[1].rule == "licence-with-obligations"
    assert not isinstance(admit(record("CC-BY-4.0", attribution="by Zoë"), Policy(COMMERCIAL)), Rejected)
    denied = admit(record("CC-BY-NC-4.0", creator="Zoë"), Policy(COMMERCIAL))
    assert isinstance(denied, Rejected)
    assert (denied.stage, denied.reason, denied.rule, denied.requests) == (
        "policy",
        "denied",
        "licence-non-commercial",
        0,
    )
    assert "CC-BY-NC-4.0, for commercial-training" in denied.detail
    unsure = admit(record("Beerware", creator="Zoë"), Policy(RESEARCH))
    assert isinstance(unsure, Rejected)
    assert (unsure.reason, unsure.rule) == ("needs-review", "licence-unlisted")


def test_merging_keeps_the_first_whatever_the_licences_are_and_every_credit_once() -> None:
    rows = [
        {"row_id": "1", "licence": "CC-BY-SA-4.0", "creator": "Zoë", "attribution": "Zoë (CC BY-SA)"},
        {"row_id": "2", "licence": "CC0-1.0", "creator": "", "attribution": ""},
        {"row_id": "3", "licence": "MIT", "creator": "Zoë", "attribution": "Åsa"},
    ]
    for order in itertools.permutations(rows):
        merged = merge_duplicates(order)
        assert merged.row_id == order[0]["row_id"]
        assert merged.licence == "CC-BY-SA-4.0 AND CC0-1.0 AND MIT"
        assert merged.creator == "Zoë"
        assert sorted(merged.attribution.split("; ")) == ["Zoë (CC BY-SA)", "Åsa"]


def test_merging_what_was_merged_repeats_no_credit_and_no_licence() -> None:
    def row(row_id: str, licence: str, name: str) -> dict[str, str]:
        return {"row_id": row_id, "licence": licence, "creator": name, "attribution": f"{name} ({licence})"}

    rows = [row("1", "MIT", "Zoë"), row("2", "CC-BY-4.0", "Åsa"), row("3", "MIT OR CC0-1.0", "Bo")]
    at_once = merge_duplicates(rows)
    halves = [asdict(merge_duplicates(rows[:2])), asdict(merge_duplicates(rows[1:]))]
    assert merge_duplicates(halves) == at_once
    assert at_once.creator == "Zoë; Åsa; Bo"


@pytest.mark.parametrize("purpose", Purpose)
def test_merging_never_launders(purpose: Purpose) -> None:
    """What is kept is judged at least as strictly as every copy was, and asks for all that they ask for."""
    licences = [licence for _, licence, _, _ in EVERY_RULE] + ["CC0-1.0 OR CC-BY-NC-4.0", "MIT OR CC-BY-SA-4.0"]
    policy = Policy(purpose)
    for pair in itertools.product(licences, repeat=2):
        rows = [{"row_id": str(i), "licence": x, "creator": "Zoë", "attribution": ""} for i, x in enumerate(pair)]
        merged = merge_duplicates(rows).licence
        decided = policy.decide(merged, credited=True)
        for licence in pair:
            assert BADNESS[decided.outcome] >= BADNESS[policy.decide(licence, credited=True).outcome]
            for terms in alternatives(merged):
                assert any(terms.obligations >= choice.obligations for choice in alternatives(licence))
