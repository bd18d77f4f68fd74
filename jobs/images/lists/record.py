"""One row of a list as the fields of a `SourceRecord`, with what its source says for rows that do not say it.

A row that cannot be used stays a row: `problem` says why, so that it is counted as rejected.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.images.lists.formats import Listed, Malformed, Row
from jobs.images.lists.lines import is_text
from jobs.images.lists.urls import Refused, canonical
from licet import extras
from licet.sources import ALL_COLUMNS, HASHES, Source

TEXT_FIELDS = (
    "source_id", "url", "caption", "licence", "licence_url", "creator", "attribution", "source_page", "language",
)  # fmt: skip
RECORD_FIELDS = (*TEXT_FIELDS, "expected_hash", "boxes", "extra")
"""Fields of a SourceRecord that come from a list, in their order there."""
DERIVED_FIELDS = ("canonical_url", "problem", "problem_detail")

_HEX_DIGITS = {"md5": 32, "sha256": 64, "sha512": 128}
_SURROGATES = re.compile("[\ud800-\udfff]")


class _Unusable(ValueError):
    """What is wrong with a row's values."""


def mapping_of(source: Source) -> dict[str, str]:
    """Field of a record (or name of a hash) -> column of the list."""
    return {"url": "url", **source.columns}


def to_record(row: Listed, source: Source) -> dict[str, str]:
    """`RECORD_FIELDS` and `DERIVED_FIELDS` of one row. `canonical_url` depends on the URL alone."""
    record = dict.fromkeys((*TEXT_FIELDS, *DERIVED_FIELDS, "expected_hash"), "")
    record |= {"source_id": source.id, "boxes": "[]", "extra": "{}"}
    if isinstance(row, Malformed):
        detail = _SURROGATES.sub("\ufffd", row.detail[:300])
        return record | _defaults(record, source) | {"problem": "row-malformed", "problem_detail": detail}
    problems: list[tuple[str, str]] = []
    for field, column in mapping_of(source).items():
        if field not in HASHES and field != "boxes":
            text = _as_text(row.values.get(column))
            record[field] = _clean(text if text is not None else "", field, problems)
            if text is None:
                problems.append(("row-malformed", f"expected text for {field}"))
    try:
        record |= _hash_and_boxes(row.values, source.columns)
    except _Unusable as error:
        problems.append(("row-malformed", str(error)))
    record["extra"] = _clean(_extra(row, source), "extra", problems)
    record["url"] = record["url"].strip()
    record |= _defaults(record, source)
    if not record["url"]:
        problems.append(("url-missing", "no URL"))
    elif isinstance(found := canonical(record["url"]), Refused):
        problems.append((found.reason, found.detail))
    else:
        record["canonical_url"] = found
    if problems:
        record["problem"], record["problem_detail"] = problems[0][0], _SURROGATES.sub("\ufffd", problems[0][1][:300])
    return record


def _extra(row: Row, source: Source) -> str:
    if row.extra is not None:
        return extras.dumps(row.extra)
    if not source.extra_columns:
        return "{}"
    names: Sequence[str] = source.extra_columns
    if names == [ALL_COLUMNS]:
        mapped = set(mapping_of(source).values())
        names = [name for name in row.values if name not in mapped]
    return extras.dumps({name: extras.tagged(row.values[name]) for name in names if name in row.values})


def _defaults(record: Mapping[str, str], source: Source) -> dict[str, str]:
    """What the source says for rows that do not say it themselves."""
    licence = record["licence"].strip() or source.licence
    creator = record["creator"].strip() or source.creator
    language = record["language"] or (source.languages[0] if len(source.languages) == 1 else "und")
    credit = record["attribution"]
    if not credit and (creator or "{creator}" not in source.credit_template):
        credit = source.credit_template.format(
            creator=creator, licence=licence, source_page=record["source_page"], title=source.title
        )
    return {"licence": licence, "creator": creator, "language": language, "attribution": credit}


def _as_text(value: Any) -> str | None:
    """Text of a plain value, "" for nothing, None for what is not plain."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):  # tables made by pandas say NaN for nothing
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return None if isinstance(value, (dict, list, tuple)) else str(value)


def _clean(value: str, field: str, problems: list[tuple[str, str]]) -> str:
    """A value that every store can hold; what had to be taken out of it is a problem of its row."""
    if "\x00" in value:
        problems.append(("row-malformed", f"a NUL byte in {field}"))
        value = value.replace("\x00", "")
    if not is_text(value):
        problems.append(("row-not-utf8", "its text is not text in the list's encoding"))
        value = _SURROGATES.sub("\ufffd", value)
    return value


def _hash_and_boxes(values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in HASHES:  # the strongest last
        if name in columns and (said := _hash(values.get(columns[name]), name)):
            found["expected_hash"] = said
    if "boxes" in columns:
        found["boxes"] = _boxes(values.get(columns["boxes"]))
    return found


def _hash(value: Any, name: str) -> str:
    """`algorithm:digits`, or "" for nothing."""
    if isinstance(value, bytes) and len(value) * 2 in _HEX_DIGITS.values():
        value = value.hex()
    text = (_as_text(value) or "").strip().lower()
    if not text:
        return ""
    algorithm, colon, digits = text.rpartition(":")
    if not colon:
        by_length = {length: known for known, length in _HEX_DIGITS.items()}
        algorithm = name if name in _HEX_DIGITS else by_length.get(len(digits), "")
    right = len(digits) == _HEX_DIGITS.get(algorithm) and all(c in "0123456789abcdef" for c in digits)
    if not right or name not in ("expected_hash", algorithm):
        raise _Unusable(f"expected hexadecimal digits of md5, sha256 or sha512 for {name}, found {text[:150]!r}")
    return f"{algorithm}:{digits}"


def _boxes(value: Any) -> str:
    """[[left, top, right, bottom], …], fractions of the upright image, as JSON."""
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError) as error:
            raise _Unusable(f"boxes are not JSON: {error}") from error
    boxes = [_box(box) for box in _items(value if value is not None else [])]
    return json.dumps(boxes, separators=(",", ":"))


def _items(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise _Unusable(f"expected a list of boxes, found {str(value)[:100]}")
    return list(value)


def _box(value: Any) -> list[float]:
    sides = _items(value)
    numbers = [side for side in sides if isinstance(side, (int, float)) and not isinstance(side, bool)]
    if len(sides) != 4 or len(numbers) != 4:
        raise _Unusable(f"expected [left, top, right, bottom] for a box, found {str(value)[:100]}")
    left, top, right, bottom = (float(number) for number in numbers)
    if max(numbers) > 1:
        found = f"found {str(value)[:100]}: divide pixels by its size"
        raise _Unusable(f"boxes must be fractions of the image's width and height, {found}")
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise _Unusable(f"expected left < right and top < bottom within 0 and 1 for a box, found {str(value)[:100]}")
    return [left, top, right, bottom]
