"""Connected components of a graph in Spark: which node each node belongs to, by the smallest id that leads to it.

Alternating large-star and small-star steps (Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii: Connected Components
in MapReduce and Beyond, SoCC 2014): each turn hangs nodes below smaller ones until every node hangs below its
component's smallest. The number of turns grows with the logarithm of the number of nodes, squared at worst, and the
result depends on nothing but the edges. Knows numbers, not what they stand for.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from licet.errors import LicetError

MAX_TURNS = 40
NOTHING = (0, 0)


def components(edges: DataFrame, keep: Callable[[DataFrame, str], DataFrame]) -> DataFrame:
    """(id, root) of every node that has an edge. `edges` has bigints (a, b), a > b, each pair once.

    `keep` stores an intermediate result under a name and gives it back: each turn's plan then starts from a file, or
    plans would double with every turn. Raises `LicetError` should it not come to an end.
    """
    before = _mark(edges)
    if before == NOTHING:
        return edges.toDF("id", "root")
    for turn in range(MAX_TURNS):
        edges = keep(_small_star(_large_star(edges)), f"turn-{turn}")
        after = _mark(edges)
        if after == before:
            hung = edges.select(F.col("a").alias("id"), F.col("b").alias("root"))
            return hung.union(hung.select("root", "root").distinct())
        before = after
    raise LicetError(f"components were not found in {MAX_TURNS} turns: choose a smaller near_distance.")


def _large_star(edges: DataFrame) -> DataFrame:
    """Each node's larger neighbours, hung below the smallest of the node and its neighbours."""
    both = edges.select(F.col("a").alias("u"), F.col("b").alias("v")).union(edges.select("b", "a"))
    smallest = both.groupBy("u").agg(F.min("v").alias("v")).select("u", F.least("u", "v").alias("m"))
    return both.where("v > u").join(smallest, "u").select(F.col("v").alias("a"), F.col("m").alias("b")).distinct()


def _small_star(edges: DataFrame) -> DataFrame:
    """Each node and its smaller neighbours, hung below the smallest of these."""
    smallest = edges.groupBy("a").agg(F.min("b").alias("m"))
    others = edges.join(smallest, "a").where("b != m").select("b", "m")
    return smallest.union(others).toDF("a", "b").distinct()


def _mark(edges: DataFrame) -> tuple[int, int]:
    """A fingerprint of a set of edges: their number and the sum of their hashes."""
    row = edges.agg(F.count("*").alias("n"), F.coalesce(F.bit_xor(F.xxhash64("a", "b")), F.lit(0)).alias("x")).first()
    return (row["n"], row["x"]) if row is not None else NOTHING
