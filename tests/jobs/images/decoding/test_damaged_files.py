"""A short run of what `benchmarks/decoders.py` does at length."""

from __future__ import annotations

from benchmarks.decoders import fuzz


def test_damaged_files_are_decoded_or_refused_with_a_reason() -> None:
    found = fuzz(300, processes=1)
    assert found["escapes"] == []
    assert sum(found["reasons"].values()) == 300
    assert {"decoded", "damaged-image", "not-an-image"} <= found["reasons"].keys()
    assert found["seeds_decode_afterwards"]
