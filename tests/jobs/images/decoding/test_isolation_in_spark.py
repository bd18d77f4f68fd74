"""The same in Spark's Python workers, which are forked from a daemon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def test_spark_workers_decode_in_processes_of_their_own(spark: Any, here: str) -> None:
    def work(numbers: Iterable[int]) -> Iterator[tuple[int, str, int, int]]:
        import os
        import sys

        from jobs.images.decoding.isolation import Crash, isolated_for

        if here not in sys.path:
            sys.path.append(here)
        pool = isolated_for("standins:worker", {"in": "spark"}, cpu_s=5.0)
        for number in numbers:
            outcome = pool.run(b"%d" % number, {"do": "segfault" if number % 5 == 0 else "echo"})
            if isinstance(outcome, Crash):
                yield number, outcome.reason, 0, os.getpid()
            else:
                yield number, outcome["said"].decode(), outcome["pid"], os.getpid()

    answers = spark.sparkContext.parallelize(range(40), 4).mapPartitions(work).collect()
    assert [said for _, said, _, _ in answers] == [
        "decoder-crashed" if number % 5 == 0 else str(number) for number in range(40)
    ]
    decoders, workers = ({answer[place] for answer in answers} for place in (2, 3))
    assert not decoders & workers
