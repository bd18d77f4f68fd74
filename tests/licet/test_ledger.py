"""Ledgers of a small real manifest, and what is made from them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from licet.errors import ManifestDamagedError, MismatchError
from licet.ledger import (
    READ_TERMS,
    as_dict,
    attribution_text,
    build_ledger,
    markdown_text,
    model_card_section,
    obligations_of,
    safe_link,
    safetensors_metadata,
)
from licet.manifest import Manifest, ShardEntry, ShardFile, write_manifest
from licet.policy import Policy, Purpose
from licet.records import Sample, row_id_of
from licet.selection import Where, select
from licet.shards import open_writer
from licet.shards.index import ShardIndex, content_hash, file_sha256, index_path, total_by

POLICY = Policy(Purpose.COMMERCIAL_TRAINING)


def sample(number: int, **changes: str) -> Sample:
    url = f"https://photos.example/{number}.jpg"
    values = {
        "licence": "CC-BY-4.0",
        "licence_url": "https://creativecommons.org/licenses/by/4.0/",
        "creator": "Ada",
        "attribution": f"Thing {number}",
        "source_page": f"https://photos.example/page/{number}",
        "source_id": "photos",
        "language": "en",
    }
    rest = {"width": 8, "height": 8, "original_width": 8, "original_height": 8, "sha256": "0" * 64, "phash": "0" * 16}
    fixed = {"caption": "", "rights": "{}", "decision": "licence-with-obligations", "source_url": url}
    key = row_id_of("photos", url, 0)
    return Sample(key=key, payload=b"\xff\xd8", payload_format="jpg", **rest, **{**fixed, **values, **changes})


def manifest_of(folder: Path, *units: list[Sample], dead: tuple[str, ...] = ()) -> Manifest:
    """A manifest of one TFRecord shard for each unit; rows whose key is in `dead` are not live."""
    return write_manifest(
        folder / "manifest.json",
        [_entry(folder, f"unit-{number}", samples, dead) for number, samples in enumerate(units)],
        POLICY.purpose,
        POLICY.hash,
    )


def _entry(folder: Path, name: str, samples: list[Sample], dead: tuple[str, ...]) -> ShardEntry:
    path = str(folder / f"{name}.tfrecord")
    with open_writer("tfrecord", path) as writer:
        for one in samples:
            writer.add(one)
    index = ShardIndex.open(index_path(path)).revised({key: {"live": False} for key in dead})
    revised = path + ".revised.index.arrow"
    index.write(revised)
    file = ShardFile(path, file_sha256(path), Path(path).stat().st_size, revised, file_sha256(revised))
    live = index.table.filter(index.table["live"])
    counts = [total_by([index], column) for column in ("licence", "language", "source_id")]
    content = content_hash(live["content"].to_pylist())
    return ShardEntry(name, len(samples), live.num_rows, content, *counts, {"tfrecord": file})


def test_a_ledger_counts_live_rows_by_source_licence_and_language(tmp_path: Path) -> None:
    gone = sample(3)
    manifest = manifest_of(
        tmp_path,
        [sample(0), sample(1, licence="CC0-1.0", language="de")],
        [sample(2, source_id="other"), gone],
        dead=(gone.key,),
    )
    ledger = build_ledger(manifest)
    assert ledger.rows == 3 == manifest.totals["live_rows"]
    assert ledger.licences == {"CC-BY-4.0": 2, "CC0-1.0": 1}
    assert ledger.sources == {"other": 1, "photos": 2}
    assert ledger.languages == {"de": 1, "en": 2}
    assert ledger.obligations == ("attribution",)
    assert [credit.attribution for credit in ledger.credits] == ["Thing 0", "Thing 2", "Thing 1"]
    assert ledger.manifest_identity == manifest.identity and ledger.selection_hash is None


def test_rows_that_share_a_credit_are_one_credit_across_shards(tmp_path: Path) -> None:
    shared = {"attribution": "A series", "source_page": "https://photos.example/series"}
    ledger = build_ledger(manifest_of(tmp_path, [sample(0, **shared), sample(1, **shared)], [sample(2, **shared)]))
    (credit,) = ledger.credits
    assert credit.rows == 3 and credit.source == "https://photos.example/series"


def test_a_credit_without_a_page_names_the_file(tmp_path: Path) -> None:
    ledger = build_ledger(manifest_of(tmp_path, [sample(0, source_page="")]))
    assert ledger.credits[0].source == "https://photos.example/0.jpg"


def test_a_selection_narrows_the_ledger_to_its_rows(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sample(0), sample(1, licence="MIT")], [sample(2, licence="MIT")])
    selection = select(manifest, Where(licences=("MIT",)))
    ledger = build_ledger(manifest, selection)
    assert ledger.rows == 2 and ledger.licences == {"MIT": 2} and ledger.selection_hash == selection.hash
    assert ledger.obligations == ("attribution", "keep-notice")
    assert selection.hash in model_card_section(ledger)


def test_a_selection_of_another_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = manifest_of(tmp_path / "other", [sample(7)])
    with pytest.raises(MismatchError, match="select again"):
        build_ledger(manifest_of(tmp_path, [sample(0)]), select(other, Where()))


def test_an_altered_index_is_told(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sample(0)])
    path = tmp_path / "unit-0.tfrecord.revised.index.arrow"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ManifestDamagedError, match="altered"):
        build_ledger(manifest)


def test_a_ledger_made_again_gives_the_same_bytes(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sample(n, licence=("MIT", "CC0-1.0")[n % 2]) for n in range(20)])
    first, second = build_ledger(manifest), build_ledger(manifest)
    assert json.dumps(as_dict(first)) == json.dumps(as_dict(second))
    assert as_dict(first)["purpose"] == "commercial-training" and len(as_dict(first)["credits"]) == 20


def test_credits_beyond_the_limit_are_counted_and_said_to_be_left_out(tmp_path: Path) -> None:
    ledger = build_ledger(manifest_of(tmp_path, [sample(n) for n in range(5)]), max_credits=2)
    assert len(ledger.credits) == 2 and ledger.credits_left_out == 3 and ledger.rows == 5
    assert "3 more credits are left out" in attribution_text(ledger)
    assert safetensors_metadata(ledger)["licet.credits_left_out"] == "3"


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-NC-4.0 OR CC0-1.0", ()),
        ("CC-BY-SA-4.0 AND MIT", ("attribution", "keep-notice", "share-alike")),
        ("LicenseRef-House", (READ_TERMS,)),
        ("NOASSERTION", (READ_TERMS,)),
        ("no licence at all", (READ_TERMS,)),
    ],
)
def test_terms_that_nobody_knows_are_never_nothing(licence: str, expected: tuple[str, ...]) -> None:
    assert obligations_of(licence, Purpose.COMMERCIAL_TRAINING) == expected


def test_the_attribution_file_gives_title_author_source_and_licence(tmp_path: Path) -> None:
    text = attribution_text(build_ledger(manifest_of(tmp_path, [sample(0), sample(1, licence="CC0-1.0")])))
    assert "## [CC-BY-4.0](https://spdx.org/licenses/CC-BY-4.0.html)" in text
    assert (
        "- Thing 0, by Ada. [source](<https://photos.example/page/0>) · "
        "[licence text](<https://creativecommons.org/licenses/by/4.0/>)" in text
    )
    assert text.index("CC-BY-4.0") < text.index("Thing 0") < text.index("CC0-1.0") < text.index("Thing 1")


def test_the_model_card_names_manifest_licences_obligations_and_every_credit(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sample(n) for n in range(4)])
    card = model_card_section(build_ledger(manifest))
    assert card.startswith("## Training data\n") and manifest.identity in card
    assert "| 4 | attribution |" in card and "| photos | 4 |" in card
    assert all(f"Thing {n}, by Ada" in card for n in range(4))


def test_safetensors_metadata_is_flat_text_that_reads_back(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sample(0), sample(1, licence="CC0-1.0")])
    metadata = safetensors_metadata(build_ledger(manifest))
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items())
    assert metadata["licet.manifest"] == manifest.identity and metadata["licet.rows"] == "2"
    assert json.loads(metadata["licet.licences"]) == {"CC-BY-4.0": 1, "CC0-1.0": 1}
    assert json.loads(metadata["licet.obligations"]) == ["attribution"]
    assert [c["attribution"] for c in json.loads(metadata["licet.credits"])] == ["Thing 0", "Thing 1"]
    assert metadata["licet.credits_left_out"] == "0" and "licet.credits_note" not in metadata


def test_safetensors_metadata_stays_under_its_limit_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, [sample(n) for n in range(50)])
    metadata = safetensors_metadata(build_ledger(manifest), max_credits_bytes=2000)
    shown = len(json.loads(metadata["licet.credits"]))
    assert len(metadata["licet.credits"].encode()) <= 2000 and 0 < shown < 50
    assert metadata["licet.credits_left_out"] == str(50 - shown)
    assert manifest.identity in metadata["licet.credits_note"]


def test_hostile_credits_become_neither_markup_nor_links(tmp_path: Path) -> None:
    hostile = sample(
        0,
        attribution="<script>x</script> [click](javascript:y)\n# Heading | cell",
        creator="`code` ![i](https://evil.example/i.png)",
        source_page="javascript:alert(1)",
        licence_url="https://a.example/)> [x](https://evil.example)",
    )
    ledger = build_ledger(manifest_of(tmp_path, [hostile]))
    for text in (attribution_text(ledger), model_card_section(ledger)):
        assert "<script" not in text.replace("\\<", "") and "\n# Heading" not in text
        assert not re.search(r"(?<!\\)\]\((?!<?https://spdx\.org/)", text)


@pytest.mark.parametrize("url", ["https://a.example/x?y=z&q=%20#f", "HTTP://a.example", "http://127.0.0.1:80/ü"])
def test_web_addresses_are_linked(url: str) -> None:
    assert safe_link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        " https://a.example",
        "https://a.example/ b",
        "https://a/\n",
        'https://a/"x',
        "file:///etc",
    ],
)
def test_anything_else_is_not_linked(url: str) -> None:
    assert safe_link(url) == ""


def test_plain_words_are_markdown_as_they_are() -> None:
    words = "Plain words - by Zoë (2019), no. 3 & more!"
    assert markdown_text(words) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# heading", "\\# heading"),
        ("1. list", "1\\. list"),
        ("- list", "\\- list"),
        ("*a* [b](c) <d> e|f", "\\*a\\* \\[b\\](c) \\<d\\> e\\|f"),
        ("two\n\n# lines", "two # lines"),
        ("&lt;", "&amp;lt;"),
        ("see https://a.example", "see https\\://a.example"),
    ],
)
def test_markup_in_text_is_shown_as_it_is_written(text: str, expected: str) -> None:
    assert markdown_text(text) == expected


def test_a_merged_duplicate_is_credited_to_everybody(tmp_path: Path) -> None:
    merged = replace(
        sample(0), licence="CC-BY-4.0 AND MIT", creator="Ada; Bo", attribution="Thing, by Ada; Thing, by Bo"
    )
    ledger = build_ledger(manifest_of(tmp_path, [merged]))
    assert ledger.obligations == ("attribution", "keep-notice")
    assert "Bo" in attribution_text(ledger)
    assert "## [CC-BY-4.0](https://spdx.org/licenses/CC-BY-4.0.html) AND [MIT]" in attribution_text(ledger)
