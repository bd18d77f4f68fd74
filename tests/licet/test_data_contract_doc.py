"""docs/data-contract.md says what is true: its examples run, and its table is the sample."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from licet.manifest import ShardEntry, write_manifest
from licet.policy import Purpose
from licet.records import SAMPLE_SCHEMA, Sample
from licet.shards import EXTENSIONS, FORMATS
from licet.shards.index import INDEX_SCHEMA

DOCUMENT = (Path(__file__).parents[2] / "docs" / "data-contract.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # examples of three lines leave files to the collector
def test_the_examples_read_the_same_payloads_from_all_formats(
    tmp_path: Path, samples: list[Sample], entry_of: Callable[..., ShardEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_of(tmp_path, "u0", samples, FORMATS)
    write_manifest(tmp_path / "manifest.json", [entry], Purpose.RESEARCH, "policy")
    for format in FORMATS:
        for file in (tmp_path / "shards" / "u0").glob(f"a{EXTENSIONS[format]}*"):
            file.rename(tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    assert len(BLOCKS) == 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing `tfrecord` imports torch, which may warn
        for block in BLOCKS:
            assert len(block.splitlines()) <= 3
            exec(compile(block, "docs/data-contract.md", "exec"), names)
    payloads = [sample.payload for sample in samples]
    for found in ("payloads", "tar_payloads", "lmdb_payloads", "parquet_payloads", "file_payloads"):
        assert names[found] == payloads
    assert (names["offset"], names["licence"]) == (0, samples[0].licence)
    assert names["root"]["totals"]["rows"] == sum(page["rows"][0].as_py() for page in names["pages"]) == 12


def test_the_tables_name_every_field_in_order() -> None:
    tables = [re.findall(r"^\| (.*?) \|", part, re.MULTILINE) for part in DOCUMENT.split("\n## ")]
    columns = [re.findall(r"`(\w+)`", " ".join(table)) for table in tables]
    assert SAMPLE_SCHEMA.names in columns
    assert [*INDEX_SCHEMA.names[:5], "Sample", "payload"] in columns
