"""How many rows per second near-deduplication takes, and whether it finds what was planted.

    python -m benchmarks.dedup [--rows 1000000] [--distance 4]

Rows have random 64-bit hashes; one in twenty is a copy of another with 1 to `distance` bits changed, and one in a
thousand has the same hash as all the others of its kind, as placeholders for missing images do. What is timed is what
the job does between the catalog's rows and the clusters: read, enter, compare, hang together, write. Spark runs on two
threads of this machine. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F

from jobs.images.duplicates import keep_rows, near_roots
from jobs.options import SparkOptions
from jobs.session import spark_session

COPIES = 20
PLACEHOLDERS = 1000


def planted(n_rows: int, distance: int, seed: int = 0) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Rows (id, sha256, hash), and which ids are near copies of which earlier ids."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 1 << 64, n_rows, np.uint64)
    copies = np.arange(n_rows // 2, n_rows // 2 + n_rows // COPIES)
    originals = rng.permutation(n_rows // 2 - n_rows // PLACEHOLDERS)[: len(copies)] + n_rows // PLACEHOLDERS
    hashes[copies] = hashes[originals]
    for n_bits in range(distance):
        bits = np.uint64(1) << rng.integers(0, 64, len(copies)).astype(np.uint64)
        hashes[copies] ^= np.where(rng.random(len(copies)) < 1 / (n_bits + 1), bits, np.uint64(0))
    hashes[: n_rows // PLACEHOLDERS] = hashes[0]
    sha256 = pa.array([f"{number:064x}" for number in range(n_rows)])
    table = pa.table({"id": pa.array(np.arange(n_rows)), "sha256": sha256, "hash": pa.array(hashes.view(np.int64))})
    return table, copies, originals


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--distance", type=int, default=4)
    arguments = parser.parse_args(argv)
    table, copies, originals = planted(arguments.rows, arguments.distance)
    options = SparkOptions(master="local[2,4]")
    with tempfile.TemporaryDirectory() as folder, spark_session("licet benchmark", options) as spark:
        pq.write_table(table, f"{folder}/rows.parquet", row_group_size=100_000)
        rows = spark.read.parquet(f"{folder}/rows.parquet").withColumn("id", F.col("id").cast("bigint"))
        began = time.monotonic()
        roots = near_roots(rows, arguments.distance, partial(keep_rows, Path(folder) / "work")).toArrow()
        seconds = time.monotonic() - began
    root_of = dict(zip(roots["id"].to_pylist(), roots["root"].to_pylist(), strict=True))
    pairs = zip(copies.tolist(), originals.tolist(), strict=True)
    found = sum(root_of.get(copy, -1) == root_of.get(original, -2) for copy, original in pairs)
    dropped = sum(root != id for id, root in root_of.items())
    expected = len(copies) + arguments.rows // PLACEHOLDERS - 1
    figures = {
        "rows": arguments.rows,
        "seconds": round(seconds, 1),
        "rows_per_s": round(arguments.rows / seconds),
        "planted": len(copies),
        "found": found,
        "dropped": dropped,
        "dropped_expected": expected,
    }
    sys.stdout.write(f"{arguments.rows} rows in {seconds:.1f} s, {found} of {len(copies)} near copies found\n")
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
