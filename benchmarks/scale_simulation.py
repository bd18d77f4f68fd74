"""What the driver, the catalog and the manifest do at sizes that no test fetches: real code on made-up reports.

    python -m benchmarks.scale_simulation plan     [--rows 10000000]   the frozen plan's units, as the driver lists them
    python -m benchmarks.scale_simulation commits  [--units 100000]    unit reports through the committer into Delta
    python -m benchmarks.scale_simulation manifest [--shards 100000]   a manifest: written, opened, read, selected from
    python -m benchmarks.scale_simulation report   [--rows 1000000]    the report of a run, from that many outcomes

Each is run in a process of its own, so that the peak of memory is its own, and prints one line per measurement and,
last, a JSON object. Nothing is fetched. What is not real is named: all reports point at one real outcomes file, and all
shards of the manifest at one real index. Processor seconds are given beside the clock, for the machine may be shared.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_UNIT = 1000
ROWS_PER_FILE = 50_000
Figures = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, flag, size in (
        ("plan", "--rows", 10_000_000),
        ("commits", "--units", 100_000),
        ("manifest", "--shards", 100_000),
        ("report", "--rows", 1_000_000),
    ):
        command = commands.add_parser(name)
        command.add_argument(flag, dest="size", type=int, default=size)
        if name == "commits":
            command.add_argument("--in_one", type=int, default=100, help="most units in one transaction")
        if name == "manifest":
            command.add_argument("--select_shards", type=int, default=20_000, help="shards of the selection's manifest")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="licet-scale-") as folder:
        run: Callable[..., Figures] = globals()[f"simulate_{arguments.command}"]
        more = {name: value for name, value in vars(arguments).items() if name in ("in_one", "select_shards")}
        figures = run(Path(folder), arguments.size, **more)
    for name, value in figures.items():
        sys.stdout.write(f"{name:<34}{value:>16,}\n" if isinstance(value, int) else f"{name:<34}{value:>16,.3f}\n")
    sys.stdout.write(json.dumps({"simulation": arguments.command, **figures}) + "\n")
    return 0


def simulate_plan(folder: Path, rows: int) -> Figures:
    """A plan table with the columns that the driver groups by, and the driver's list of its units."""
    from jobs.catalog import Catalog, CommitRow
    from jobs.images.plan import work_units
    from jobs.options import SparkOptions
    from jobs.session import spark_session

    figures: Figures = {"rows": rows}
    catalog = Catalog(None, folder / "catalog")  # type: ignore[arg-type]
    with timed(figures, "write"):
        _write_plan(folder / "catalog" / "plan", rows)
    catalog.commit([CommitRow("plan", "plan-0", 1, planned=rows, options="{}")])
    with spark_session("licet scale", SparkOptions(master="local[1]")) as session:
        catalog = Catalog(session, folder / "catalog")
        before = peak_mb()
        with timed(figures, "units"):
            units = work_units(catalog)
        figures["units"] = len(units)
        figures["driver_python_more_mb"] = peak_mb() - before
        figures["plan_files"] = len({file for unit in units for file in unit.files})
    return figures


def _write_plan(path: Path, rows: int) -> None:
    """Delta's files and log: 1,000 rows for each unit, 50 units in a file, as `freeze_plan` leaves them."""
    from deltalake import write_deltalake

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, ROWS_PER_FILE):
            ordinals = np.arange(start, min(start + ROWS_PER_FILE, rows), dtype=np.int64)
            index = ordinals // ROWS_PER_UNIT
            names = pa.DictionaryArray.from_arrays(
                pa.array(index - index[0], pa.int32()), [unit_name(int(i)) for i in range(index[0], index[-1] + 1)]
            ).cast(pa.string())
            generation = pa.array(np.ones(len(ordinals), dtype=np.int32))
            yield pa.RecordBatch.from_arrays(
                [generation, names, pa.array(index), pa.array(ordinals)],
                names=["generation", "unit_id", "unit_index", "ordinal"],
            )

    for batch in batches():
        write_deltalake(str(path), pa.Table.from_batches([batch]), mode="append")


def simulate_commits(folder: Path, units: int, in_one: int) -> Figures:
    """Reports through `Committer` into a real Delta table; then a second driver that finds them all there."""
    from deltalake import DeltaTable

    from jobs.catalog import Catalog
    from jobs.commit import Committer

    catalog = Catalog(None, folder / "catalog")  # type: ignore[arg-type]
    outcomes = _an_outcomes_file(folder)
    figures: Figures = {"units": units}
    before = peak_mb()
    slices: list[float] = []
    with timed(figures, "commit"), Committer(catalog, in_one) as committer:
        last = time.process_time()
        for number in range(units):
            committer.add(_report(number, outcomes))
            if number % (units // 10) == units // 10 - 1:
                now = time.process_time()
                slices.append(units // 10 / (now - last))
                last = now
    figures["units_per_s"] = units / figures["commit_s"]
    figures["units_per_cpu_s_first_tenth"], figures["units_per_cpu_s_last_tenth"] = slices[0], slices[-1]
    figures["driver_more_mb"] = peak_mb() - before
    table = DeltaTable(str(catalog.path / "commits"))
    history = table.history()
    figures["transactions"] = sum(entry["operation"] == "WRITE" for entry in history)
    figures["compactions"] = sum(entry["operation"] == "OPTIMIZE" for entry in history)
    figures["live_files"] = len(table.file_uris())
    figures["live_bytes"] = sum(int(n) for n in pa.table(table.get_add_actions())["size_bytes"].to_pylist())
    figures |= _log(catalog.path / "commits" / "_delta_log")
    with timed(figures, "restart"):
        again = Committer(Catalog(None, catalog.path))  # type: ignore[arg-type]
    figures["found_after_restart"] = len(again.committed)
    before = peak_mb()
    with timed(figures, "list"):
        listed = catalog.commit_table("unit")
    figures["listed"], figures["list_more_mb"] = len(listed), peak_mb() - before
    return figures


def _log(folder: Path) -> Figures:
    entries = list(os.scandir(folder))
    return {
        "log_entries": sum(entry.name.endswith(".json") for entry in entries),
        "checkpoints": sum(entry.name.endswith(".parquet") for entry in entries),
        "log_bytes": sum(entry.stat().st_size for entry in entries),
    }


def _an_outcomes_file(folder: Path) -> str:
    """One file with 1,000 outcomes, which every report names: its footer is read for each of them."""
    from licet.records import OUTCOME_SCHEMA

    columns = [pa.nulls(ROWS_PER_UNIT, field.type) for field in OUTCOME_SCHEMA]
    nullable = pa.schema([field.with_nullable(True) for field in OUTCOME_SCHEMA])
    pq.write_table(pa.table(columns, schema=nullable), folder / "outcomes.parquet")
    return "outcomes.parquet"


def _report(number: int, outcomes: str) -> Any:
    """What a unit of 1,000 rows reports, with one shard in one format."""
    from jobs.catalog import CommitRow

    unit, attempt = unit_name(number), unit_name(number + 10**9)
    path = f"shards/_shards/{unit}/{attempt}-00000.tar"
    file = {"format": "webdataset", "path": path, "sha256": attempt * 2, "n_bytes": 31_000_000}
    file |= {"index_path": f"{path}.index.arrow", "index_sha256": unit * 2}
    file |= {"shard": 0, "rows": 900, "content": unit * 2}
    return CommitRow(
        kind="unit",
        unit_id=unit,
        generation=1,
        attempt=attempt,
        unit_index=number,
        planned=ROWS_PER_UNIT,
        kept=900,
        rejected=100,
        reasons={"connection": 40, "http-status": 35, "timeout": 25},
        licences={"CC-BY-4.0": 500, "CC0-1.0": 400},
        languages={"en": 900},
        sources={"photos": 900},
        requests=1100,
        rows=900,
        content=unit * 2,
        files=[file],
        outcomes_path=outcomes,
        outcomes_sha256=attempt * 2,
    )


def simulate_manifest(folder: Path, shards: int, select_shards: int) -> Figures:
    """A manifest of so many shards, all of which name one real index of 1,000 rows, and a selection from some."""
    from licet.manifest import ShardEntry, ShardFile, read_manifest, write_manifest
    from licet.policy import Purpose
    from licet.selection import Where, select
    from licet.shards.index import file_sha256

    index = _an_index(folder)
    index_sha256 = file_sha256(str(index))

    def entries() -> Iterator[ShardEntry]:
        for number in range(shards):
            unit = unit_name(number)
            path = f"shards/_shards/{unit}/{unit_name(number + 10**9)}-00000.tar"
            file = ShardFile(path, unit * 2, 31_000_000, index.name, index_sha256)
            yield ShardEntry(
                unit_id=unit, rows=ROWS_PER_UNIT, live_rows=ROWS_PER_UNIT, content=unit * 2,
                licences={"CC-BY-4.0": 600, "CC0-1.0": 400}, languages={"en": ROWS_PER_UNIT},
                sources={"photos": ROWS_PER_UNIT}, files={"webdataset": file},
            )  # fmt: skip

    figures: Figures = {"shards": shards}
    path = folder / "manifest.json"
    before = peak_mb()
    with timed(figures, "write"):
        write_manifest(path, entries(), Purpose.RESEARCH, "policy")
    figures["write_more_mb"] = peak_mb() - before
    pages = list((folder / "manifest.pages").iterdir())
    figures["pages"], figures["page_bytes"] = len(pages), sum(page.stat().st_size for page in pages)
    figures["root_bytes"] = path.stat().st_size
    with timed(figures, "open"):
        manifest = read_manifest(path)
    with timed(figures, "read"):
        figures["read"] = sum(1 for _ in manifest.entries())
    figures["shards_selected_from"] = min(shards, select_shards)
    some = write_manifest(folder / "some.json", islice(entries(), select_shards), Purpose.RESEARCH, "policy")
    before = peak_mb()
    with timed(figures, "select"):
        selection = select(some, Where(licences=("CC-BY-4.0",)))
    figures["selected"], figures["select_more_mb"] = len(selection), peak_mb() - before
    selection.write(folder / "selection.parquet")
    figures["selection_bytes"] = (folder / "selection.parquet").stat().st_size
    return figures


def _an_index(folder: Path) -> Path:
    from licet.records import Sample
    from licet.shards.index import IndexBuilder, content_digest

    builder = IndexBuilder()
    for number in range(ROWS_PER_UNIT):
        texts = dict.fromkeys((name for name, field in Sample.__dataclass_fields__.items() if field.type == "str"), "")
        numbers = dict.fromkeys(("width", "height", "original_width", "original_height"), 256)
        said = {"key": unit_name(number), "licence": "CC-BY-4.0" if number % 5 < 3 else "CC0-1.0", "language": "en"}
        said |= {"source_id": "photos", "source_url": f"https://host.example/{number}.jpg", "caption": "a photo"}
        sample = Sample(**{**texts, **numbers, **said}, payload=b"", payload_format="jpg")
        builder.add(sample, number * 30_000, 30_000, number, content_digest(sample))
    path = folder / "one.index.arrow"
    builder.build().write(str(path))
    return path


def simulate_report(folder: Path, rows: int) -> Figures:
    """The pass over the outcomes that the report at the end makes, on files of a million rows."""
    from jobs.report.run.outcomes import COLUMNS, Outcomes, batches
    from licet.records import OUTCOME_SCHEMA

    schema = pa.schema([OUTCOME_SCHEMA.field(name).with_nullable(True) for name in COLUMNS])
    files = []
    for start in range(0, rows, 1_000_000):
        table = _outcomes(start, min(1_000_000, rows - start)).cast(schema)
        files.append(str(folder / f"{start}.parquet"))
        pq.write_table(table, files[-1], compression="snappy")
        del table
    figures: Figures = {"rows": rows, "bytes": sum(os.path.getsize(file) for file in files)}
    before = peak_mb()
    found = Outcomes(60)
    with timed(figures, "read"):
        for batch in batches(files, schema):
            found.add(batch)
    figures["counted"] = found.as_dict()["rows"]
    figures["rows_per_s"] = rows / figures["read_s"]
    figures["more_mb"] = peak_mb() - before
    return figures


def _outcomes(start: int, n: int) -> pa.Table:
    rng = np.random.default_rng(start)
    numbers = np.arange(start, start + n)
    kept = rng.random(n) < 0.9
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc).timestamp()

    def pick(names: list[str], at: Any) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(at, pa.int32()), names).cast(pa.string())

    units = [unit_name(i) for i in range(start // 1000, (start + n) // 1000 + 1)]
    which = kept.astype(np.int32)
    hosts = rng.integers(0, 100_000, n)
    return pa.table({
        "row_id": pa.array([f"{i * 2654435761 % 2**32:032x}" for i in numbers.tolist()]),
        "unit_id": pick(units, (numbers - start) // 1000),
        "state": pick(["rejected", "kept"], which), "stage": pick(["fetch", ""], which),
        "reason": pick(["timeout", ""], which), "http_status": pa.array(np.where(kept, 200, 0), pa.int32()),
        "n_bytes": pa.array(rng.lognormal(12, 0.8, n).astype(np.int64)),
        "fetch_ms": pa.array(rng.lognormal(5, 1, n).astype(np.int32)), "requests": pa.array(np.ones(n, np.int32)),
        "at": pa.array(((began + numbers / 5000) * 1e6).astype(np.int64)).cast(pa.timestamp("us", "UTC")),
        "original_width": pa.array(np.where(kept, 800, 0).astype(np.int32)),
        "original_height": pa.array(np.where(kept, 600, 0).astype(np.int32)),
        "source_id": pick(["photos"], np.zeros(n, np.int32)),
        "source_url": pa.array([f"https://img{h}.host.example/{i}.jpg" for h, i in zip(hosts, numbers, strict=True)]),
        "licence": pick(["CC-BY-4.0", "CC0-1.0"], hosts % 2),
    })  # fmt: skip


def unit_name(number: int) -> str:
    """32 hexadecimal digits, as hashes are: they do not compress."""
    return f"{(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128:032x}"


def peak_mb() -> float:
    """The most memory that this process has had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def timed(figures: Figures, name: str) -> Iterator[None]:
    """Note the seconds by the clock and of this process's processor time."""
    clock, cpu = time.monotonic(), time.process_time()
    yield
    figures[f"{name}_s"], figures[f"{name}_cpu_s"] = time.monotonic() - clock, time.process_time() - cpu


if __name__ == "__main__":
    sys.exit(main())
