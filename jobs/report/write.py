"""One audit, written to a folder: the page for people, JSON for programs, the whole lists beside them.

    index.html        one self-contained page
    audit.json        figures, checks and bounded lists
    refused.jsonl     every refused row
    withheld.jsonl    every kept row that this manifest leaves out
    kept.jsonl        every row of the manifest with its credit
    ATTRIBUTION.md    the credits, to ship beside data or a model

Each file is replaced in one rename. All but `made_at` in audit.json and on the page is the same when made again.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from jobs.report.checks import run_checks
from jobs.report.figures import Figures, figures, kept_rows, refused_rows, urls_of, withheld_rows
from jobs.report.gallery import cards
from jobs.report.page import render
from jobs.report.tables import Tables, open_tables
from licet.ledger import Ledger, attribution_text, build_ledger, obligations_of
from licet.manifest import Manifest
from licet.policy import Policy

SCHEMA_VERSION = 1


def write_report(
    catalog: str,
    manifest: Manifest,
    policy: Policy,
    output: Path,
    max_listed_rows: int,
    max_thumbnails: int,
    verified: bool,
) -> dict[str, Any]:
    """Audit a manifest against its catalog and write the report; returns what audit.json says.

    Raises `UsageError` when the catalog lacks a table, `DamagedError` for a page, index or shard that was altered.
    """
    ledger = build_ledger(manifest)
    output.mkdir(parents=True, exist_ok=True)
    with open_tables(catalog, manifest) as tables:
        sums = figures(tables, ledger)
        checks = run_checks(tables, manifest, ledger, policy)
        lists = _lists(tables, manifest, policy, sums, max_listed_rows)
        _write_lines(output / "refused.jsonl", refused_rows(tables))
        _write_lines(output / "withheld.jsonl", withheld_rows(tables, policy))
    _write_lines(output / "kept.jsonl", kept_rows(manifest))
    report = {
        "licet_audit": SCHEMA_VERSION,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "verdict": "pass" if all(check.passed for check in checks) else "fail",
        **_sums(sums),
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
        **_rights(ledger),
        "manifest": _provenance(manifest, policy, verified),
        "inputs": {"catalog": catalog, "manifest": str(manifest.path)},
        "commands": _commands(catalog, manifest, policy, output),
        "files": ["refused.jsonl", "withheld.jsonl", "kept.jsonl", "ATTRIBUTION.md"],
        **lists,
    }
    with _replacing(output / "ATTRIBUTION.md") as file:
        file.write(attribution_text(ledger))
    with _replacing(output / "index.html") as file:
        file.write(render(report, list(cards(manifest, max_thumbnails))))
    with _replacing(output / "audit.json") as file:
        json.dump(report, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return report


def _sums(sums: Figures) -> dict[str, Any]:
    values = asdict(sums)
    rejected = {
        "rows": values.pop("rejected"),
        **{f"by_{name}": sums.rejected_by_one(name) for name in ("stage", "reason", "rule")},
        "groups": values.pop("rejected_by"),
    }
    return {**values, "rejected": rejected, "sum_holds": sums.rows_in == sums.kept + sums.rejected}


def _rights(ledger: Ledger) -> dict[str, Any]:
    return {
        "obligations": list(ledger.obligations),
        "obligations_by_licence": {licence: obligations_of(licence, ledger.purpose) for licence in ledger.licences},
    }


def _provenance(manifest: Manifest, policy: Policy, verified: bool) -> dict[str, Any]:
    return {
        "identity": manifest.identity,
        "purpose": manifest.purpose.value,
        "policy_hash": manifest.policy_hash,
        "overrides": {rule: outcome.value for rule, outcome in sorted(policy.overrides.items())},
        "parent": manifest.parent,
        "revoked_rows": len(manifest.revoked),
        "shards": manifest.totals["shards"],
        "formats": list(manifest.formats),
        "verified": "every page, index and shard matches its hash" if verified else "pages and indexes only",
    }


def _lists(tables: Tables, manifest: Manifest, policy: Policy, sums: Figures, limit: int) -> dict[str, Any]:
    """The first rows of each list, and how many more there are."""
    refused = list(refused_rows(tables, limit))
    urls = urls_of(tables, {row["duplicate_of"] for row in refused if row["duplicate_of"]})
    for row in refused:
        row["duplicate_of_url"] = urls.get(row["duplicate_of"], "")
    withheld = list(withheld_rows(tables, policy, limit))
    kept = list(itertools.islice(kept_rows(manifest), limit))
    return {
        "refused": refused,
        "refused_left_out": sums.rejected - len(refused),
        "withheld_rows": withheld,
        "withheld_left_out": sums.withheld - len(withheld),
        "kept_rows": kept,
        "kept_left_out": sums.in_manifest - len(kept),
    }


def _commands(catalog: str, manifest: Manifest, policy: Policy, output: Path) -> list[str]:
    """What to type to make the manifest and this report again."""
    overrides = [f"--policy.overrides.{rule}={outcome.value}" for rule, outcome in sorted(policy.overrides.items())]
    both = ["--catalog", catalog, "--manifest", str(manifest.path)]
    publish = ["licet", "publish", *both, "--policy.purpose", manifest.purpose.value, *overrides]
    return [shlex.join(publish), shlex.join(["licet", "audit", *both, "--output", str(output)])]


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with _replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes its name when it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
