"""Write the licence report of a manifest: a page for people, JSON for programs, the credits to ship.

Reads the catalog with `deltalake`, not Spark: sums are SQL in this process, lists stream, and a small catalog is
audited in less than a second, where a Spark session alone takes six to eight to start. It is a second reader, too:
Spark wrote the tables, and what the report says does not rest on Spark reading its own writing.

Exit code 3 when a check fails: a row that the policy would not allow, a missing credit, sums that do not add up.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from licet.cli import run_command
from licet.errors import PolicyRefusedError, UsageError
from licet.flags import call_with_flags
from licet.manifest import Manifest, read_manifest, verify_manifest
from licet.policy import Outcome, Policy

log = logging.getLogger("licet.audit")


def audit(
    catalog: str,
    manifest: str,
    output: Path,
    max_listed_rows: int = 5000,
    max_thumbnails: int = 200,
    verify: bool = True,
) -> int:
    """Write the licence report of a manifest.

    Returns 0. Raises `PolicyRefusedError` after the report is written when a check failed, `UsageError` when there is
    no catalog or no manifest, and `DamagedError` when a page, index, shard or table was altered.

    Args:
        catalog: Catalog folder that `licet ingest-images` wrote.
        manifest: Manifest that `licet publish` wrote, a path or a URL.
        output: Folder for the report; files in it are replaced.
        max_listed_rows: Rows listed on the page and in audit.json; the .jsonl files hold all.
        max_thumbnails: Kept samples shown on the page.
        verify: Read every shard and compare its hash; pages and indexes are always compared.
    """
    from jobs.report.write import write_report  # its libraries are an extra: a mistyped flag is told without them

    if max_listed_rows < 0 or max_thumbnails < 0:
        raise UsageError("max_listed_rows and max_thumbnails are numbers from 0.")
    opened = read_manifest(manifest)
    if verify:
        verify_manifest(opened)
    report = write_report(catalog, opened, policy_of(opened), output, max_listed_rows, max_thumbnails, verify)
    page = output / "index.html"
    sums = report["rows_in"], report["kept"], report["rejected"]["rows"]
    log.info("%d rows, %d kept, %d refused; report: %s", *sums, page)
    failed = [check["title"] for check in report["checks"] if not check["passed"]]
    if failed:
        raise PolicyRefusedError(f"the audit failed: it does not hold that {'; that '.join(failed)}. See {page}.")
    return 0


def policy_of(manifest: Manifest) -> Policy:
    """The policy that a manifest says it was published under. The audit compares its hash with the manifest's own."""
    overrides = manifest.envelope.get("overrides", {})
    return Policy(manifest.purpose, {rule: Outcome(outcome) for rule, outcome in overrides.items()})


def command(arguments: Sequence[str]) -> int:
    """`licet audit`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return call_with_flags(audit, arguments, "audit")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a shell: `python -m jobs.audit …` or `spark-submit jobs/audit.py …`."""
    return run_command(command, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
