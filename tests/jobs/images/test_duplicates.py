"""Copies: every pair that is near enough is found, clusters do not depend on the order, and obligations unite."""

from __future__ import annotations

import datetime
import io
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagehash
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from PIL import Image
from skimage import data as photos

from jobs.catalog import Catalog, CommitRow
from jobs.images.alike import COMPARED, has_detail, masks_for, near_pairs
from jobs.images.components import components
from jobs.images.dedup_options import DedupOptions
from jobs.images.duplicates import reject_duplicates
from jobs.images.outcomes import write_outcomes
from jobs.layout import SHARDS
from licet.errors import UsageError
from licet.policy import Policy, Purpose
from licet.records import OUTCOME_SCHEMA

RESEARCH = Policy(Purpose.RESEARCH)
NEAR = DedupOptions("near", 4)


def flipped(value: int, *bits: int) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def frame(spark: Any, hashes: Sequence[int]) -> Any:
    ids = pa.array(range(len(hashes)), pa.int64())
    return spark.createDataFrame(pa.table({"id": ids, "hash": pa.array(map(signed, hashes), pa.int64())}))


@pytest.mark.parametrize("distance", [1, 3, 4, 8])
@pytest.mark.parametrize("n_hashes", [100, 10_000_000, 10_000_000_000])
def test_any_two_hashes_that_are_near_enough_agree_under_some_mask(distance: int, n_hashes: int) -> None:
    masks = masks_for(distance, n_hashes)
    rng = random.Random(distance)
    for _ in range(500):
        difference = flipped(0, *rng.sample(range(64), distance))
        assert any(not difference & mask for mask in masks)


def test_more_hashes_are_entered_under_more_bits() -> None:
    few, many = (min(mask.bit_count() for mask in masks_for(4, n)) for n in (1000, 1_000_000_000))
    assert few < many
    assert many >= 20


def test_pairs_are_those_that_a_comparison_of_all_finds(spark: Any) -> None:
    rng = random.Random(0)
    hashes = [rng.getrandbits(64) for _ in range(300)]
    hashes += [flipped(h, *rng.sample(range(64), rng.randint(1, 7))) for h in hashes[:200]]
    expected = {
        (b, a)
        for a in range(500)
        for b in range(a + 1, 500)
        if (hashes[a] ^ hashes[b]).bit_count() <= NEAR.near_distance
    }
    found = [(row.a, row.b) for row in near_pairs(frame(spark, hashes), NEAR.near_distance).collect()]
    assert len(expected) > 50
    assert set(found) == expected
    assert len(found) == len(set(found))


def test_hashes_that_crowd_under_one_entry_cost_no_square_and_still_meet(spark: Any) -> None:
    """All agree in 52 bits: each is compared with so many of them only, under each entry."""
    base = random.Random(1).getrandbits(64) >> 12 << 12
    crowd = [base | low for low in range(4 * COMPARED)]
    pairs = near_pairs(frame(spark, crowd), 1).collect()
    assert {(row.a, row.b) for row in pairs} >= {(low + 1, low) for low in range(0, len(crowd), 2)}
    assert all((crowd[row.a] ^ crowd[row.b]).bit_count() == 1 for row in pairs)


def test_flat_hashes_are_near_nothing(spark: Any) -> None:
    def phash(image: Image.Image) -> str:
        return str(imagehash.phash(image))

    stripes = Image.linear_gradient("L")
    flat = ["0" * 16, "8" + "0" * 15, "f" * 16, "00ff" * 4, phash(Image.new("L", (64, 64), 200)), phash(stripes)]
    pictures = [phash(Image.fromarray(getattr(photos, name)())) for name in ("chelsea", "coffee", "page", "moon")]
    table = spark.createDataFrame([(p,) for p in flat + pictures + [""]], "phash string")
    found = [row.kept for row in table.select(has_detail(table.phash).alias("kept")).collect()]
    assert found[: len(flat)] == [False] * len(flat)
    assert found[len(flat) : -1] == [True] * len(pictures)
    assert not found[-1]


def test_components_hang_below_their_smallest_node(spark: Any, tmp_path: Path) -> None:
    rng = random.Random(3)
    groups = [rng.sample(range(i * 1000, i * 1000 + 1000), size) for i, size in enumerate((2, 3, 40, 7))]
    paths = [pair for group in groups for pair in itertools.pairwise(group)]  # in no order: a long chain
    star = [(5000 + n, 5000) for n in range(1, 30)]
    edges = {(max(pair), min(pair)) for pair in paths + star}

    def keep(rows: Any, name: str) -> Any:
        rows.write.parquet(str(tmp_path / name))
        return spark.read.parquet(str(tmp_path / name))

    found = components(spark.createDataFrame(sorted(edges), "a bigint, b bigint"), keep).collect()
    expected = {node: min(group) for group in [*groups, [5000 + n for n in range(30)]] for node in group}
    assert len(found) == len(expected)
    assert {row.id: row.root for row in found} == expected


class Output:
    """A catalog of kept rows, as units leave it."""

    def __init__(self, spark: Any, folder: Path) -> None:
        self.catalog = Catalog(spark, folder / "catalog")
        self.rows = 0

    def run(self, rows: list[dict[str, Any]], generation: int) -> None:
        """One more plan with one unit, whose rows were all kept."""
        by_type = {"string": "", "bool": False, "timestamp[us, tz=UTC]": datetime.datetime.now(datetime.timezone.utc)}
        empty = {field.name: by_type.get(str(field.type), 0) for field in OUTCOME_SCHEMA}
        unit = {"unit_id": f"u{generation}", "generation": generation}
        outcomes = [empty | unit | {"state": "kept", "source_url": f"http://x/{r['row_id']}"} | r for r in rows]
        path = f"{SHARDS}/u{generation}/a.outcomes.parquet"
        (self.catalog.output / path).parent.mkdir(parents=True)
        write_outcomes(self.catalog.output / path, outcomes)
        plan = [{"row_id": r["row_id"], "generation": generation, "ordinal": i, "line": i} for i, r in enumerate(rows)]
        schema = pa.schema({"row_id": pa.string(), "generation": pa.int32(), "ordinal": pa.int64(), "line": pa.int64()})
        write_deltalake(str(self.catalog.path / "plan"), pa.Table.from_pylist(plan, schema), mode="append")
        counts = {"planned": len(rows), "kept": len(rows)}
        frozen = CommitRow("plan", f"p{generation}", generation, planned=len(rows))
        self.catalog.commit(
            [frozen, CommitRow("unit", f"u{generation}", generation, "a", outcomes_path=path, **counts)]
        )

    def outcomes(self) -> dict[str, Any]:
        return {row.row_id: row for row in self.catalog.current_outcomes().collect()}


PICTURE = 0x0F1E_2D3C_4B5A_6978


def row(row_id: str, sha256: str, phash: int, licence: str = "CC0-1.0", creator: str = "") -> dict[str, Any]:
    credit = f"{creator} ({licence})" if creator else ""
    return {
        "row_id": row_id, "sha256": sha256, "phash": f"{phash:016x}", "licence": licence, "creator": creator,
        "attribution": credit,
    }  # fmt: skip


def test_near_copies_of_several_runs_become_one_row_with_all_obligations(spark: Any, tmp_path: Path) -> None:
    output = Output(spark, tmp_path)
    far = 0xA53C_0FF0_96C3_5AA5
    first_run = [
        row("other", "s0", far),
        row("first", "s1", PICTURE, "CC-BY-4.0", "Zoë"),
        row("same-bytes", "s1", PICTURE, "MIT", "Åsa"),
        row("near", "s2", flipped(PICTURE, 0, 17, 40, 63), "CC-BY-SA-4.0", "Bo"),
        row("near-the-near", "s3", flipped(PICTURE, 0, 17, 40, 63, 5, 9), "CC0-1.0"),
        row("blank", "s4", 0),
        row("another-blank", "s5", 1),
        row("five-bits-off", "s6", flipped(far, 1, 2, 3, 4, 5)),
    ]
    output.run(first_run, 1)
    assert reject_duplicates(output.catalog, RESEARCH, NEAR) == 3
    found = output.outcomes()
    kept = {row_id for row_id, outcome in found.items() if outcome.state == "kept"}
    assert kept == {"other", "first", "blank", "another-blank", "five-bits-off"}
    assert [found[r].reason for r in ("same-bytes", "near", "near-the-near")] == [
        "duplicate", "near-duplicate", "near-duplicate",
    ]  # fmt: skip
    assert {found[r].duplicate_of for r in ("same-bytes", "near", "near-the-near")} == {"first"}
    assert found["near"].detail == "its hash differs in 4 of 64 bits from that of http://x/first"
    assert found["first"].licence == "CC-BY-4.0 AND CC-BY-SA-4.0 AND CC0-1.0 AND MIT"
    assert found["first"].unit_id == "u1"
    assert found["first"].generation == 2
    assert reject_duplicates(output.catalog, RESEARCH, NEAR) == 0
    assert output.catalog.next_generation() == 3

    output.run([row("later", "s7", flipped(PICTURE, 7), "MIT", "Zoë"), row("alone", "s8", ~far & (1 << 64) - 1)], 3)
    assert reject_duplicates(output.catalog, RESEARCH, NEAR) == 1
    found = output.outcomes()
    assert (found["later"].reason, found["later"].duplicate_of) == ("near-duplicate", "first")
    assert found["first"].licence == "CC-BY-4.0 AND CC-BY-SA-4.0 AND CC0-1.0 AND MIT"
    assert found["first"].creator == "Zoë; Åsa; Bo"
    assert found["first"].attribution == "Zoë (CC-BY-4.0); Åsa (MIT); Bo (CC-BY-SA-4.0); Zoë (MIT)"
    assert found["alone"].state == "kept"
    assert not (tmp_path / "shards" / "_dedup").exists()


@pytest.mark.parametrize(("mode", "left"), [("none", 3), ("exact", 2)])
def test_bytes_alone_count_unless_asked(spark: Any, tmp_path: Path, mode: Any, left: int) -> None:
    output = Output(spark, tmp_path)
    output.run([row("a", "s1", PICTURE), row("b", "s1", PICTURE), row("c", "s2", flipped(PICTURE, 3))], 1)
    assert reject_duplicates(output.catalog, RESEARCH, DedupOptions(mode)) == 3 - left
    assert sum(outcome.state == "kept" for outcome in output.outcomes().values()) == left


def test_a_united_licence_that_the_policy_refuses_takes_the_whole_cluster_out(spark: Any, tmp_path: Path) -> None:
    output = Output(spark, tmp_path)
    rows = [row("free", "s1", PICTURE), row("nc", "s2", flipped(PICTURE, 3), "CC-BY-NC-4.0", "Zoë")]
    output.run(rows, 1)
    assert reject_duplicates(output.catalog, Policy(Purpose.COMMERCIAL_TRAINING), NEAR) == 2
    found = output.outcomes()
    assert (found["free"].reason, found["free"].rule) == ("denied", "licence-non-commercial")
    assert (found["nc"].reason, found["nc"].duplicate_of) == ("near-duplicate", "free")


@pytest.mark.parametrize("mode", ["exact", "near"])
def test_a_copy_of_what_was_opted_out_is_not_kept(spark: Any, tmp_path: Path, mode: Any) -> None:
    output = Output(spark, tmp_path)
    refused = {"state": "rejected", "stage": "rights", "reason": "x-robots-tag", "phash": ""}
    rows = [
        row("elsewhere", "s1", PICTURE),
        row("opted-out", "s1", 0) | refused,
        row("unlike", "s2", ~PICTURE & 2**64 - 1),
    ]
    output.run(rows, 1)
    assert reject_duplicates(output.catalog, RESEARCH, DedupOptions(mode)) == 1
    found = output.outcomes()
    assert (found["elsewhere"].reason, found["elsewhere"].duplicate_of) == ("opted-out-copy", "opted-out")
    assert found["elsewhere"].detail == "x-robots-tag: http://x/opted-out"
    assert (found["opted-out"].reason, found["unlike"].state) == ("x-robots-tag", "kept")
    assert reject_duplicates(output.catalog, RESEARCH, DedupOptions(mode)) == 0


def test_a_photo_saved_again_smaller_is_near_and_another_photo_is_not() -> None:
    """The default distance, on real photos."""
    chelsea = Image.fromarray(photos.chelsea())
    buffer = io.BytesIO()
    chelsea.resize((300, 200)).save(buffer, "JPEG", quality=60)
    again, other = Image.open(buffer), Image.fromarray(photos.coffee())
    assert imagehash.phash(chelsea) - imagehash.phash(again) <= DedupOptions().near_distance
    assert imagehash.phash(chelsea) - imagehash.phash(other) > 2 * DedupOptions().near_distance


@pytest.mark.parametrize("distance", [-1, 11])
def test_a_distance_that_makes_no_sense_is_refused(distance: int) -> None:
    with pytest.raises(UsageError, match="near_distance"):
        DedupOptions("near", distance)
