"""Licences and credits of a manifest, for all that is made from it: attribution file, model card, adapter, audit.

    ledger = build_ledger(manifest)
    attribution_text(ledger)          ATTRIBUTION.md, to ship beside the data or a model
    model_card_section(ledger)        "Training data" of a model card
    safetensors_metadata(ledger)      what an adapter carries inside itself

A ledger is computed from a manifest's indexes alone: neither shards nor catalog are read. Credits follow Creative
Commons' recommended practice (title, author, source, licence: "TASL"). This module must not know how data were built.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from licet.errors import MismatchError
from licet.licences import LicenceError, alternatives, licence_page
from licet.manifest import Manifest
from licet.policy import Policy, Purpose
from licet.selection import Selection

MAX_CREDITS = 1_000_000
"""Different credits that a ledger holds; further ones are counted, not held. About 0.5 KB each."""

READ_TERMS = "read-its-terms"
"""Asked for by a licence whose terms licet does not know: a person has to read them."""

_CREDIT_KEYS = ("licence", "attribution", "creator", "source", "licence_url")


@dataclass(frozen=True, slots=True)
class Credit:
    """One credit line and the rows that share it."""

    attribution: str
    """The line to show, as the creator asks for it: title and author."""
    creator: str
    licence: str
    """SPDX expression."""
    licence_url: str
    source: str
    """The page for people on which the original stands; the URL of the file where there is no page."""
    rows: int

    def line(self) -> str:
        """Title and author as one line; never empty."""
        if not self.attribution:
            return self.creator or "Creator not named"
        unnamed = [name for name in self.creator.split("; ") if name not in self.attribution]
        return f"{self.attribution}, by {', '.join(unnamed)}" if unnamed else self.attribution


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a manifest, or a selection of it, holds and owes."""

    manifest_identity: str
    purpose: Purpose
    rows: int
    """Live rows, of the selection where there is one."""
    sources: dict[str, int]
    """Source id -> rows."""
    licences: dict[str, int]
    """SPDX expression -> rows."""
    languages: dict[str, int]
    """BCP-47 tag -> rows."""
    obligations: tuple[str, ...]
    """What the licences ask for, united."""
    credits: tuple[Credit, ...]
    """By licence, then by line."""
    credits_left_out: int = 0
    """Credits beyond `MAX_CREDITS`, each counted once for each shard that has it; 0 when `credits` is complete."""
    selection_hash: str | None = None


def build_ledger(manifest: Manifest, selection: Selection | None = None, max_credits: int = MAX_CREDITS) -> Ledger:
    """Count licences and collect credits of a manifest's live rows, or of a selection's.

    Raises `ManifestDamagedError` for a page or an index that was altered, `MismatchError` for a selection of another
    manifest.
    """
    if selection is not None and selection.manifest_identity != manifest.identity:
        raise MismatchError(
            f"the selection was made of manifest {selection.manifest_identity[:12]}, not of {manifest.path} "
            f"({manifest.identity[:12]}): select again."
        )
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("source_id", "licence", "language")}
    credits: dict[tuple[str, ...], int] = {}
    left_out = 0
    for table in _chosen_rows(manifest, selection):
        for name, counter in counts.items():
            counter.update({item["values"]: item["counts"] for item in pc.value_counts(table[name]).to_pylist()})
        for *key, rows in _credits_of(table):
            if tuple(key) in credits or len(credits) < max_credits:
                credits[tuple(key)] = credits.get(tuple(key), 0) + rows
            else:
                left_out += 1
    return Ledger(
        manifest_identity=manifest.identity,
        purpose=manifest.purpose,
        rows=sum(counts["licence"].values()),
        sources=dict(sorted(counts["source_id"].items())),
        licences=dict(sorted(counts["licence"].items())),
        languages=dict(sorted(counts["language"].items())),
        obligations=tuple(
            sorted({o for licence in counts["licence"] for o in obligations_of(licence, manifest.purpose)})
        ),
        credits=tuple(
            Credit(rows=rows, **dict(zip(_CREDIT_KEYS, key, strict=True))) for key, rows in sorted(credits.items())
        ),
        credits_left_out=left_out,
        selection_hash=selection.hash if selection is not None else None,
    )


def obligations_of(licence: str, purpose: Purpose) -> tuple[str, ...]:
    """What a licence expression asks for, by the alternative that the policy chooses for a purpose. Sorted.

    Terms that our table does not hold are never "nothing": they are `READ_TERMS`.
    """
    try:
        chosen = Policy(purpose).decide(licence, credited=True).licence
        terms = next(t for t in alternatives(licence) if t.expression() == chosen)
    except LicenceError:
        return (READ_TERMS,)
    unread = () if terms.known and terms.asserted and not terms.reserved else (READ_TERMS,)
    return tuple(sorted(o.value for o in terms.obligations)) + unread


def as_dict(ledger: Ledger) -> dict[str, Any]:
    """The ledger for JSON: the same manifest gives the same bytes under `json.dumps`."""
    return {**asdict(ledger), "purpose": ledger.purpose.value}


def attribution_text(ledger: Ledger) -> str:
    """A Markdown file of all credits, grouped by licence: to ship beside data, or a model, made from the manifest."""
    lines = ["# Attribution", "", f"This work was made from {_rows(ledger.rows)} of other people's work, used for "]
    lines[-1] += f"{ledger.purpose.value}. Each is listed below with its author, its source and its licence."
    lines += ["", f"Manifest `{ledger.manifest_identity}`.", "", *_credit_list(ledger, "##")]
    return "\n".join(lines).rstrip() + "\n"


def model_card_section(ledger: Ledger) -> str:
    """The "Training data" section of a model card, in Markdown."""
    asked = ", ".join(ledger.obligations) or "none"
    lines = ["## Training data", "", f"{_rows(ledger.rows)}, each admitted by policy for **{ledger.purpose.value}**."]
    lines += ["", f"- Manifest: `{ledger.manifest_identity}`"]
    if ledger.selection_hash:
        lines.append(f"- Selection: `{ledger.selection_hash}`")
    lines += [f"- Obligations: {asked}", ""]
    lines += ["| licence | rows | asks for |", "|---|---:|---|"]
    for licence, rows in ledger.licences.items():
        asked = ", ".join(obligations_of(licence, ledger.purpose)) or "nothing"
        lines.append(f"| {_licence_links(licence)} | {rows} | {asked} |")
    lines += ["", "| source | rows |", "|---|---:|"]
    lines += [f"| {markdown_text(source)} | {rows} |" for source, rows in ledger.sources.items()]
    lines += ["", "### Credits", "", *_credit_list(ledger, "####")]
    return "\n".join(lines).rstrip() + "\n"


def safetensors_metadata(ledger: Ledger, max_credits_bytes: int = 1 << 18) -> dict[str, str]:
    """The ledger as the flat text map that a safetensors header holds.

    A header is read whole each time that the file is opened, so credits beyond `max_credits_bytes` (of UTF-8 JSON) are
    counted and left out, and the map says where the whole list is.
    """
    credits: list[dict[str, Any]] = []
    n_bytes = 2
    for credit in ledger.credits:
        entry = asdict(credit)
        n_bytes += len(_json(entry).encode()) + 2
        if n_bytes > max_credits_bytes:
            break
        credits.append(entry)
    left_out = len(ledger.credits) - len(credits) + ledger.credits_left_out
    metadata = {
        "licet.manifest": ledger.manifest_identity,
        "licet.purpose": ledger.purpose.value,
        "licet.rows": str(ledger.rows),
        "licet.sources": _json(ledger.sources),
        "licet.licences": _json(ledger.licences),
        "licet.obligations": _json(ledger.obligations),
        "licet.credits": _json(credits),
        "licet.credits_left_out": str(left_out),
    }
    if ledger.selection_hash:
        metadata["licet.selection"] = ledger.selection_hash
    if left_out:
        metadata["licet.credits_note"] = (
            f"{left_out} more credits: `licet audit` on manifest {ledger.manifest_identity} writes all of them."
        )
    return metadata


def safe_link(url: str) -> str:
    """The URL when it is one that a report may link to (http or https, no space or control character), else nothing."""
    return url if re.fullmatch(r"https?://[^\s\x00-\x1f\x7f\"<>\\^`{|}]+", url, re.IGNORECASE) else ""


def markdown_text(text: str) -> str:
    """Text as Markdown that shows it and nothing else: one line, no markup, no HTML, no links; fit for a table cell."""
    line = re.sub(r"([\\`*_{}\[\]<>|~$])", r"\\\1", " ".join(text.split()))
    line = re.sub(r"&(?=#?\w+;)", "&amp;", line)
    line = re.sub(r"(?i)\b(https?|ftp|www)([:.])", r"\1\\\2", line)
    return re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", line)


def licence_ids(licence: str) -> tuple[str, ...]:
    """Every licence id of an expression, sorted; the text itself where it is no SPDX expression."""
    try:
        return tuple(sorted({i for terms in alternatives(licence) for i in terms.licences}))
    except LicenceError:
        return (licence,)


def _chosen_rows(manifest: Manifest, selection: Selection | None) -> Iterator[pa.Table]:
    """Index rows that count, shard after shard, in plan order."""
    for shard, entry in enumerate(manifest.entries()):
        table = manifest.index(entry, next(iter(entry.files))).table
        if selection is not None:
            flags = np.zeros(table.num_rows, dtype=bool)
            flags[selection.positions(shard)] = True
            table = table.filter(pa.array(flags))
        yield table.filter(table["live"])


def _credits_of(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """(licence, attribution, creator, source, licence_url, rows) for each different credit of a shard, sorted."""
    source = pc.if_else(pc.equal(table["source_page"], ""), table["source_url"], table["source_page"])
    keyed = table.append_column("source", source).select(_CREDIT_KEYS)
    grouped = keyed.group_by(list(_CREDIT_KEYS)).aggregate([([], "count_all")])
    yield from sorted(zip(*(grouped[name].to_pylist() for name in (*_CREDIT_KEYS, "count_all")), strict=True))


def _credit_list(ledger: Ledger, heading: str) -> list[str]:
    lines: list[str] = []
    for licence, credits in groupby(ledger.credits, key=lambda credit: credit.licence):
        asked = ", ".join(obligations_of(licence, ledger.purpose)) or "nothing"
        lines += [f"{heading} {_licence_links(licence)}", "", f"Asks for: {asked}.", ""]
        lines += [_credit_line(credit) for credit in credits]
        lines.append("")
    if ledger.credits_left_out:
        lines += [f"{ledger.credits_left_out} more credits are left out here: `licet audit` writes all of them.", ""]
    return lines


def _credit_line(credit: Credit) -> str:
    """- Title, by author. [source](…) · [licence text](…) · 3 rows"""
    tail = [f"[source](<{link}>)" if (link := safe_link(credit.source)) else markdown_text(credit.source)]
    if link := safe_link(credit.licence_url):
        tail.append(f"[licence text](<{link}>)")
    if credit.rows > 1:
        tail.append(_rows(credit.rows))
    return f"- {markdown_text(credit.line())}. {' · '.join(filter(None, tail))}"


def _licence_links(licence: str) -> str:
    """The expression, each SPDX id a link to its page."""
    text = markdown_text(licence)
    for licence_id in licence_ids(licence):
        if page := licence_page(licence_id):
            text = re.sub(rf"(?<![\w.+:-]){re.escape(licence_id)}(?![\w.+:-]| WITH )", f"[{licence_id}]({page})", text)
    return text


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _json(value: dict[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
