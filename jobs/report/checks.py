"""What must hold between a plan, its outcomes and a manifest. Each check counts the rows that break it and names some.

A check never repairs and never stops at the first failure: the page shows them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jobs.report.tables import Tables, quoted
from licet.ledger import Ledger
from licet.licences import NO_ASSERTION, LicenceError, Obligation, alternatives
from licet.manifest import Manifest
from licet.policy import Policy

MAX_EXAMPLES = 20


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    id: str
    title: str
    """What holds when it passed."""
    failures: int
    examples: tuple[str, ...] = ()
    """Row ids, or a sentence; at most `MAX_EXAMPLES`."""

    @property
    def passed(self) -> bool:
        return self.failures == 0


_ROW_CHECKS = {
    "planned-row-has-outcome": (
        "every planned row has an outcome",
        "SELECT DISTINCT p.row_id FROM plan p LEFT ANTI JOIN outcomes o ON p.row_id = o.row_id",
    ),
    "outcome-was-planned": (
        "every outcome belongs to a planned row",
        "SELECT DISTINCT o.row_id FROM outcomes o LEFT ANTI JOIN plan p ON p.row_id = o.row_id",
    ),
    "one-outcome": (
        "no row has two outcomes",
        "SELECT row_id FROM outcomes GROUP BY row_id HAVING count(*) > 1",
    ),
    "refusal-has-reason": (
        "every refused row has a stage and a reason, and a rule where the policy refused it",
        "SELECT row_id FROM outcomes WHERE state <> 'kept' "
        "AND (state <> 'rejected' OR stage = '' OR reason = '' OR (stage = 'policy' AND rule = ''))",
    ),
    "denied-row-not-requested": (
        "no request was sent for a row that the policy refused",
        "SELECT row_id FROM outcomes WHERE state = 'rejected' AND stage = 'policy' AND requests > 0",
    ),
    "manifest-row-is-kept": (
        "every row of the manifest is kept in the catalog",
        "SELECT m.row_id FROM manifest m LEFT ANTI JOIN "
        "(SELECT row_id FROM outcomes WHERE state = 'kept') o ON m.row_id = o.row_id",
    ),
    "manifest-row-once": (
        "no row is in the manifest twice",
        "SELECT row_id FROM manifest GROUP BY row_id HAVING count(*) > 1",
    ),
    "licence-named": (
        "every row of the manifest names its licence",
        f"SELECT row_id FROM manifest WHERE licence IN ('', {quoted(NO_ASSERTION)}, 'NONE')",
    ),
    "source-named": (
        "every row of the manifest names its source URL",
        "SELECT row_id FROM manifest WHERE source_url = ''",
    ),
}


def run_checks(tables: Tables, manifest: Manifest, ledger: Ledger, policy: Policy) -> list[Check]:
    """All checks, in the order in which the page shows them."""
    checks = [_sum_check(tables)]
    checks += [_row_check(tables, name, title, sql) for name, (title, sql) in _ROW_CHECKS.items()]
    checks += _terms_checks(tables, policy)
    checks.append(
        _sentence_check(
            "policy-is-the-manifest's",
            "the manifest was published under the policy that judged it here",
            policy.hash == manifest.policy_hash,
            f"policy {manifest.policy_hash[:12]} published it, {policy.hash[:12]} judges it: the rules, the licence "
            "table or the overrides differ. Publish the catalog again.",
        )
    )
    held, said = ledger.rows, manifest.totals["live_rows"]
    checks.append(
        _sentence_check(
            "manifest-totals",
            "the manifest's totals are those of its rows",
            held == said and ledger.licences == dict(manifest.totals["licences"]),
            f"its root says {said} live rows, its indexes hold {held}, or their counts by licence differ.",
        )
    )
    return checks


def _sum_check(tables: Tables) -> Check:
    planned = tables.sum_by_slice("SELECT count(DISTINCT row_id) FROM plan")
    kept = tables.number("SELECT count(*) FROM outcomes WHERE state = 'kept'")
    rejected = tables.number("SELECT count(*) FROM outcomes WHERE state = 'rejected'")
    return _sentence_check(
        "sum",
        "planned = kept + refused",
        planned == kept + rejected,
        f"{planned} planned, {kept} kept, {rejected} refused",
    )


def _sentence_check(id: str, title: str, passed: bool, sentence: str) -> Check:
    return Check(id, title, 0 if passed else 1, () if passed else (sentence,))


def _row_check(tables: Tables, id: str, title: str, sql: str) -> Check:
    failures = tables.sum_by_slice(f"SELECT count(*) FROM ({sql})")
    if not failures:
        return Check(id, title, 0)
    broken = tables.rows_by_slice(f"SELECT row_id FROM ({sql}) ORDER BY row_id LIMIT {MAX_EXAMPLES}")
    return Check(id, title, failures, tuple(row["row_id"] for row in islice(broken, MAX_EXAMPLES)))


def _terms_checks(tables: Tables, policy: Policy) -> Iterator[Check]:
    """Judge each different pair of licence and credit of the manifest once, then count its rows."""
    pairs = list(tables.rows("SELECT licence, credited FROM manifest GROUP BY licence, credited ORDER BY 1, 2"))
    denied = [pair for pair in pairs if refusal(policy, **pair) is not None]
    uncredited = [pair for pair in pairs if not pair["credited"] and _asks_for_credit(pair["licence"])]
    for id, title, broken in (
        ("policy-allows", f"the policy allows every row of the manifest for {policy.purpose.value}", denied),
        ("credit-named", "every row of the manifest whose licence asks for credit names a creator", uncredited),
    ):
        if broken:
            yield _row_check(tables, id, title, f"SELECT row_id FROM manifest WHERE {_any_of(broken)}")
        else:
            yield Check(id, title, 0)


def refusal(policy: Policy, licence: str, credited: bool) -> tuple[str, str] | None:
    """(rule, why) when the policy does not let such a row in, else None."""
    try:
        decision = policy.decide(licence, credited)
    except LicenceError as error:
        return "licence-unknown", str(error)
    return None if decision.allowed else (decision.rule, decision.reason)


def _asks_for_credit(licence: str) -> bool:
    """Whether every way to comply with a licence asks for credit; a text that is no licence counts as asking."""
    try:
        return all(Obligation.ATTRIBUTION in terms.obligations for terms in alternatives(licence))
    except LicenceError:
        return True


def _any_of(pairs: list[dict[str, Any]]) -> str:
    return " OR ".join(f"(licence = {quoted(p['licence'])} AND credited = {str(p['credited']).lower()})" for p in pairs)
