"""May this record be used for this purpose?

A policy is a purpose and, where a person has decided otherwise, overrides of single rules. `decide` names the rule that
spoke and why. Nothing here fetches, stores or prints.

Also here, because it is a rule about rights: what the kept copy of several identical items carries
(`merge_duplicates`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from licet.errors import UsageError
from licet.licences import Obligation, Terms, all_of, alternatives, table_digest_input
from licet.records import Rejected, SourceRecord


class Purpose(str, Enum):
    """What the data will be used for."""

    RESEARCH = "research"
    COMMERCIAL_TRAINING = "commercial-training"
    REDISTRIBUTION = "redistribution"


class Outcome(str, Enum):
    """From best to worst. Only the first two let a row in."""

    ALLOW = "allow"
    ALLOW_WITH_OBLIGATIONS = "allow-with-obligations"
    REVIEW = "review"
    DENY = "deny"


_ORDER = {outcome: rank for rank, outcome in enumerate(Outcome)}

RULES: dict[str, str] = {
    "licence-unknown": "nobody has said on what terms it may be used",
    "licence-reserved": "its owner reserves all rights",
    "licence-unlisted": "its licence is not in the table of known terms; a person has to read it",
    "licence-non-commercial": "its licence forbids commercial use",
    "licence-no-derivatives": "its licence forbids sharing what is made from it",
    "credit-missing": "its licence asks for credit and no creator is named",
    "licence-with-obligations": "its licence allows it, with obligations",
    "licence-free": "its licence allows it and asks for nothing",
}
"""Rule id -> reason, for people. The order is the order in which rules are tried."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one record."""

    outcome: Outcome
    rule: str
    reason: str
    licence: str
    """The alternative that was chosen, where the expression leaves a choice."""
    obligations: frozenset[Obligation] = field(default_factory=frozenset)

    @property
    def allowed(self) -> bool:
        return self.outcome in (Outcome.ALLOW, Outcome.ALLOW_WITH_OBLIGATIONS)


@dataclass(frozen=True, slots=True)
class Policy:
    """A purpose, and the rules that a person has overridden (rule id -> outcome)."""

    purpose: Purpose
    overrides: Mapping[str, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in self.overrides:
            if rule not in RULES:
                raise UsageError(f"policy override {rule!r} names no rule: choose from {', '.join(RULES)}.")

    @property
    def hash(self) -> str:
        """SHA-256 over purpose, overrides, rules and the licence table: equal hashes decide alike."""
        overrides = {rule: outcome.value for rule, outcome in sorted(self.overrides.items())}
        text = json.dumps([self.purpose.value, overrides, list(RULES), table_digest_input()])
        return hashlib.sha256(text.encode()).hexdigest()

    def decide(self, licence: str, credited: bool) -> Decision:
        """Judge an SPDX expression; `credited` says whether a creator or credit line is known.

        Of the alternatives that `OR` leaves, the one with the best outcome is chosen, the first written on a tie.
        Raises `LicenceError` for an expression that SPDX does not know.
        """
        return min((self._judge(t, credited) for t in alternatives(licence)), key=lambda d: _ORDER[d.outcome])

    def _judge(self, terms: Terms, credited: bool) -> Decision:
        """The strictest of the rules that speak, so that overriding one never silences another."""
        spoken = [(rule, self.overrides.get(rule, outcome)) for rule, outcome in self._rules_for(terms, credited)]
        rule, outcome = max(spoken, key=lambda pair: _ORDER[pair[1]])
        return Decision(outcome, rule, RULES[rule], terms.expression(), terms.obligations)

    def _rules_for(self, terms: Terms, credited: bool) -> Iterator[tuple[str, Outcome]]:
        asked = terms.obligations
        if not terms.asserted:
            yield "licence-unknown", Outcome.DENY
        if terms.reserved:
            yield "licence-reserved", Outcome.DENY
        if not terms.known:
            yield "licence-unlisted", Outcome.REVIEW
        if Obligation.NON_COMMERCIAL in asked and self.purpose is Purpose.COMMERCIAL_TRAINING:
            yield "licence-non-commercial", Outcome.DENY
        if Obligation.NO_DERIVATIVES in asked and self.purpose is not Purpose.RESEARCH:
            yield "licence-no-derivatives", Outcome.DENY
        if Obligation.ATTRIBUTION in asked and not credited:
            yield "credit-missing", Outcome.REVIEW
        if asked:
            yield "licence-with-obligations", Outcome.ALLOW_WITH_OBLIGATIONS
        elif terms.asserted and terms.known and not terms.reserved:
            yield "licence-free", Outcome.ALLOW


def admit(record: SourceRecord, policy: Policy) -> tuple[SourceRecord, Decision] | Rejected:
    """Let a record in, or refuse it before anything is asked of the network."""
    decision = policy.decide(record.licence, credited=bool(record.creator or record.attribution))
    if decision.allowed:
        return record, decision
    return Rejected(
        row_id=record.row_id,
        stage="policy",
        reason="denied" if decision.outcome is Outcome.DENY else "needs-review",
        rule=decision.rule,
        detail=f"{decision.reason} ({record.licence}, for {policy.purpose.value})",
    )


@dataclass(frozen=True, slots=True)
class Merged:
    """The copy of a duplicate cluster that is kept, and what it now carries."""

    row_id: str
    licence: str
    attribution: str
    creator: str


def merge_duplicates(members: Sequence[Mapping[str, str]]) -> Merged:
    """One rule for images and text: the first in plan order is kept and carries everybody's obligations.

    `members` are in plan order, each with row_id, licence, attribution, creator. The choice never looks at the
    licences, so that finding a looser copy launders nothing. A member may be what an earlier merge kept: what it
    carries from there is named once.
    """
    return Merged(
        row_id=members[0]["row_id"],
        licence=all_of(m["licence"] for m in members),
        attribution=_each_once(m["attribution"] for m in members),
        creator=_each_once(m["creator"] for m in members),
    )


def _each_once(credits: Iterable[str]) -> str:
    """Credits joined by "; ". One that holds "; " is taken apart, for it may be a merged one: no part is lost."""
    return "; ".join(dict.fromkeys(part for credit in credits for part in credit.split("; ") if part))
