"""Pairs of 64-bit perceptual hashes that differ in few bits, found in Spark without comparing all with all.

The 64 bits are cut into blocks. Where at most d bits differ, at most d blocks do, so that two such hashes agree in all
other blocks, whichever these are: each hash is entered once for each choice of blocks, under the bits that the choice
keeps, and only hashes under the same entry are compared. More blocks make more entries with fewer hashes under each:
how many pay depends on how many hashes there are. (Manku, Jain, Das Sarma: Detecting Near-Duplicates for Web Crawling,
WWW 2007.)

Two rules keep images that are nearly all alike from costing the square of their number:
- a flat hash (`has_detail`) is compared with nothing: it says that there is no picture, not which one;
- under an entry, a hash is compared with the 256 that follow it in numeric order, and no more. Entries of so many are
  rare, and a pair that one of them misses stands under other entries as well.
"""

from __future__ import annotations

import itertools

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

BITS = 64
MIN_SET_BITS = 8
"""A hash with fewer bits set, or fewer unset, is flat."""

MIN_ROWS = 3
"""A hash whose eight bytes are fewer different ones is flat: stripes, borders, a gradient."""

COMPARED = 256
"""Hashes of one entry that one hash is compared with."""

_ENTRY_COST = 20
"""What entering a hash costs, in comparisons."""


def hash_of(phash: Column) -> Column:
    """A perceptual hash in 16 hexadecimal digits as a bigint; null for anything else."""
    high, low = (F.conv(F.substring(phash, start, 8), 16, 10).cast("bigint") for start in (1, 9))
    return F.when(phash.rlike("^[0-9a-f]{16}$"), F.shiftleft(high, 32).bitwiseOR(low))


def has_detail(phash: Column) -> Column:
    """Whether a perceptual hash tells images apart: it is not that of a blank, evenly shaded or striped one."""
    rows = F.array(*(F.substring(phash, start, 2) for start in range(1, 16, 2)))
    enough = F.bit_count(hash_of(phash)).between(MIN_SET_BITS, BITS - MIN_SET_BITS)
    return enough & (F.size(F.array_distinct(rows)) >= MIN_ROWS)


def near_pairs(hashes: DataFrame, distance: int) -> DataFrame:
    """Pairs (a, b), a > b, of ids whose hashes differ in 1 to `distance` bits.

    `hashes` has `id` and `hash`, both bigint, each hash once.
    """
    masks = F.array(*(F.lit(_signed(mask)).cast("bigint") for mask in masks_for(distance, hashes.count())))
    entered = hashes.withColumn("mask", F.explode(masks)).withColumn("entry", F.col("hash").bitwiseAND(F.col("mask")))
    following = Window.partitionBy("mask", "entry").orderBy("hash").rowsBetween(1, COMPARED)
    compared = entered.withColumn("others", F.collect_list(F.struct("id", "hash")).over(following))
    near = compared.select("id", "hash", F.explode("others").alias("other")).where(
        F.bit_count(F.col("hash").bitwiseXOR(F.col("other.hash"))) <= distance
    )
    a, b = F.greatest("id", "other.id"), F.least("id", "other.id")
    return near.select(a.alias("a"), b.alias("b")).distinct()


def masks_for(distance: int, n_hashes: int) -> list[int]:
    """The bits to be kept by each choice of blocks, with the number of blocks that costs least for so many hashes."""
    choices = [_masks(distance, n_blocks) for n_blocks in range(distance + 1, distance + 5)]
    return min(choices, key=lambda masks: _cost(masks, n_hashes))


def _cost(masks: list[int], n_hashes: int) -> float:
    """What a list of masks costs for each of so many hashes, in comparisons."""
    n_kept = min(mask.bit_count() for mask in masks)
    return len(masks) * (_ENTRY_COST + min(COMPARED, n_hashes / (1 << n_kept)))


def _masks(distance: int, n_blocks: int) -> list[int]:
    """One mask for each choice of `n_blocks - distance` blocks of nearly equal length."""
    ends = [BITS * number // n_blocks for number in range(n_blocks + 1)]
    blocks = [(1 << end) - (1 << start) for start, end in itertools.pairwise(ends)]
    return [sum(chosen) for chosen in itertools.combinations(blocks, n_blocks - distance)]


def _signed(mask: int) -> int:
    """64 bits as SQL's signed bigint has them."""
    return mask - (1 << BITS) if mask >> (BITS - 1) else mask
