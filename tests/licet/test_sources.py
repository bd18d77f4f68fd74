"""The source catalogue: what is read, and that every error names file, line, what was expected and what was found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from licet.errors import ConfigError
from licet.sources import ALL_COLUMNS, OPT_OUT_PROTOCOLS, load_source, load_sources

MINIMAL = """\
id: photos
title: Some photos
kind: images
location: photos.csv
format: csv
"""

FULL = (
    MINIMAL
    + """\
columns: {url: link, caption: text}
languages: [en, zh-Hant]
licence: cc-by-4.0
licence_evidence:
  url: http://photos.example/terms
  checked_by: Zoë
  checked_on: 2026-11-21
creator: Zoë
credit_template: "{creator}, {title}"
custodian: {name: Museum, type: archive, contact: a@museum.example}
provenance: {how: by hand, when: "2026", where: Kraków}
processed_from:
  - {source: the originals, licence: CC0-1.0}
opt_out_protocols: [robots.txt, tdmrep]
personal_data: incidental
notes:
  - {author: Zoë, date: 2026-11-20, text: mostly cats}
weight: 2
"""
)


def write(folder: Path, text: str | bytes, name: str = "source.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_full_source_is_read_as_written(tmp_path: Path) -> None:
    source = load_source(write(tmp_path, FULL))
    assert source.columns == {"url": "link", "caption": "text"}
    assert source.languages == ["en", "zh-Hant"]
    assert source.licence_evidence.checked_on == "2026-11-21"
    assert source.processed_from[0].licence == "CC0-1.0"
    assert (source.notes[0].date, source.custodian.name, source.weight) == ("2026-11-20", "Museum", 2.0)


def test_what_nobody_says_is_not_assumed(tmp_path: Path) -> None:
    source = load_source(write(tmp_path, MINIMAL))
    assert (source.licence, source.personal_data, source.weight) == ("NOASSERTION", "unknown", 1.0)


@pytest.mark.parametrize("location", ["http://a.example/list.csv", "s3://bucket/*.parquet", "/data/list.csv"])
def test_a_relative_location_starts_at_the_file_and_others_stay(tmp_path: Path, location: str) -> None:
    assert load_source(write(tmp_path, MINIMAL)).location == str(tmp_path / "photos.csv")
    assert load_source(write(tmp_path, MINIMAL.replace("photos.csv", location))).location == location


@pytest.mark.parametrize(
    ("text", "line", "expected", "found"),
    [
        (MINIMAL + "licens: MIT\n", 6, "one of id, title, ", "'licens'"),
        (MINIMAL + "title: Again\n", 6, "'title' once", "it twice"),
        (MINIMAL.replace("kind: images\n", ""), 1, "'kind' in Source", "none"),
        ("", 1, "the fields of Source", "nothing"),
        ("- id: photos\n", 1, "the fields of Source", "a list"),
        ("\nphotos\n", 2, "the fields of Source", "one value ('photos')"),
        (MINIMAL.replace("images", "image"), 3, "'kind' to be one of images, text, code, captions", "'image'"),
        (MINIMAL.replace("csv\n", "xls\n").replace("photos.xls", "photos.csv"), 5, "'format' to be one of", "'xls'"),
        (MINIMAL + "licence: CC-BY\n", 6, "an SPDX licence expression", "'CC-BY'"),
        (MINIMAL + "processed_from:\n- source: a\n  licence: MIT AND\n", 8, "an SPDX licence expression", "'MIT AND'"),
        (MINIMAL + "languages: en\n", 6, "a list for 'languages'", "one value ('en')"),
        (MINIMAL + "languages:\n- en\n- English!\n", 7, "BCP-47 language tags", "'English!'"),
        (MINIMAL + "languages: [no]\n", 6, "text for 'languages'", "'no'"),
        (MINIMAL + "columns: [url]\n", 6, "a mapping for 'columns'", "a list"),
        (MINIMAL + "columns: {key: id}\n", 6, "columns among url, caption", "'key'"),
        (MINIMAL + "columns: {url: [a]}\n", 6, "one value for 'columns.url'", "a list"),
        (MINIMAL + "columns: {[url]: a}\n", 6, "a name", "a list"),
        (MINIMAL + "? [a]\n: b\n", 6, "a name", "a list"),
        (MINIMAL + "creator: 12\n", 6, "text for 'creator'", "'12'. Put it in quotes"),
        (MINIMAL + "creator:\n", 6, "text for 'creator'", "''"),
        (MINIMAL + "creator: !person Zoë\n", 6, "a plain value for 'creator'", "the tag '!person'"),
        (MINIMAL + "creator: [Zoë]\n", 6, "one value for 'creator'", "a list"),
        (MINIMAL + "weight: heavy\n", 6, "a number for 'weight'", "'heavy'"),
        (MINIMAL + "weight: yes\n", 6, "a number for 'weight'", "'yes'"),
        (MINIMAL + "weight: 0\n", 6, "a weight above 0", "0.0"),
        (MINIMAL + "weight: .inf\n", 6, "a weight above 0", "inf"),
        (MINIMAL + "weight: .nan\n", 6, "a weight above 0", "nan"),
        (MINIMAL + "credit_template: '{author}'\n", 6, "a template of {creator}", "'{author}'"),
        (MINIMAL + "credit_template: '{creator'\n", 6, "a template of {creator}", "'{creator'"),
        (MINIMAL + "credit_template: '{}'\n", 6, "a template of {creator}", "'{}'"),
        (MINIMAL.replace("id: photos", "id: My Photos"), 1, "an id of small letters", "'My Photos'"),
        (MINIMAL + "custodian:\n  type: archive\n", 7, "'name' in Custodian", "none"),
        (MINIMAL + "custodian:\n  name: a\n  mail: b\n", 8, "one of name, type, contact", "'mail'"),
        (MINIMAL + "custodian: Museum\n", 6, "the fields of Custodian", "one value ('Museum')"),
        (MINIMAL + "title: [\n", 7, "YAML", "expected the node content"),
        (MINIMAL + "a: b: c\n", 6, "YAML", "mapping values are not allowed here"),
    ],
)
def test_an_error_names_file_line_expected_and_found(
    tmp_path: Path, text: str, line: int, expected: str, found: str
) -> None:
    path = write(tmp_path, text)
    pattern = re.escape(f"{path}, line {line}: expected {expected}") + ".*, found " + re.escape(found)
    with pytest.raises(ConfigError, match=pattern) as caught:
        load_source(path)
    assert (caught.value.file, caught.value.line, caught.value.exit_code) == (str(path), line, 2)


@pytest.mark.parametrize(
    ("content", "expected", "found"),
    [(b"id: \xff\n", "UTF-8 text", "codec can't decode"), (b"id: a\x00b\n", "YAML", "unacceptable character")],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes, expected: str, found: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}: expected {expected}, found .*{found}"):
        load_source(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: expected a source file, found No such file"):
        load_source(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="expected a source file, found Is a directory"):
        load_source(tmp_path)


def test_two_sources_of_one_id_are_refused_with_both_files(tmp_path: Path) -> None:
    first, second = write(tmp_path, MINIMAL, "a.yaml"), write(tmp_path, MINIMAL, "b.yaml")
    with pytest.raises(ConfigError, match=r"b\.yaml, line 1: expected an id of its own, found 'photos'.*a\.yaml"):
        load_sources([first, second])
    other = write(tmp_path, MINIMAL.replace("id: photos", "id: others"), "c.yaml")
    assert [source.id for source in load_sources([other, first])] == ["others", "photos"]


def test_further_columns_are_named_or_all_of_them(tmp_path: Path) -> None:
    assert load_source(write(tmp_path, MINIMAL)).extra_columns == []
    assert load_source(write(tmp_path, MINIMAL + "extra_columns: all\n")).extra_columns == [ALL_COLUMNS]
    assert load_source(write(tmp_path, MINIMAL + "extra_columns: [all, size]\n")).extra_columns == ["all", "size"]
    with pytest.raises(ConfigError, match="line 6: expected a list of columns, or all, for 'extra_columns', found one"):
        load_source(write(tmp_path, MINIMAL + "extra_columns: size\n"))


def test_every_known_opt_out_binds_unless_the_source_says_less(tmp_path: Path) -> None:
    assert load_source(write(tmp_path, MINIMAL)).opt_out_protocols == list(OPT_OUT_PROTOCOLS)
    assert load_source(write(tmp_path, MINIMAL + "opt_out_protocols: []\n")).opt_out_protocols == []
    with pytest.raises(ConfigError, match=r"line 6: expected protocols among robots\.txt, .*, found 'robots'"):
        load_source(write(tmp_path, MINIMAL + "opt_out_protocols: [robots]\n"))
