"""The page: fills the template. It knows the report and the cards, and neither tables nor shards.

Everything is escaped; a link is made of http and https URLs alone; nothing outside the file is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobs.report.templates import environment
from licet.ledger import licence_ids, safe_link
from licet.licences import licence_page
from licet.policy import RULES

if TYPE_CHECKING:  # its image library is not for everybody who imports these words
    from jobs.report.gallery import Card

PURPOSES = {
    "research": "research",
    "commercial-training": "commercial training",
    "redistribution": "redistribution",
}
STAGES = {
    "read": "could not be read",
    "policy": "refused by policy",
    "rights": "refused for its rights",
    "fetch": "could not be fetched",
    "decode": "could not be decoded",
    "transform": "did not meet the requirements",
    "deduplicate": "identical to another row",
    "revoke": "withdrawn",
}
"""Stage -> what happened to a row there, for any number of rows."""

REASONS = {
    "http-status": "the server answered with an error",
    "connection": "no connection",
    "tls": "no trusted connection",
    "timeout": "no answer in time",
    "url-malformed": "not a web address",
    "needs-review": "a person has to decide",
}
"""Reasons whose id is too short to be read by itself."""

_SAID_BY_STAGE = {"denied", "duplicate"}
"""Reasons that say no more than their stage does."""

OBLIGATIONS = {
    "attribution": "Name the author, the source and the licence.",
    "keep-notice": "Keep copyright and licence notices.",
    "share-alike": "Share what is made from it under the same licence.",
    "non-commercial": "No commercial use.",
    "no-derivatives": "Share nothing that is made from it.",
    "read-its-terms": "licet does not know these terms: a person has to read them.",
}


def render(report: dict[str, Any], cards: Sequence[Card]) -> str:
    """The whole page as HTML."""
    templates = environment()
    templates.filters.update(
        link=safe_link, licence_parts=licence_parts, what_happened=what_happened, why=why, words=words
    )
    templates.filters["short"] = short_url
    template = templates.get_template("page.html.j2")
    return template.render(
        r=report,
        cards=cards,
        shown={card.row_id for card in cards},
        purpose=PURPOSES[report["manifest"]["purpose"]],
        bar=bar(report),
        failed=[check for check in report["checks"] if not check["passed"]],
        obligations=OBLIGATIONS,
    )


def bar(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Parts of the sum: what is in the manifest, what is withheld, and the refused rows by stage and reason."""
    total = max(1, report["rows_in"])
    parts = [{"kind": "kept", "label": "in the manifest", "rows": report["in_manifest"]}]
    if report["withheld"]:
        parts.append({"kind": "withheld", "label": "kept, not in this manifest", "rows": report["withheld"]})
    groups: dict[tuple[str, str], int] = {}
    for group in report["rejected"]["groups"]:
        key = (group["stage"], group["reason"])
        groups[key] = groups.get(key, 0) + group["rows"]
    for (stage, reason), rows in groups.items():
        parts.append(
            {"kind": stage, "label": what_happened({"stage": stage, "reason": reason, "rule": ""}), "rows": rows}
        )
    return [{**part, "percent": round(100 * part["rows"] / total, 3)} for part in parts]


def what_happened(group: dict[str, Any]) -> str:
    """A group of refused rows in words: its stage, then its rule or reason where that says more."""
    stage = STAGES.get(group["stage"], words(group["stage"]))
    if group["rule"] in RULES:
        return f"{stage}: {RULES[group['rule']]}"
    more = group["rule"] or group["reason"]
    return stage if more in _SAID_BY_STAGE else f"{stage}: {REASONS.get(more) or words(more)}"


def why(row: dict[str, Any]) -> str:
    """Why one row was refused, as a sentence fragment."""
    said, status = row["detail"], str(row["http_status"])
    if not said or row["duplicate_of"]:  # the page links the other row
        said = what_happened(row)
    elif row["stage"] not in ("policy", "deduplicate"):
        said = f"{STAGES.get(row['stage'], words(row['stage']))}: {said}"
    return said if row["http_status"] < 400 or status in said else f"{said} (HTTP {status})"


def words(name: str) -> str:
    """An id of our vocabulary as words."""
    return name.replace("-", " ").replace("_", " ")


def short_url(url: str) -> str:
    """A URL without its scheme, for reading."""
    return re.sub(r"^https?://", "", url)


def licence_parts(licence: str) -> list[tuple[str, str]]:
    """The expression in parts, each with the SPDX page that explains it, or nothing."""
    pages = {licence_id: licence_page(licence_id) for licence_id in licence_ids(licence)}
    return [(part, pages.get(part, "")) for part in re.split(r"(\s+AND\s+|\s+OR\s+|[()])", licence) if part]
