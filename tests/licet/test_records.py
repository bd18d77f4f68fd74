"""The records that everything passes on."""

from __future__ import annotations

from dataclasses import asdict, fields

import pyarrow as pa

from licet.records import OUTCOME_SCHEMA, SAMPLE_SCHEMA, Rejected, Sample, row_id_of


def test_a_row_id_depends_on_source_url_and_occurrence_and_on_nothing_else() -> None:
    assert row_id_of("photos", "http://a.example/1.jpg", 0) == "6b0bb661def7cb0e6d086efaab053dcb"
    ids = {
        row_id_of(source, url, occurrence)
        for source in ("photos", "photo")
        for url in ("http://a.example/1.jpg", "shttp://a.example/1.jpg", "http://a.example/1.jpg0")
        for occurrence in (0, 1)
    }
    assert len(ids) == 12
    assert all(len(i) == 32 and set(i) <= set("0123456789abcdef") for i in ids)


def test_a_url_that_is_not_text_still_has_an_id() -> None:
    assert row_id_of("photos", "http://a.example/\udcff", 0) != row_id_of("photos", "http://a.example/?", 0)


def test_the_schema_has_the_fields_of_a_sample_in_order_and_no_nulls(samples: list[Sample]) -> None:
    assert SAMPLE_SCHEMA.names == [f.name for f in fields(Sample)]
    table = pa.Table.from_pylist([asdict(sample) for sample in samples], schema=SAMPLE_SCHEMA)
    assert [Sample(**row) for row in table.to_pylist()] == samples
    assert not any(field.nullable for field in SAMPLE_SCHEMA)
    numbers = {"width", "height", "original_width", "original_height"}
    for field in SAMPLE_SCHEMA:
        expected = pa.binary() if field.name == "payload" else pa.int32() if field.name in numbers else pa.string()
        assert field.type == expected


def test_an_outcome_tells_of_a_rejection_and_of_a_sample_all_but_its_payload() -> None:
    assert {f.name for f in fields(Rejected)} <= set(OUTCOME_SCHEMA.names)
    of_its_own = {"key", "payload", "payload_format", "decision"}
    assert set(SAMPLE_SCHEMA.names) - of_its_own <= set(OUTCOME_SCHEMA.names)
    assert all(
        OUTCOME_SCHEMA.field(n).type == SAMPLE_SCHEMA.field(n).type for n in set(SAMPLE_SCHEMA.names) - of_its_own
    )
