"""Publish a catalog for a purpose: decide every licence again and write the manifest that trainers read.

    licet publish --catalog OUT/catalog --manifest OUT/manifest.json --policy.purpose commercial-training

Exit code 3, and no manifest, when the policy lets no row through.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.options import PolicyOptions, SparkOptions, local_folder
from licet.cli import run_command
from licet.flags import call_with_flags
from licet.manifest import put_manifest, read_manifest
from licet.storage import is_url

if TYPE_CHECKING:
    from licet.manifest import Manifest


def publish(
    catalog: str,
    manifest: str,
    policy: PolicyOptions,
    parent: str | None = None,
    spark: SparkOptions = SparkOptions(),  # noqa: B008 - frozen
) -> int:
    """Write a manifest of the rows that may be used for a purpose.

    Args:
        catalog: Folder of a catalog that `licet ingest-images` wrote.
        manifest: The manifest to write, such as OUT/manifest.json, or a URL when the shards lie at URLs.
        policy: What the data is for.
        parent: The manifest (or its URL) that this one succeeds; rows that only it had are named as revoked.
        spark: The Spark that is started when none is given.
    """
    from jobs.images.manifest import publish_manifest
    from jobs.session import spark_session

    rules = policy.policy()
    folder, to_url = local_folder(catalog, "catalog"), is_url(manifest)
    before = read_manifest(parent if is_url(parent) else local_folder(parent, "parent")) if parent else None
    with spark_session("licet publish", spark) as session, tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "manifest.json" if to_url else local_folder(manifest, "manifest")
        written = publish_manifest(session, folder, target, rules, before)
        if to_url:
            put_manifest(written, manifest)
    sys.stdout.write(_figures(written, manifest if to_url else str(target)))
    return 0


def _figures(manifest: Manifest, place: str) -> str:
    totals = manifest.totals
    licences = ", ".join(f"{licence} {n}" for licence, n in totals["licences"].items())
    lines = [
        f"{totals['live_rows']} rows for {manifest.purpose.value}, in {totals['shards']} shards ({licences})",
        *([f"{len(manifest.revoked)} rows of the parent revoked"] if manifest.parent else []),
        f"identity {manifest.identity}",
        f"manifest {place}",
    ]
    return "\n".join(lines) + "\n"


def command(arguments: Sequence[str]) -> int:
    """`licet publish`."""
    return call_with_flags(publish, arguments, "publish")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a shell: `python -m jobs.publish …` or `spark-submit jobs/publish.py …`."""
    return run_command(command, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
