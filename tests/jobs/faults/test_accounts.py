"""The account of an output sees a row that is lost, one that is there twice, and one without a terminal state."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from benchmarks.accounts import count

PLANNED = {"a", "b", "c"}
KEPT = [{"row_id": name, "state": "kept", "reason": ""} for name in "ab"]
OUTCOMES = [*KEPT, {"row_id": "c", "state": "rejected", "reason": "http-status"}]
IN_SHARDS = Counter("ab")


def test_a_whole_output_is_whole() -> None:
    found = count(3, PLANNED, OUTCOMES, IN_SHARDS, "id")
    assert found.whole
    assert (found.kept, found.rejected) == (2, 1)


@pytest.mark.parametrize(
    ("n_listed", "planned", "outcomes", "in_shards", "expected"),
    [
        (4, PLANNED, OUTCOMES, IN_SHARDS, (1, 0, 0)),  # the plan lacks a row
        (3, PLANNED, OUTCOMES[1:], IN_SHARDS, (1, 0, 1)),  # a planned row has no outcome
        (3, PLANNED, OUTCOMES, Counter("a"), (1, 0, 0)),  # a kept row is in no shard
        (3, PLANNED, [*OUTCOMES, OUTCOMES[0]], IN_SHARDS, (0, 1, 1)),  # two outcomes
        (3, PLANNED, OUTCOMES, Counter("abb"), (0, 1, 0)),  # twice in shards
        (3, PLANNED, [*KEPT, {**OUTCOMES[2], "reason": ""}], IN_SHARDS, (0, 0, 1)),  # rejected for no reason
        (3, PLANNED, [*OUTCOMES, {**OUTCOMES[2], "row_id": "d"}], IN_SHARDS, (0, 0, 1)),  # nobody planned it
    ],
)
def test_what_is_wrong_is_counted(
    n_listed: int, planned: set[str], outcomes: list[dict[str, Any]], in_shards: Counter[str], expected: Any
) -> None:
    found = count(n_listed, planned, outcomes, in_shards, "id")
    assert (found.lost, found.duplicated, found.unsettled) == expected
    assert not found.whole
